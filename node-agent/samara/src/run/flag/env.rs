//! `--env`, `--env-file`, `--label`.

use anyhow::{Context as _, Result, bail};

/// `NAME=VALUE`, or `NAME` with its value here.
pub(crate) fn variable(text: &str, here: impl Fn(&str) -> Option<String>) -> Result<String> {
    match text.split_once('=') {
        Some(("", _)) => bail!("--env {text}: the name is empty"),
        Some(_) => Ok(text.to_owned()),
        None => {
            let value =
                here(text).with_context(|| format!("--env {text}: it has no value here; write {text}=VALUE"))?;
            Ok(format!("{text}={value}"))
        }
    }
}

/// The lines of a file: `NAME=VALUE`, or `NAME` if it has a value here; `#` begins a comment line. As docker reads it:
/// nothing is unquoted.
pub(crate) fn file(text: &str, here: impl Fn(&str) -> Option<String>) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((name, _)) if name.is_empty() || name.contains(char::is_whitespace) => {
                bail!("line {}: {name:?} is not a variable's name", number + 1)
            }
            Some(_) => all.push(line.to_owned()),
            None => all.extend(here(line.trim_end()).map(|value| format!("{}={value}", line.trim_end()))),
        }
    }
    Ok(all)
}

/// `KEY=VALUE`, or `KEY` alone.
pub(crate) fn label(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        bail!("--label {text}: the key is empty");
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Replaces the variable of the same name.
pub(crate) fn set(env: &mut Vec<String>, variable: &str) {
    let name = variable.split('=').next().unwrap_or_default();
    env.retain(|other| other.split('=').next() != Some(name));
    env.push(variable.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn a_variable_is_given_or_taken_from_here() {
        assert_eq!(variable("A=1", here).unwrap(), "A=1");
        assert_eq!(variable("A=", here).unwrap(), "A=");
        assert_eq!(variable("HOME", here).unwrap(), "HOME=/root");
        assert!(variable("NONE", here).unwrap_err().to_string().contains("NONE=VALUE"));
        assert!(variable("=x", here).is_err());
    }

    #[test]
    fn a_file_has_one_variable_on_each_line() {
        let text = "# comment\n\nA=1\n  B=x y=z # no comment\nHOME\nNONE\nC=\"q\"\r\n";
        assert_eq!(file(text, here).unwrap(), ["A=1", "B=x y=z # no comment", "HOME=/root", "C=\"q\""]);
        assert_eq!(file("", here).unwrap(), [""; 0]);
        for (bad, says) in [("A=1\n=2", "line 2"), ("export A=1", "\"export A\"")] {
            let error = file(bad, here).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn the_last_variable_of_a_name_wins() {
        let mut env = vec!["A=1".to_owned(), "AB=2".to_owned()];
        set(&mut env, "A=3");
        assert_eq!(env, ["AB=2", "A=3"]);
    }

    #[test]
    fn a_label_may_be_a_key_alone() {
        assert_eq!(label("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert_eq!(label("a").unwrap(), ("a".into(), String::new()));
        assert!(label("=b").is_err());
    }
}
