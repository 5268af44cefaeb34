//! `state.terminated.message`: what a container left in its termination log, or the end of its output (kubelet:
//! `container/runtime.go`, `kuberuntime_container.go` `getTerminationMessage`).

use samara_core::logs;

/// Most of a termination log that is read.
pub(super) const MESSAGE_BYTES: u64 = 4096;
/// Most of the log file that is looked at for the fallback; records have some text around the output.
pub(super) const LOG_BYTES: u64 = 16 * 1024;
/// Most of the output that becomes the message.
const OUTPUT_BYTES: usize = 2048;
const OUTPUT_LINES: usize = 80;

/// The message, if there is one. `log` gives the end of the log file, and is asked only when the policy falls back to it.
pub(super) fn message(
    file: &[u8],
    policy: Option<&str>,
    exit_code: i32,
    log: impl FnOnce() -> Vec<u8>,
) -> Option<String> {
    let text = match (file.is_empty(), policy) {
        (true, Some("FallbackToLogsOnError")) if exit_code != 0 => end_of_output(&log()),
        (_, _) => file.to_vec(),
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    Some(text).filter(|text| !text.is_empty())
}

fn end_of_output(log: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut goes_on = false;
    // The first line may be cut; it is then no record.
    for record in log.split(|byte| *byte == b'\n').filter_map(logs::parse) {
        match lines.last_mut().filter(|_| goes_on) {
            Some(line) => line.extend_from_slice(record.text),
            None => lines.push(record.text.to_vec()),
        }
        goes_on = record.partial;
    }
    let first = lines.len().saturating_sub(OUTPUT_LINES);
    let mut text: Vec<u8> = lines[first..].iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect();
    if goes_on {
        text.pop();
    }
    let first = text.len().saturating_sub(OUTPUT_BYTES);
    text.split_off(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-21T01:02:03.000000004Z";

    fn log(lines: &[(&str, &str)]) -> Vec<u8> {
        lines.iter().map(|(tag, text)| format!("{TIME} stderr {tag} {text}\n")).collect::<String>().into_bytes()
    }

    #[test]
    fn the_termination_log_wins_whatever_the_policy() {
        for policy in [None, Some("File"), Some("FallbackToLogsOnError")] {
            let message = message(b"bye", policy, 1, || panic!("the log is not asked for"));
            assert_eq!(message.as_deref(), Some("bye"));
        }
    }

    #[test]
    fn output_is_fallen_back_to_only_after_an_error_and_only_if_asked_for() {
        let output = || log(&[("F", "one"), ("P", "tw"), ("F", "o")]);
        let fallback = Some("FallbackToLogsOnError");
        assert_eq!(message(b"", fallback, 1, output).as_deref(), Some("one\ntwo\n"));
        assert_eq!(message(b"", fallback, 0, output), None);
        assert_eq!(message(b"", Some("File"), 1, output), None);
        assert_eq!(message(b"", fallback, 1, || log(&[("P", "no newline")])).as_deref(), Some("no newline"));
    }

    #[test]
    fn long_output_is_cut_to_its_last_lines_and_bytes() {
        let many: Vec<String> = (0..200).map(|number| format!("line {number}")).collect();
        let records: Vec<(&str, &str)> = many.iter().map(|line| ("F", line.as_str())).collect();
        let text = message(b"", Some("FallbackToLogsOnError"), 1, || log(&records)).unwrap();
        assert_eq!(text.lines().count(), OUTPUT_LINES);
        assert!(text.starts_with("line 120\n") && text.ends_with("line 199\n"));
        let long = "x".repeat(5000);
        let text = message(b"", Some("FallbackToLogsOnError"), 1, || log(&[("F", &long)])).unwrap();
        assert_eq!(text.len(), OUTPUT_BYTES);
    }

    #[test]
    fn bytes_that_are_no_text_do_not_harm() {
        assert_eq!(message(b"\xff\xfe", None, 0, Vec::new).as_deref(), Some("\u{fffd}\u{fffd}"));
        let broken = || [b"cut off here\n".to_vec(), log(&[("F", "whole")])].concat();
        assert_eq!(message(b"", Some("FallbackToLogsOnError"), 1, broken).as_deref(), Some("whole\n"));
    }
}
