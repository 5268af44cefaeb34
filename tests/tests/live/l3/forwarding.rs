//! `kubectl port-forward`.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use samara_tests::load;
use samara_tests::manifest::PodSpec;
use samara_tests::scene::{PATIENCE, Scene};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::trial::tests;

tests![
    port_forward_carries_requests_and_megabytes_side_by_side,
    a_forwarded_port_that_nobody_listens_on_is_told_by_kubectl,
];

/// Runs `kubectl port-forward`, and waits until it listens.
async fn forward(scene: &Scene, pod: &str, port: u16) -> Result<(Child, SocketAddr)> {
    let ports = format!(":{port}");
    let args = ["-n", scene.namespace(), "port-forward", pod, &ports, "--address", "127.0.0.1"];
    let mut child = scene.cluster().kubectl().command(&args).spawn()?;
    let mut lines = BufReader::new(child.stdout.as_mut().context("a pipe was asked for")?).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("it does not listen")??;
    let Some(line) = line else {
        let output = child.wait_with_output().await?;
        anyhow::bail!("kubectl ended: {}", String::from_utf8_lossy(&output.stderr));
    };
    let local = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split_once(" -> "));
    let (local, remote) = local.with_context(|| format!("it says {line:?}"))?;
    ensure!(remote == port.to_string(), "{line:?}");
    Ok((child, SocketAddr::from((Ipv4Addr::LOCALHOST, local.parse()?))))
}

async fn port_forward_carries_requests_and_megabytes_side_by_side(scene: &Scene) -> Result<()> {
    scene.create::<Pod>(PodSpec::web().pod("web")).await?;
    scene.apply_sample("tcp-echo").await?;
    scene.ready("web").await?;
    scene.ready("tcp-echo").await?;
    let (mut web, to_web) = forward(scene, "web", 8080).await?;
    for _ in 0..3 {
        let bodies = futures::future::try_join_all((0..8).map(|_| load::get(to_web, "/"))).await?;
        ensure!(bodies.iter().all(|body| body == "hello from v1 on web\n"), "{bodies:?}");
    }
    web.kill().await?;

    let (mut echo, to_echo) = forward(scene, "tcp-echo", 7000).await?;
    let bytes: Vec<u8> = (0..4_u32 << 20).map(|index| (index % 251) as u8).collect();
    let back = async {
        let (mut read, mut write) = TcpStream::connect(to_echo).await?.into_split();
        let mut back = Vec::new();
        let written = async {
            write.write_all(&bytes).await?;
            write.shutdown().await
        };
        tokio::try_join!(written, read.read_to_end(&mut back))?;
        anyhow::Ok(back)
    };
    let back = tokio::time::timeout(PATIENCE, back).await.context("it does not end")??;
    ensure!(back == bytes, "{} bytes came back of {}", back.len(), bytes.len());
    echo.kill().await.map_err(Into::into)
}

async fn a_forwarded_port_that_nobody_listens_on_is_told_by_kubectl(scene: &Scene) -> Result<()> {
    scene.create::<Pod>(PodSpec::of("toolbox").pod("deaf")).await?;
    scene.ready("deaf").await?;
    let (mut child, address) = forward(scene, "deaf", 81).await?;
    let mut stream = TcpStream::connect(address).await?;
    let closed = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 8])).await.context("it stays open")?;
    ensure!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    let mut errors = BufReader::new(child.stderr.take().context("a pipe was asked for")?).lines();
    let told = async {
        let mut others = Vec::new();
        while let Some(line) = errors.next_line().await? {
            if line.contains("an error occurred forwarding") {
                return Ok(line);
            }
            others.push(line);
        }
        anyhow::bail!("kubectl ended without a word of it: {others:?}")
    };
    let line = tokio::time::timeout(PATIENCE, told).await.context("kubectl says nothing")??;
    ensure!(line.contains("error forwarding port 81 to pod") && line.contains("refused"), "{line}");
    child.kill().await.map_err(Into::into)
}
