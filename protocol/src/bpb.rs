//! The metric's unit: bits per byte, finite and positive by construction.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bits per byte: Σ nats / (ln 2 · Σ bytes), special tokens excluded. Lower is better.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Bpb(f64);

/// Why a number is not bits per byte.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("`{0}` is not a number of bits per byte: it must be finite and above 0")]
pub struct NotBpb(f64);

impl Bpb {
    /// Makes bits per byte of a number, which must be finite and above 0.
    pub fn new(value: f64) -> Result<Self, NotBpb> {
        if value.is_finite() && value > 0.0 { Ok(Self(value)) } else { Err(NotBpb(value)) }
    }

    /// Converts a loss summed in nats over `bytes` bytes of text.
    pub fn from_nats(nats: f64, bytes: u64) -> Result<Self, NotBpb> {
        Self::new(nats / (std::f64::consts::LN_2 * bytes as f64))
    }

    /// Returns the plain number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Bpb {
    type Error = NotBpb;

    fn try_from(value: f64) -> Result<Self, NotBpb> {
        Self::new(value)
    }
}

impl From<Bpb> for f64 {
    fn from(value: Bpb) -> Self {
        value.0
    }
}

impl fmt::Display for Bpb {
    /// Four decimals unless the caller asks for another number: the noise is rarely below 0.0005.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.*}", f.precision().unwrap_or(4), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_positive_numbers_are_bits_per_byte() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Bpb::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Bpb::new(1.5).map(Bpb::get), Ok(1.5));
    }

    #[test]
    fn eight_bits_of_nats_over_one_byte_are_eight() {
        let nats = 8.0 * std::f64::consts::LN_2;
        assert!((Bpb::from_nats(nats, 1).expect("finite").get() - 8.0).abs() < 1e-12);
    }
}
