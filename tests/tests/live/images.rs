//! Images: whose they are, where they come from, how large they may be, and when they go.

mod access;
mod collection;
mod limits;
mod mirrors;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use samara_tests::cluster::tools_dir;
use samara_tests::manifest::PodSpec;
use samara_tests::node::Node;
use samara_tests::scene::{Scene, container_state};
use serde_json::{Value, json};

use crate::trial::Test;

pub(crate) fn tests() -> Vec<Test> {
    [access::tests(), collection::tests(), limits::tests(), mirrors::tests()].concat()
}

/// A hello of this image that stays on the node of its own.
fn hello(node: &Node, image: &str, fields: Value) -> PodSpec {
    let container = json!({ "image": image, "name": "app", "imagePullPolicy": "IfNotPresent" });
    PodSpec::of("hello").main(container).set(json!({ "restartPolicy": "Never" })).set(fields).on(node.name())
}

/// Waits until the pod's container waits with this reason, and gives the message.
async fn waiting(scene: &Scene, pod: &str, reason: &str) -> Result<String> {
    let waiting = |pod: &Pod| container_state(pod, "app").and_then(|status| status.state.clone()?.waiting);
    let is = |pod: &Pod| waiting(pod).and_then(|it| it.reason).as_deref() == Some(reason);
    let pod = scene.pod_until(pod, &format!("waits with {reason}"), is).await?;
    Ok(waiting(&pod).and_then(|it| it.message).unwrap_or_default())
}

/// Runs one of the tools to its end.
async fn tool(name: &str, args: &[&str]) -> Result<()> {
    let home = tempfile::tempdir()?;
    let mut command = tokio::process::Command::new(tools_dir().join(name));
    let output = command
        .args(args)
        .env_clear()
        .env("HOME", home.path())
        .output()
        .await
        .with_context(|| format!("run {name}"))?;
    ensure!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Runs `samara` with the node's directories, and gives what it printed.
async fn samara(node: &Node, args: &[&str]) -> Result<String> {
    let mut command = tokio::process::Command::new(samara_tests::node::samara());
    command.args(args).arg("--root-dir").arg(node.root_dir()).arg("--run-dir").arg(node.run_dir());
    let output = command.output().await.context("run samara")?;
    ensure!(output.status.success(), "samara {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A module whose functions all have this body; the first is `_start`.
fn of_functions(count: u32, locals: u32, body: &[u8]) -> Vec<u8> {
    let counted = |bytes: &[u8]| [number(bytes.len() as u32), bytes.to_vec()].concat();
    let each = |one: &[u8]| [number(count), one.repeat(count as usize)].concat();
    let function = [&[1][..], &number(locals), &[0x7e], body, &[0x0b]].concat();
    let start = [&[1][..], &counted(b"_start"), &[0, 0]].concat();
    let sections = [(1, vec![1, 0x60, 0, 0]), (3, each(&[0])), (7, start), (10, each(&counted(&function)))];
    let sections = sections.map(|(kind, section)| [vec![kind], counted(&section)].concat());
    [&b"\0asm\x01\0\0\0"[..], &sections.concat()].concat()
}

/// A program that does nothing and is so many bytes longer than it need be.
fn padded(bytes: u32) -> Vec<u8> {
    let section = [&[3][..], b"pad", &vec![7; bytes as usize]].concat();
    [of_functions(1, 1, &[]), vec![0], number(section.len() as u32), section].concat()
}

/// As LEB128.
fn number(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
