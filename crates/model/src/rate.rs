//! Byte rates.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// Bytes per second, never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteRate(NonZeroU64);

/// Why a text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate; write for instance 20mbit, 2500kB/s or 2.5MB/s (more than zero)")]
pub struct ParseRateError(pub String);

impl ByteRate {
    /// A rate in bytes per second; `None` for zero.
    pub const fn bytes_per_sec(bytes: u64) -> Option<Self> {
        match NonZeroU64::new(bytes) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// Bytes per second.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// An equal share for one of `parts` holders, at least one byte per second.
    pub fn share(self, parts: usize) -> Self {
        let share = self.get() / (parts.max(1) as u64);
        Self(NonZeroU64::new(share).unwrap_or(NonZeroU64::MIN))
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.get().saturating_mul(8);
        if bits.is_multiple_of(1_000_000) {
            write!(f, "{}mbit", bits / 1_000_000)
        } else if bits.is_multiple_of(1_000) {
            write!(f, "{}kbit", bits / 1_000)
        } else {
            write!(f, "{}B/s", self.get())
        }
    }
}

impl FromStr for ByteRate {
    type Err = ParseRateError;

    /// Decimal units: `bit`, `kbit`, `mbit`, `gbit` (optionally `/s`), and `B/s`, `kB/s`, `MB/s`, `GB/s`.
    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        let wrong = || ParseRateError(text.chars().take(80).collect());
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(split);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let bytes_per_unit = match unit.trim().to_ascii_lowercase().trim_end_matches("/s") {
            "bit" => 0.125,
            "kbit" => 125.0,
            "mbit" => 125_000.0,
            "gbit" => 125_000_000.0,
            "b" => 1.0,
            "kb" => 1_000.0,
            "mb" => 1_000_000.0,
            "gb" => 1_000_000_000.0,
            _ => return Err(wrong()),
        };
        let bytes = number * bytes_per_unit;
        if !(1.0..=1e15).contains(&bytes) {
            return Err(wrong());
        }
        Self::bytes_per_sec(bytes as u64).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_in_bits_and_bytes() {
        assert_eq!("20mbit".parse::<ByteRate>().unwrap().get(), 2_500_000);
        assert_eq!("2.5MB/s".parse::<ByteRate>().unwrap().get(), 2_500_000);
        assert_eq!("20mbit".parse::<ByteRate>().unwrap().to_string(), "20mbit");
        for text in ["0mbit", "20", "fast", "-1mbit", "1e9mbit", ""] {
            assert!(text.parse::<ByteRate>().is_err(), "{text:?}");
        }
    }
}
