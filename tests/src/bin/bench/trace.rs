//! Where the time of a pod's start goes, by span: what the agent wrote (`--trace-starts`).

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use samara_tests::node::Node;
use serde::Deserialize;

use crate::report::Report;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    namespace: String,
    ready_us: u64,
    spans: Vec<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    phase: String,
    at_us: u64,
    took_us: u64,
}

/// The median of each phase over a namespace's pods, and the spans of that pod whose start took the median.
pub(crate) fn of_starts(node: &Node, namespace: &str, report: &mut Report) -> Result<()> {
    let file = node.starts();
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let starts = text.lines().map(serde_json::from_str::<Start>).collect::<Result<Vec<_>, _>>();
    let mut starts = starts.with_context(|| format!("parse {}", file.display()))?;
    starts.retain(|start| start.namespace == namespace);
    ensure!(!starts.is_empty(), "{}: no pod of {namespace}", file.display());
    starts.sort_by_key(|start| start.ready_us);

    let mut phases: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for start in &starts {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for span in &start.spans {
            *sums.entry(&span.phase).or_default() += span.took_us;
        }
        for (phase, sum) in sums {
            phases.entry(phase).or_default().push(sum);
        }
    }
    for took in phases.values_mut() {
        took.sort_unstable();
    }
    let median = &starts[starts.len() / 2];
    let mut spans: Vec<_> = median.spans.iter().collect();
    spans.sort_by_key(|span| span.at_us);
    for span in spans {
        let of_all =
            phases.get(span.phase.as_str()).and_then(|all| all.get(all.len() / 2)).copied().unwrap_or_default();
        report.span(&span.phase, span.at_us, span.took_us, of_all);
    }
    report.line(format!(
        "the agent's part of a start, watch event to the answer of the patch that says Ready: median {} us of {} pods",
        median.ready_us,
        starts.len()
    ));
    Ok(())
}
