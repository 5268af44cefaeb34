//! Liveness and startup probes by exec and tcp, with what they look at in the test's hand.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use samara_tests::cluster::addresses::CONTROL_PLANE;
use samara_tests::manifest::{PodSpec, with};
use samara_tests::scene::{PATIENCE, Scene, container_state};
use samara_tests::wait::{Seen, until};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};

use crate::trial::tests;

tests![
    a_liveness_probe_that_turns_bad_restarts_its_container_by_exec_and_by_tcp,
    a_startup_probe_keeps_the_gate_by_exec_and_by_tcp,
];

/// What a probe looks at: for exec a file, for tcp a port of the control plane's address.
enum Lever {
    File(PathBuf),
    Port(Option<TcpSocket>, Option<TcpListener>),
}

impl Lever {
    fn file(scene: &Scene) -> Result<Self> {
        let dir = scene.cluster().site().data_dir().join(format!("lever-{}", scene.namespace()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self::File(dir.join("good")))
    }

    /// Bound, so that it is nobody else's, and deaf.
    fn port() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((CONTROL_PLANE, 0).into())?;
        Ok(Self::Port(Some(socket), None))
    }

    /// A toolbox with a probe that looks at it.
    fn toolbox(&self, kind: &str, fields: Value) -> Result<PodSpec> {
        let handler = match self {
            Self::File(_) => json!({ "exec": { "command": ["cat", "/lever/good"] } }),
            Self::Port(Some(socket), _) => {
                let port = socket.local_addr()?.port();
                json!({ "tcpSocket": { "host": CONTROL_PLANE, "port": port } })
            }
            Self::Port(None, _) => bail!("the port is open already"),
        };
        let probe = with(with(handler, json!({ "periodSeconds": 1, "timeoutSeconds": 5 })), fields);
        let Self::File(path) = self else { return Ok(PodSpec::of("toolbox").main(json!({ kind: probe }))) };
        let mounts = json!([{ "name": "lever", "mountPath": "/lever" }]);
        let volumes = json!([{ "name": "lever", "hostPath": { "path": path.parent() } }]);
        Ok(PodSpec::of("toolbox")
            .main(json!({ kind: probe, "volumeMounts": mounts }))
            .set(json!({ "volumes": volumes })))
    }

    fn good(&mut self) -> Result<()> {
        match self {
            Self::File(path) => std::fs::write(path, "yes").context("write the lever's file"),
            Self::Port(socket, listener) => {
                *listener = socket.take().map(|socket| socket.listen(64)).transpose()?;
                Ok(())
            }
        }
    }

    fn bad(&mut self) -> Result<()> {
        match self {
            Self::File(path) => std::fs::remove_file(path).context("remove the lever's file"),
            Self::Port(_, listener) => {
                drop(listener.take());
                Ok(())
            }
        }
    }
}

async fn a_liveness_probe_that_turns_bad_restarts_its_container_by_exec_and_by_tcp(scene: &Scene) -> Result<()> {
    for (name, mut lever) in [("exec", Lever::file(scene)?), ("tcp", Lever::port()?)] {
        let spec = lever.toolbox("livenessProbe", json!({ "failureThreshold": 2 }))?;
        lever.good()?;
        scene.create::<Pod>(spec.pod(name)).await?;
        scene.ready(name).await?;
        let restarts = |pod: &Pod| container_state(pod, "toolbox").map_or(0, |status| status.restart_count);
        let probed =
            format!("prober_probe_total{{container=\"toolbox\",namespace=\"{}\",pod=\"{name}\",", scene.namespace());
        let path = format!("/api/v1/nodes/{}/proxy/metrics/probes", scene.node().name());
        until(format!("the {name} probe has succeeded"), PATIENCE, async || {
            let text = scene.cluster().kubectl().run(&["get", "--raw", &path]).await?;
            let line = text.lines().find(|line| line.starts_with(&probed) && line.contains("successful"));
            Ok(Seen::some(line.map(drop), "not counted"))
        })
        .await?;
        ensure!(restarts(&scene.api::<Pod>().get(name).await?) == 0, "{name}: restarted while it was well");
        lever.bad()?;
        scene.pod_until(name, "was restarted", |pod| restarts(pod) > 0).await?;
        let message = scene.event(name, "Unhealthy").await?;
        ensure!(message.starts_with("Liveness probe failed:"), "{message}");
        let message = scene.event(name, "Killing").await?;
        ensure!(message == "Container toolbox failed liveness probe, will be restarted", "{message}");
    }
    Ok(())
}

async fn a_startup_probe_keeps_the_gate_by_exec_and_by_tcp(scene: &Scene) -> Result<()> {
    for (name, mut lever) in [("exec", Lever::file(scene)?), ("tcp", Lever::port()?)] {
        let spec = lever.toolbox("startupProbe", json!({ "failureThreshold": 300 }))?;
        scene.create::<Pod>(spec.pod(name)).await?;
        let message = scene.event(name, "Unhealthy").await?;
        ensure!(message.starts_with("Startup probe failed:"), "{message}");
        let pod = scene
            .pod_until(name, "runs", |pod| {
                let state = container_state(pod, "toolbox").and_then(|status| status.state.as_ref());
                state.is_some_and(|state| state.running.is_some())
            })
            .await?;
        let started = container_state(&pod, "toolbox").and_then(|status| status.started);
        ensure!(started == Some(false), "{name}: started is {started:?} behind a closed gate");
        lever.good()?;
        let pod = scene.ready(name).await?;
        let status = container_state(&pod, "toolbox").context("no status")?;
        ensure!(status.started == Some(true) && status.restart_count == 0, "{name}: {status:?}");
    }
    Ok(())
}
