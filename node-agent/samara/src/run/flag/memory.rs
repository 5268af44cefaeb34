//! Sizes: docker's units (each 1024 times the one before, in either case) and Kubernetes' binary ones.

use anyhow::{Result, bail};

/// Bytes. Whose flag it is, is said by who asks.
pub(crate) fn parse(text: &str) -> Result<i64> {
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        "t" | "tb" | "ti" | "tib" => 40,
        _ => bail!("{text:?}: write a number of bytes, or one with k, m or g behind it, such as 64m"),
    };
    let bytes = number.parse::<f64>().ok().map(|number| number * (1_u64 << shift) as f64);
    match bytes {
        Some(bytes) if (1.0..=(i64::MAX >> 1) as f64).contains(&bytes) => Ok(bytes as i64),
        _ => bail!("{text:?}: must be a number of bytes, at least 1, such as 64m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_dockers_and_kubernetes() {
        for (text, bytes) in [
            ("1", 1),
            ("512b", 512),
            ("64k", 65_536),
            ("64M", 64 << 20),
            ("64Mi", 64 << 20),
            ("1.5g", 3 << 29),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(parse(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "m", "0", "-1", "64x", "64 m", "1e3", "1..5", "99999999999999t", "0.1"] {
            assert!(parse(text).unwrap_err().to_string().contains("such as 64m"), "{text}");
        }
    }
}
