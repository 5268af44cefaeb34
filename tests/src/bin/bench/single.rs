//! One container alone, without a cluster.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use samara_tests::node::samara;
use samara_tests::samples;
use samara_tests::site::Site;

use crate::report::Report;

/// `samara run hello.wasm`, warm: the front is up and the code compiled.
pub(crate) fn runs_of_hello(site: &Site, report: &mut Report) -> Result<()> {
    let module = samples::artifact("wasm32-wasip1/release/hello.wasm");
    let once = || -> Result<Duration> {
        let began = Instant::now();
        let mut command = Command::new(samara());
        command
            .arg("run")
            .arg("--root-dir")
            .arg(site.data_dir().join("run"))
            .arg("--run-dir")
            .arg(site.run_dir().join("run"));
        let output = command.arg(&module).output().context("start samara")?;
        ensure!(output.status.success(), "samara run: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(began.elapsed())
    };
    let cold = once()?;
    report.line(format!("`samara run` of hello, nothing cached: {} ms", cold.as_millis()));
    let times = (0..10).map(|_| once()).collect::<Result<Vec<_>>>()?;
    report.starts("`samara run` of hello, warm", times);
    Ok(())
}
