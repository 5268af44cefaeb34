//! Logs, with all their options.

use anyhow::{Context as _, Result, ensure};
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt as _;
use kube::api::LogParams;
use samara_tests::manifest::{PodSpec, container};
use samara_tests::node::{For, Node, Options};
use samara_tests::scene::{PATIENCE, Scene, container_state};
use samara_tests::wait::{Seen, until};
use serde_json::json;

use crate::trial::tests;

tests![
    a_tail_and_a_limit_cut_the_log,
    timestamps_and_since_are_of_each_line,
    following_a_log_ends_with_the_container,
    a_log_of_an_unknown_container_is_an_error_that_names_it,
    standard_output_and_errors_are_in_cri_records,
    a_log_is_rotated_and_read_across_its_files,
    the_containers_directory_links_to_each_log,
];

const TEXT: &str = "one\ntwo\nthree\nfour\n";

/// A pod that prints [`TEXT`] and ends.
async fn printed(scene: &Scene) -> Result<Pod> {
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "text" }, "data": { "text": TEXT } })).await?;
    let spec = PodSpec::of("toolbox")
        .main(json!({ "command": ["/bin/cat"], "args": ["/text/text"], "volumeMounts": [{ "name": "text", "mountPath": "/text" }] }))
        .set(json!({ "restartPolicy": "Never", "volumes": [{ "name": "text", "configMap": { "name": "text" } }] }));
    scene.create::<Pod>(spec.pod("printer")).await?;
    scene.over("printer").await
}

async fn a_tail_and_a_limit_cut_the_log(scene: &Scene) -> Result<()> {
    printed(scene).await?;
    for (params, wanted) in [
        (LogParams::default(), TEXT),
        (LogParams { tail_lines: Some(2), ..LogParams::default() }, "three\nfour\n"),
        (LogParams { tail_lines: Some(0), ..LogParams::default() }, ""),
        (LogParams { tail_lines: Some(99), ..LogParams::default() }, TEXT),
        (LogParams { limit_bytes: Some(6), ..LogParams::default() }, "one\ntw"),
    ] {
        let log = scene.log("printer", &params).await?;
        ensure!(log == wanted, "{params:?}: {log:?}, not {wanted:?}");
    }
    Ok(())
}

async fn timestamps_and_since_are_of_each_line(scene: &Scene) -> Result<()> {
    printed(scene).await?;
    let log = scene.log("printer", &LogParams { timestamps: true, ..LogParams::default() }).await?;
    let mut times = Vec::new();
    for (line, word) in log.lines().zip(TEXT.lines()) {
        let (time, text) = line.split_once(' ').with_context(|| format!("no time in {line:?}"))?;
        ensure!(text == word, "{line:?}");
        times.push(time.parse::<jiff::Timestamp>().with_context(|| format!("the time of {line:?}"))?);
    }
    ensure!(times.len() == 4 && times.is_sorted(), "{times:?}");
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
    let none = scene.kubectl(&["logs", "printer", "--since-time", &later.to_string()]).await?;
    ensure!(none.is_empty(), "since a later time: {none:?}");
    let all = scene.kubectl(&["logs", "printer", "--since=1h"]).await?;
    ensure!(all == TEXT, "since an hour: {all:?}");
    Ok(())
}

async fn following_a_log_ends_with_the_container(scene: &Scene) -> Result<()> {
    let fields = json!({ "command": ["/bin/sleep"], "args": ["5"] });
    let talker = container("talker", "spin-cpu");
    let sleeper = samara_tests::manifest::with(container("sleeper", "toolbox"), fields);
    scene
        .create::<Pod>(PodSpec::containers([talker, sleeper]).set(json!({ "restartPolicy": "Never" })).pod("pair"))
        .await?;
    scene.container_log_with("pair", "talker", "rounds").await?;
    // Each has its own start: there is no log to follow before it.
    scene
        .pod_until("pair", "has begun to sleep", |pod| {
            let state = container_state(pod, "sleeper").and_then(|status| status.state.as_ref());
            state.is_some_and(|state| state.waiting.is_none())
        })
        .await?;
    let follow = |name: &str| LogParams { container: Some(name.to_owned()), follow: true, ..LogParams::default() };
    // The silent one: the stream ends when its container does, without a line.
    let api = scene.api::<Pod>();
    let silent = api.log_stream("pair", &follow("sleeper")).await?;
    let lines =
        tokio::time::timeout(PATIENCE, silent.lines().try_collect::<Vec<_>>()).await.context("it does not end")??;
    ensure!(lines.is_empty(), "{lines:?}");
    // The talking one: lines come as they are written.
    let mut talking = api.log_stream("pair", &follow("talker")).await?.lines();
    for _ in 0..4 {
        let line = tokio::time::timeout(PATIENCE, talking.try_next()).await.context("no line comes")??;
        ensure!(line.is_some(), "the stream ended while its container runs");
    }
    Ok(())
}

async fn a_log_of_an_unknown_container_is_an_error_that_names_it(scene: &Scene) -> Result<()> {
    printed(scene).await?;
    let error = scene.kubectl(&["logs", "printer", "-c", "nobody"]).await.err().context("it must fail")?;
    ensure!(format!("{error:#}").contains("nobody"), "{error:#}");
    let error = scene.kubectl(&["logs", "printer", "--previous"]).await.err().context("there was no run before")?;
    ensure!(format!("{error:#}").contains("previous terminated container"), "{error:#}");
    Ok(())
}

async fn standard_output_and_errors_are_in_cri_records(scene: &Scene) -> Result<()> {
    scene.apply_sample("crash-loop").await?;
    let pod = scene.pod_until("crash-loop", "has an ID", |pod| pod.uid().is_some()).await?;
    scene.log_with("crash-loop", "failing with exit code 1").await?;
    let dir = format!("{}_crash-loop_{}", scene.namespace(), pod.uid().unwrap_or_default());
    let file = scene.node().logs_dir().join(dir).join("crash-loop/0.log");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let records: Vec<_> = text.lines().filter_map(|line| line.split_once(' ')).map(|(_, rest)| rest).collect();
    ensure!(
        records == ["stdout F crash-loop: about to fail", "stderr F crash-loop: failing with exit code 1"],
        "{text}"
    );
    Ok(())
}

async fn a_log_is_rotated_and_read_across_its_files(scene: &Scene) -> Result<()> {
    let config =
        json!({ "containerLogMaxSize": "64Ki", "containerLogMaxFiles": 3, "containerLogMonitorInterval": "3s" });
    let node =
        Node::start(scene.cluster(), &Options { whom: For::OneTest, config, ..Options::new("rotation") }).await?;
    node.ready(scene.cluster()).await?;
    let big: String = (0..9000).map(|line| format!("line {line:>90}\n")).collect();
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "big" }, "data": { "text": big } })).await?;
    let spec = PodSpec::of("toolbox")
        .on(node.name())
        .main(json!({ "volumeMounts": [{ "name": "big", "mountPath": "/big" }] }))
        .set(json!({ "volumes": [{ "name": "big", "configMap": { "name": "big" } }] }));
    let printer = samara_tests::manifest::with(
        container("printer", "toolbox"),
        // It writes all of it and then waits for input that does not come: the log of one that runs is rotated.
        json!({
            "command": ["/bin/cat"], "args": ["/big/text", "-"], "stdin": true,
            "volumeMounts": [{ "name": "big", "mountPath": "/big" }],
        }),
    );
    scene.create::<Pod>(spec.and(printer).pod("printer")).await?;
    let pod = scene.pod_until("printer", "has an ID", |pod| pod.uid().is_some()).await?;
    let dir = node
        .logs_dir()
        .join(format!("{}_printer_{}", scene.namespace(), pod.uid().unwrap_or_default()))
        .join("printer");
    until("there are rotated files", PATIENCE, async || {
        let names: Vec<_> =
            std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
        let rotated = names.iter().any(|name| name.to_string_lossy().starts_with("0.log."));
        Ok(Seen::when(rotated, format!("{names:?}")))
    })
    .await?;
    until("the last line is told", PATIENCE, async || {
        let last = scene.kubectl(&["logs", "printer", "-c", "printer", "--tail=1"]).await?;
        Ok(Seen::when(last.trim_end().ends_with("8999"), last))
    })
    .await?;
    let all = std::fs::read_dir(&dir)?.flatten().count();
    ensure!(all <= 3, "{all} files, and 3 were allowed");
    // More records than the newest file holds: they come from the one before it, and nothing is missing between them.
    let newest = || std::fs::read_to_string(dir.join("0.log"));
    let (newest, across) = until("a look that no rotation fell into", PATIENCE, async || {
        let before = newest()?;
        let tail = format!("--tail={}", before.lines().count() + 20);
        let across = scene.kubectl(&["logs", "printer", "-c", "printer", &tail]).await?;
        Ok(Seen::some((newest()? == before).then_some((before, across)), "rotated meanwhile"))
    })
    .await?;
    // A line may be two records, and the first of all may be the end of one.
    let lines = across.lines().skip(1).map(|line| line.trim_start_matches("line").trim().parse::<usize>());
    let lines: Vec<usize> = lines.collect::<Result<_, _>>()?;
    let whole = newest.lines().filter(|record| record.contains(" stdout F ")).count();
    ensure!(lines.len() > whole, "{} lines, and the newest file has {whole}", lines.len());
    ensure!(lines == (9000 - lines.len()..9000).collect::<Vec<_>>(), "lines are missing");
    Ok(())
}

async fn the_containers_directory_links_to_each_log(scene: &Scene) -> Result<()> {
    let pod = printed(scene).await?;
    let dir = scene.node().logs_dir().with_file_name("containers");
    let prefix = format!("printer_{}_toolbox-", scene.namespace());
    let entries: Vec<_> =
        std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?.flatten().collect();
    let link = entries.iter().find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    let link = link.with_context(|| format!("no link {prefix}* in {}", dir.display()))?.path();
    let target = std::fs::canonicalize(&link)?;
    ensure!(
        target.to_string_lossy().contains(&pod.uid().unwrap_or_default()),
        "{} leads to {}",
        link.display(),
        target.display()
    );
    Ok(())
}
