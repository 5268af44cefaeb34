//! Signals by name or number.

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

/// `TERM`, `SIGTERM`, `15`, in either case; `RTMIN+3`, as some images have it.
pub(crate) fn parse(text: &str) -> Result<u32> {
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number @ 0..=64) = upper.parse::<u32>() {
        return Ok(number);
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if name == "RTMIN+3" {
        return Ok(37);
    }
    match format!("SIG{name}").parse::<Signal>() {
        Ok(signal) => Ok((signal as i32).unsigned_abs()),
        Err(_) => bail!("{text:?} is no signal: write a name such as TERM or a number such as 15"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_name_and_a_number() {
        for (text, number) in
            [("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("int", 2), ("15", 15), ("0", 0), ("SIGRTMIN+3", 37)]
        {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in ["", "SIG", "NONSENSE", "65", "-1"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
