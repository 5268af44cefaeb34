//! What is asked of the API server.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use samara_tests::cluster::Cluster;

/// Requests answered so far, by verb and resource.
#[derive(Debug)]
pub(crate) struct Requests(BTreeMap<String, f64>);

impl Requests {
    /// Now.
    pub(crate) async fn now(cluster: &Cluster) -> Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text = cluster.client().request_text(request).await.context("read the API server's metrics")?;
        let mut counts = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
            let Some((labels, count)) = line.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let after = labels.split_once(&format!("{name}=\""))?.1;
                Some(after.split_once('"')?.0)
            };
            let parts = ["verb", "resource", "subresource"].map(|name| label(name).unwrap_or_default());
            let name = parts.join(" ").trim().to_owned();
            *counts.entry(name).or_default() += count.parse::<f64>().unwrap_or_default();
        }
        Ok(Self(counts))
    }

    /// For each of so many pods, since then; most first.
    pub(crate) fn since(&self, before: &Self, pods: usize) -> Vec<(String, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "at most thousands")]
        let pods = pods.max(1) as f64;
        let each = |(name, count): (&String, &f64)| (name.clone(), (count - before.0.get(name).unwrap_or(&0.0)) / pods);
        let mut all: Vec<_> = self.0.iter().map(each).filter(|(_, each)| *each >= 0.05).collect();
        all.sort_by(|one, other| other.1.total_cmp(&one.1));
        all
    }
}
