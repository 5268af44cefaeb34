//! `resource.Quantity`: exact to a billionth, as apimachinery reads, rounds and writes it (`api/resource/quantity.go`).

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// An amount of a resource.
#[derive(Debug, Clone, Copy, Default)]
pub struct Amount {
    nanos: i128,
    format: Format,
}

/// How it is written.
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
    pub text: String,
    pub reason: &'static str,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// Whole units, decimal.
    pub const fn units(value: i64) -> Self {
        Self {
            nanos: value as i128 * 1_000_000_000,
            format: Format::DecimalSi,
        }
    }

    /// Thousandths: of a cpu.
    pub const fn milli(value: i64) -> Self {
        Self {
            nanos: value as i128 * 1_000_000,
            format: Format::DecimalSi,
        }
    }

    /// Bytes, written with binary suffixes.
    pub const fn bytes(value: i64) -> Self {
        Self {
            nanos: value as i128 * 1_000_000_000,
            format: Format::BinarySi,
        }
    }

    /// As the API server reads it.
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let _ = text;
        todo!("session 1")
    }

    /// Whole units, rounded up (`Value()`).
    pub fn value(&self) -> i64 {
        todo!("session 1")
    }

    /// Thousandths, rounded up (`MilliValue()`).
    pub fn milli_value(&self) -> i64 {
        todo!("session 1")
    }

    /// Nothing at all.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }
}

impl TryFrom<&Quantity> for Amount {
    type Error = InvalidQuantity;

    fn try_from(quantity: &Quantity) -> Result<Self, InvalidQuantity> {
        Self::parse(&quantity.0)
    }
}
