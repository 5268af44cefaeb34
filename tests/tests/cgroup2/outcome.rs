//! What the machine's console says of its tests.

use std::collections::BTreeMap;

/// Begins a line that says what did not even come to a test.
pub(crate) const FAILED: &str = "the machine failed: ";

/// A test that ran in the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    /// What it said, if it failed.
    pub(crate) failure: Option<String>,
}

/// Reads also the machine's own word, and the lines of `cargo test` and of libtest-mimic, which pads its names.
pub(crate) fn outcomes(console: &str) -> Vec<Outcome> {
    let said = sections(console);
    let results = console.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
    let results = results.map(|(name, verdict)| (name.trim_end(), verdict.trim()));
    let judged = results.filter_map(|(name, verdict)| match verdict {
        "ok" => Some(Outcome { name: name.to_owned(), failure: None }),
        "FAILED" => {
            let text = said.get(name).cloned().unwrap_or_else(|| "it said nothing".into());
            Some(Outcome { name: name.to_owned(), failure: Some(text) })
        }
        _ => None,
    });
    let machine = console.lines().filter_map(|line| line.split_once(FAILED));
    let machine = machine.map(|(_, why)| Outcome { name: "the_machine".to_owned(), failure: Some(why.to_owned()) });
    judged.chain(machine).collect()
}

/// `---- name stdout ----`, or without the second word, and what follows it.
fn sections(console: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in console.lines() {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
            current = Some(name.trim_end_matches(" stdout").to_owned());
        } else if line == "failures:" || line.starts_with("test result:") {
            current = None;
        } else if let Some(name) = &current {
            let text: &mut String = all.entry(name.clone()).or_default();
            text.push_str(line);
            text.push('\n');
        }
    }
    all
}
