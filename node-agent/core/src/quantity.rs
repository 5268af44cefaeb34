//! `resource.Quantity`: exact to a billionth, as apimachinery reads, rounds and writes it (`api/resource/quantity.go`).

use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANOS: i128 = 1_000_000_000;
/// Larger amounts are read as this one.
const MAX_NANOS: i128 = i64::MAX as i128 * NANOS;

/// An amount of a resource. Compares by value: `1` equals `1000m`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Amount {
    nanos: i128,
    format: Format,
}

/// How an amount is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// `1500m`, `2k`.
    #[default]
    DecimalSi,
    /// `512Mi`.
    BinarySi,
    /// `1e3`.
    DecimalExponent,
}

/// Not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid quantity {text:?}: {reason}")]
pub struct InvalidQuantity {
    /// As given, cut after 64 characters.
    pub text: String,
    pub reason: &'static str,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// Whole units, decimal.
    pub const fn units(value: i64) -> Self {
        Self { nanos: value as i128 * NANOS, format: Format::DecimalSi }
    }

    /// Thousandths: of a cpu.
    pub const fn milli(value: i64) -> Self {
        Self { nanos: value as i128 * (NANOS / 1000), format: Format::DecimalSi }
    }

    /// Bytes, written with binary suffixes.
    pub const fn bytes(value: i64) -> Self {
        Self { nanos: value as i128 * NANOS, format: Format::BinarySi }
    }

    /// As the API server reads it: finer than a billionth is rounded away from zero, more than `i64::MAX` is capped.
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid = |reason| InvalidQuantity { text: text.chars().take(64).collect(), reason };
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let digits_end = |s: &str| s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
        let (whole, rest) = rest.split_at(digits_end(rest));
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits_end(rest)),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid("it has no digits"));
        }
        let scale = Scale::of(suffix).ok_or_else(|| invalid("its suffix is unknown"))?;
        let nanos = scale.nanos(whole, fraction);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format: scale.format() })
    }

    /// Whole units, rounded away from zero (`Value()`).
    pub fn value(&self) -> i64 {
        saturate(divide_away_from_zero(self.nanos, NANOS))
    }

    /// Thousandths, rounded away from zero (`MilliValue()`).
    pub fn milli_value(&self) -> i64 {
        saturate(divide_away_from_zero(self.nanos, NANOS / 1000))
    }

    /// Nothing at all.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// More than nothing.
    pub fn is_positive(&self) -> bool {
        self.nanos > 0
    }

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }
}

/// The suffix of a quantity.
enum Scale {
    Decimal(i32),
    Binary(u32),
    Exponent(i32),
}

impl Scale {
    fn of(suffix: &str) -> Option<Self> {
        const DECIMAL: [(&str, i32); 10] =
            [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
        const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
        if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
            return Some(Self::Decimal(*exponent));
        }
        if let Some((_, exponent)) = BINARY.iter().find(|(name, _)| *name == suffix) {
            return Some(Self::Binary(*exponent));
        }
        let exponent = suffix.strip_prefix(['e', 'E'])?;
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // An exponent that does not fit moves every digit out of what an amount can hold, in its direction.
        let out_of_range = if exponent.starts_with('-') { i32::MIN / 2 } else { i32::MAX / 2 };
        Some(Self::Exponent(exponent.parse().unwrap_or(out_of_range).clamp(i32::MIN / 2, i32::MAX / 2)))
    }

    fn format(&self) -> Format {
        match self {
            Self::Decimal(_) => Format::DecimalSi,
            Self::Binary(_) => Format::BinarySi,
            Self::Exponent(_) => Format::DecimalExponent,
        }
    }

    /// `whole.fraction` times this scale, in nanos, rounded up and capped.
    fn nanos(&self, whole: &str, fraction: &str) -> i128 {
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').collect();
        let (factor, exponent) = match self {
            Self::Decimal(exponent) | Self::Exponent(exponent) => (1, *exponent),
            Self::Binary(power) => (1_u128 << power, 0),
        };
        let carried = multiply(&mut digits, factor);
        // Digits before the decimal point of the amount in nanos.
        let point = whole.len() as i64 + carried as i64 + i64::from(exponent) + 9;
        let mut nanos: i128 = 0;
        for position in 0..point {
            let Some(digit) = usize::try_from(position).ok().and_then(|position| digits.get(position)) else {
                if nanos == 0 {
                    return 0;
                }
                nanos = nanos.saturating_mul(10);
                if nanos > MAX_NANOS {
                    return MAX_NANOS;
                }
                continue;
            };
            nanos = nanos * 10 + i128::from(*digit);
            if nanos > MAX_NANOS {
                return MAX_NANOS;
            }
        }
        let rest = &digits[usize::try_from(point).unwrap_or(0).min(digits.len())..];
        if rest.iter().any(|digit| *digit != 0) { nanos + 1 } else { nanos }
    }
}

/// Multiplies a decimal number in place; returns by how many digits it grew in front.
fn multiply(digits: &mut Vec<u8>, factor: u128) -> usize {
    if factor == 1 {
        return 0;
    }
    let mut carry: u128 = 0;
    for digit in digits.iter_mut().rev() {
        let product = u128::from(*digit) * factor + carry;
        *digit = (product % 10) as u8;
        carry = product / 10;
    }
    let mut front = Vec::new();
    while carry > 0 {
        front.push((carry % 10) as u8);
        carry /= 10;
    }
    front.reverse();
    let grown = front.len();
    digits.splice(0..0, front);
    grown
}

fn divide_away_from_zero(value: i128, divisor: i128) -> i128 {
    let quotient = value / divisor;
    if value % divisor == 0 { quotient } else { quotient + value.signum() }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Amount {
    /// The canonical form: no fraction, the largest suffix that keeps it exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANOS == 0;
        if self.format == Format::BinarySi && whole && self.nanos.abs() >= 1024 * NANOS {
            let (number, power) = reduce(self.nanos / NANOS, 1024, 6);
            return write!(f, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (number, power) = reduce(self.nanos, 1000, 9);
        match self.format {
            Format::DecimalSi | Format::BinarySi => {
                write!(f, "{number}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power])
            }
            Format::DecimalExponent if power == 3 => write!(f, "{number}"),
            Format::DecimalExponent => write!(f, "{number}e{}", power as i32 * 3 - 9),
        }
    }
}

/// Takes out factors of `base`, at most `most` of them.
fn reduce(mut number: i128, base: i128, most: usize) -> (i128, usize) {
    let mut power = 0;
    while power < most && number % base == 0 {
        number /= base;
        power += 1;
    }
    (number, power)
}

impl TryFrom<&Quantity> for Amount {
    type Error = InvalidQuantity;

    fn try_from(quantity: &Quantity) -> Result<Self, InvalidQuantity> {
        Self::parse(&quantity.0)
    }
}

impl From<Amount> for Quantity {
    fn from(amount: Amount) -> Self {
        Self(amount.to_string())
    }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Amount {}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Amount {
    type Output = Self;

    /// Nothing takes over the format of what is added to it.
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: (self.nanos + other.nanos).clamp(-MAX_NANOS, MAX_NANOS), format }
    }
}

impl Sub for Amount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: (self.nanos - other.nanos).clamp(-MAX_NANOS, MAX_NANOS), format }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> String {
        Amount::parse(text).unwrap_or_else(|error| panic!("{error}")).to_string()
    }

    #[test]
    fn an_amount_is_written_in_its_shortest_exact_form() {
        for (given, canonical) in [
            ("0", "0"),
            ("-0", "0"),
            ("00.000Ki", "0"),
            ("1", "1"),
            ("+1", "1"),
            ("1.", "1"),
            (".5", "500m"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            ("2000m", "2"),
            ("10000", "10k"),
            ("1500", "1500"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1536Mi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1.5Gi", "1536Mi"),
            ("1023Ki", "1023Ki"),
            ("100Gi", "100Gi"),
            ("0.3Ki", "307200m"),
            ("1.1Ki", "1126400m"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e-1", "1200e-3"),
            ("5e0", "5"),
            ("1E", "1E"),
            ("7Ei", "7Ei"),
            ("-1500m", "-1500m"),
            ("-2Gi", "-2Gi"),
            ("1n", "1n"),
            ("250u", "250u"),
        ] {
            assert_eq!(written(given), canonical, "{given}");
        }
    }

    #[test]
    fn what_is_finer_than_a_billionth_is_rounded_away_from_zero() {
        assert_eq!(written("0.1n"), "1n");
        assert_eq!(written("1e-99999999999"), "1e-9");
        assert_eq!(written("-1.0000000001"), "-1000000001n");
        assert_eq!(written("0.00000000000000000000001Ki"), "1n");
    }

    #[test]
    fn what_is_larger_than_64_bits_is_capped() {
        assert_eq!(Amount::parse("1e999999999999").unwrap().value(), i64::MAX);
        assert_eq!(Amount::parse("9999999999999999999999999999Ei").unwrap().value(), i64::MAX);
        assert_eq!(Amount::parse(&"9".repeat(100_000)).unwrap().value(), i64::MAX);
        assert_eq!(Amount::parse("-9E").unwrap().value(), -9_000_000_000_000_000_000);
        assert_eq!(Amount::parse("-10E").unwrap().value(), -i64::MAX);
        assert_eq!(Amount::parse("0e999999999999").unwrap(), Amount::ZERO);
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_with_its_text() {
        for text in [
            "", "-", "Gi", ".", "1 Gi", "1gi", "1kI", "1KB", "abc", "0x10", "1e", "1e+", "1e1.5", "1.2.3", "١",
            "1Mi\n", "--1",
        ] {
            let error = Amount::parse(text).unwrap_err();
            assert_eq!(error.text, text);
        }
        assert_eq!(Amount::parse("ten").unwrap_err().to_string(), r#"invalid quantity "ten": it has no digits"#);
        assert_eq!(Amount::parse("1KB").unwrap_err().to_string(), r#"invalid quantity "1KB": its suffix is unknown"#);
        assert_eq!(Amount::parse(&"x".repeat(10_000)).unwrap_err().text.len(), 64);
    }

    #[test]
    fn whole_and_thousandth_values_are_rounded_up() {
        assert_eq!(Amount::parse("1.1").unwrap().value(), 2);
        assert_eq!(Amount::parse("-1.1").unwrap().value(), -2);
        assert_eq!(Amount::parse("100u").unwrap().milli_value(), 1);
        assert_eq!(Amount::parse("64Mi").unwrap().value(), 64 << 20);
    }

    #[test]
    fn a_sum_is_written_as_its_first_part_that_is_something() {
        assert_eq!((Amount::ZERO + Amount::bytes(1 << 20)).to_string(), "1Mi");
        assert_eq!((Amount::milli(500) + Amount::milli(500)).to_string(), "1");
        assert_eq!((Amount::bytes(2048) + Amount::units(1024)).to_string(), "3Ki");
    }

    proptest! {
        #[test]
        fn reading_what_was_written_gives_the_same_amount(nanos in -MAX_NANOS..MAX_NANOS, format in 0..3) {
            let format = [Format::DecimalSi, Format::BinarySi, Format::DecimalExponent][format as usize];
            let amount = Amount { nanos, format };
            prop_assert_eq!(Amount::parse(&amount.to_string()).unwrap(), amount);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = Amount::parse(&text);
        }

        #[test]
        fn near_quantities_are_read_or_refused_never_mistaken(text in "[+-]?[0-9.]{0,40}[eEinumkKMGTP]{0,3}[+-]?[0-9]{0,4}") {
            if let Ok(amount) = Amount::parse(&text) {
                prop_assert_eq!(Amount::parse(&amount.to_string()).unwrap(), amount);
            }
        }

        #[test]
        fn addition_is_undone_by_subtraction(a in -1_000_000_000_000_i64..1_000_000_000_000, b in -1_000_000_000_000_i64..1_000_000_000_000) {
            let (a, b) = (Amount::milli(a), Amount::bytes(b));
            prop_assert_eq!(a + b - b, a);
            prop_assert_eq!(a + b, b + a);
        }
    }
}
