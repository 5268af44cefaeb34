//! exec and attach.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use http::header;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, TerminalSize};
use samara_tests::manifest::{PodSpec, container};
use samara_tests::scene::{PATIENCE, Scene, container_state};
use samara_tests::wait::{Seen, until};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::trial::tests;

tests![
    exec_returns_the_commands_output_and_exit_code,
    exec_keeps_output_and_errors_apart,
    exec_passes_standard_input_to_its_end,
    exec_passes_megabytes_unharmed,
    exec_speaks_version_four_with_a_client_that_knows_no_other,
    exec_of_an_unknown_command_says_so,
    exec_in_a_container_that_does_not_run_says_so,
    exec_gives_a_terminal_and_its_size,
    exec_has_the_containers_environment_and_files,
    attach_shows_what_the_guest_prints,
    attach_types_to_a_guest_that_has_standard_input,
    an_exec_ends_when_its_client_goes,
];

async fn toolbox(scene: &Scene) -> Result<()> {
    let fields = json!({ "env": [{ "name": "COLOUR", "value": "blue" }] });
    scene.create::<Pod>(PodSpec::of("toolbox").main(fields).pod("box")).await?;
    scene.ready("box").await.map(drop)
}

async fn exec_returns_the_commands_output_and_exit_code(scene: &Scene) -> Result<()> {
    toolbox(scene).await?;
    let output = scene.kubectl(&["exec", "box", "--", "echo", "two", "words"]).await?;
    ensure!(output == "two words\n", "{output:?}");
    let failed =
        scene.cluster().kubectl().command(&["-n", scene.namespace(), "exec", "box", "--", "false"]).output().await?;
    ensure!(failed.status.code() == Some(1), "exit code {:?}", failed.status.code());
    let text = String::from_utf8_lossy(&failed.stderr);
    ensure!(text.contains("command terminated with exit code 1"), "{text}");
    Ok(())
}

async fn exec_keeps_output_and_errors_apart(scene: &Scene) -> Result<()> {
    toolbox(scene).await?;
    let args = ["-n", scene.namespace(), "exec", "box", "--", "cat", "/no/such/file"];
    let output = scene.cluster().kubectl().command(&args).output().await?;
    ensure!(output.stdout.is_empty(), "on stdout: {:?}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(text.contains("/no/such/file"), "on stderr: {text:?}");
    Ok(())
}

async fn exec_passes_standard_input_to_its_end(scene: &Scene) -> Result<()> {
    toolbox(scene).await?;
    let args = ["-n", scene.namespace(), "exec", "-i", "box", "--", "cat"];
    let output = scene.cluster().kubectl().input(&args, "first\nsecond\n").await?;
    ensure!(output == "first\nsecond\n", "{output:?}");
    Ok(())
}

async fn exec_passes_megabytes_unharmed(scene: &Scene) -> Result<()> {
    toolbox(scene).await?;
    let text: String = (0..200_000).map(|line| format!("line {line:>20}\n")).collect();
    let args = ["-n", scene.namespace(), "exec", "-i", "box", "--", "cat"];
    let output = scene.cluster().kubectl().input(&args, &text).await?;
    ensure!(output == text, "{} bytes came back of {}", output.len(), text.len());
    Ok(())
}

async fn exec_speaks_version_four_with_a_client_that_knows_no_other(scene: &Scene) -> Result<()> {
    toolbox(scene).await?;
    let (stdout, status) = exec_v4(scene, "command=echo&command=two&command=words").await?;
    ensure!(stdout == "two words\n", "{stdout:?}");
    ensure!(status["status"] == "Success", "{status}");
    let (stdout, status) = exec_v4(scene, "command=false").await?;
    ensure!(stdout.is_empty() && status["reason"] == "NonZeroExitCode", "{stdout:?}, {status}");
    let causes = json!([{ "reason": "ExitCode", "message": "1" }]);
    ensure!(status["details"]["causes"] == causes, "{status}");
    Ok(())
}

/// What comes of an exec in `box` with `v4.channel.k8s.io`: its output, and the status at the end.
async fn exec_v4(scene: &Scene, command: &str) -> Result<(String, Value)> {
    const V4: &str = "v4.channel.k8s.io";
    let path = format!("/api/v1/namespaces/{}/pods/box/exec?stdout=true&{command}", scene.namespace());
    let request = http::Request::get(path)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, V4)
        .body(kube::client::Body::empty())?;
    let answer = scene.cluster().client().send(request).await?;
    let chosen = answer.headers().get(header::SEC_WEBSOCKET_PROTOCOL).map(|name| name.as_bytes().to_owned());
    ensure!(answer.status() == http::StatusCode::SWITCHING_PROTOCOLS, "{}", answer.status());
    ensure!(chosen.as_deref() == Some(V4.as_bytes()), "{chosen:?}");
    let stream = TokioIo::new(hyper::upgrade::on(answer).await?);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    let (mut stdout, mut status) = (String::new(), None);
    while let Some(message) = tokio::time::timeout(PATIENCE, socket.next()).await.context("silence")? {
        match message? {
            Message::Binary(frame) => match frame.split_first() {
                Some((1, text)) => stdout += std::str::from_utf8(text)?,
                Some((3, text)) => status = Some(serde_json::from_slice(text)?),
                other => bail!("a frame {other:?}"),
            },
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) => {}
            other @ (Message::Text(_) | Message::Frame(_)) => bail!("a message {other:?}"),
        }
    }
    Ok((stdout, status.context("no status at the end")?))
}

async fn exec_in_a_container_that_does_not_run_says_so(scene: &Scene) -> Result<()> {
    let mut waiting = container("waiting", "hello");
    waiting["imagePullPolicy"] = json!("Never");
    waiting["image"] = json!("localhost/is-not-here:v1");
    let pod = PodSpec::containers([container("toolbox", "toolbox"), waiting]).pod("half");
    scene.create::<Pod>(pod).await?;
    scene
        .pod_until("half", "runs its toolbox", |pod| {
            container_state(pod, "toolbox").is_some_and(|status| status.started == Some(true))
        })
        .await?;
    let args = ["-n", scene.namespace(), "exec", "half", "-c", "waiting", "--", "true"];
    let output = scene.cluster().kubectl().command(&args).output().await?;
    let text = String::from_utf8_lossy(&output.stderr);
    // kubectl tries SPDY when its WebSocket was refused, and shows the second answer.
    ensure!(text.contains("container not found (\"waiting\")"), "{text}");
    Ok(())
}

async fn exec_of_an_unknown_command_says_so(scene: &Scene) -> Result<()> {
    toolbox(scene).await?;
    let error = scene.kubectl(&["exec", "box", "--", "no-such-command"]).await.err().context("it must fail")?;
    ensure!(format!("{error:#}").contains("no-such-command"), "{error:#}");
    Ok(())
}

async fn exec_gives_a_terminal_and_its_size(scene: &Scene) -> Result<()> {
    toolbox(scene).await?;
    let params = AttachParams::interactive_tty();
    let mut attached = scene.api::<Pod>().exec("box", ["cat"], &params).await.context("exec")?;
    let mut size = attached.terminal_size().context("a terminal has a size")?;
    futures::SinkExt::send(&mut size, TerminalSize { width: 120, height: 40 }).await?;
    let mut stdin = attached.stdin().context("stdin")?;
    let mut stdout = attached.stdout().context("stdout")?;
    stdin.write_all(b"to the terminal\n").await?;
    let mut seen = String::new();
    let echoed = async {
        let mut buffer = [0; 256];
        // A terminal echoes what is typed, with a carriage return; then the command writes it again.
        while seen.matches("to the terminal\r\n").count() < 2 {
            let count = stdout.read(&mut buffer).await?;
            ensure!(count > 0, "the stream ended");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        Ok(())
    };
    let outcome = tokio::time::timeout(PATIENCE, echoed).await;
    ensure!(matches!(outcome, Ok(Ok(()))), "{outcome:?}; seen {seen:?}");
    // Ctrl-D ends the input.
    stdin.write_all(&[4]).await?;
    let end = attached.take_status().context("a status")?;
    let status = tokio::time::timeout(PATIENCE, end).await.context("the command does not end on Ctrl-D")?;
    ensure!(status.as_ref().and_then(|status| status.status.as_deref()) == Some("Success"), "{status:?}");
    Ok(())
}

async fn exec_has_the_containers_environment_and_files(scene: &Scene) -> Result<()> {
    toolbox(scene).await?;
    let env = scene.kubectl(&["exec", "box", "--", "env"]).await?;
    ensure!(env.contains("COLOUR=blue\n") && env.contains("KUBERNETES_SERVICE_HOST="), "{env}");
    scene.kubectl(&["exec", "box", "--", "mkdir", "/made-by-one"]).await?;
    let listed = scene.kubectl(&["exec", "box", "--", "ls", "/"]).await?;
    ensure!(listed.contains("made-by-one"), "the next exec does not see it: {listed}");
    Ok(())
}

async fn attach_shows_what_the_guest_prints(scene: &Scene) -> Result<()> {
    scene.apply_sample("spin-cpu").await?;
    scene.ready("spin-cpu").await?;
    let mut attach = scene
        .cluster()
        .kubectl()
        .command(&["-n", scene.namespace(), "attach", "spin-cpu"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(attach.stdout.take().context("a pipe was asked for")?).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("nothing is shown")??;
    ensure!(line.as_deref().is_some_and(|line| line.starts_with("spin-cpu: ")), "{line:?}");
    attach.kill().await?;
    Ok(())
}

async fn attach_types_to_a_guest_that_has_standard_input(scene: &Scene) -> Result<()> {
    let fields = json!({ "stdin": true, "stdinOnce": true, "command": ["cat"] });
    scene
        .create::<Pod>(PodSpec::of("toolbox").main(fields).set(json!({ "restartPolicy": "Never" })).pod("typed"))
        .await?;
    scene.ready("typed").await?;
    let args = ["-n", scene.namespace(), "attach", "-i", "typed"];
    let output = scene.cluster().kubectl().input(&args, "what is typed\n").await?;
    ensure!(output.contains("what is typed"), "{output:?}");
    // `stdinOnce`: its input ended with the client's.
    scene.over("typed").await?;
    scene.log_with("typed", "what is typed").await.map(drop)
}

async fn an_exec_ends_when_its_client_goes(scene: &Scene) -> Result<()> {
    toolbox(scene).await?;
    let pod = scene.api::<Pod>().get("box").await?;
    let uid = pod.metadata.uid.context("a uid")?;
    let execs = scene.node().run_dir().join("bundles").join(uid).join("toolbox_0/exec");
    let count = || std::fs::read_dir(&execs).map_or(0, Iterator::count);
    let args = ["-n", scene.namespace(), "exec", "box", "--", "sleep", "1000"];
    let mut client = scene.cluster().kubectl().command(&args).spawn()?;
    until("the command runs", PATIENCE, async || Ok(Seen::when(count() == 1, "no exec"))).await?;
    client.kill().await?;
    until("nothing is left of the command", PATIENCE, async || Ok(Seen::when(count() == 0, "still there"))).await
}
