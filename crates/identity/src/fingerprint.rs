//! The fingerprint of the internal CA: SHA-256 of its certificate, as `openssl x509 -fingerprint -sha256` prints it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a text is not a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a fingerprint: sha256: and 64 hexadecimal digits, with or without colons between them, as \
     `sluice-repo fingerprint` prints it"
)]
pub struct FingerprintError {
    /// The text that was given, cut to 120 characters.
    pub text: String,
}

/// SHA-256 of a certificate's DER form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of this certificate.
    pub fn of(certificate_der: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate_der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let wrong = || FingerprintError { text: text.chars().take(120).collect() };
        let trimmed = text.trim();
        // openssl writes `sha256 Fingerprint=AA:BB:...`.
        let digits = trimmed.rsplit_once('=').map_or(trimmed, |(_, digits)| digits);
        let digits = digits.strip_prefix("sha256:").unwrap_or(digits).replace(':', "");
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = FingerprintError;

    fn try_from(text: String) -> Result<Self, FingerprintError> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_we_and_as_openssl_write_it() {
        let fingerprint = Fingerprint::of(b"a certificate");
        let text = fingerprint.to_string();
        assert_eq!(text.parse(), Ok(fingerprint));
        let digits = text.strip_prefix("sha256:").unwrap().to_uppercase();
        let pairs: Vec<&str> = (0..32).map(|byte| &digits[2 * byte..2 * byte + 2]).collect();
        assert_eq!(format!("sha256 Fingerprint={}\n", pairs.join(":")).parse(), Ok(fingerprint));
        for wrong in ["", "sha256:", &text[..70], &format!("{text}00"), "md5:00"] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}
