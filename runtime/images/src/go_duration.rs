//! Times as Go writes them in configurations.

use std::time::Duration;

/// `12h0m0s`, `300ms`, `1.5h` or `0`, as Go writes and reads them; never below zero, and at most 100 years.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    const LONGEST: f64 = 100.0 * 365.0 * 24.0 * 3600.0;
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| letter != '.' && !letter.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|letter: char| letter == '.' || letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    let written = !text.is_empty() && seconds <= LONGEST;
    written.then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("12h0m0s", Some(43_200_000)),
            ("1.5s", Some(1500)),
            ("300ms", Some(300)),
            ("", None),
            ("1", None),
            ("-1s", None),
            ("h", None),
            ("1y", None),
            ("9999999999999h", None),
        ] {
            assert_eq!(parse(text).map(|it| it.as_millis()), millis, "{text}");
        }
    }
}
