//! What is told on standard error.

use std::fmt::Display;

use crate::colour::{Colour, Tone};

/// Tells the user what went wrong, and why, each reason once: some errors say their cause themselves.
pub(crate) fn report(error: &anyhow::Error) {
    complain(causes(error));
}

/// All of them, the outermost first.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// Tells the user of something that went wrong.
pub(crate) fn complain(what: impl Display) {
    let style = Colour::of_stderr().style(Tone::Bad);
    eprintln!("{style}samara:{style:#} {what}");
}

/// Tells the user of something that is only worth knowing.
pub(crate) fn remark(what: impl Display) {
    let style = Colour::of_stderr().style(Tone::Doubtful);
    eprintln!("{style}samara:{style:#} {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_was_told_is_not_told_again() {
        let error = |texts: &[&str]| {
            let (first, rest) = texts.split_first().unwrap();
            causes(&rest.iter().fold(anyhow::anyhow!("{first}"), |error, text| error.context((*text).to_owned())))
        };
        assert_eq!(error(&["no such file"]), "no such file");
        assert_eq!(error(&["no such file", "open a"]), "open a: no such file");
        assert_eq!(
            error(&["no such file", "cannot import: no such file", "load a"]),
            "load a: cannot import: no such file"
        );
    }
}
