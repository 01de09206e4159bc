//! Content hashes as distinct types, so that a chunk id can never stand where an artifact id belongs.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Why a text is not a hash: wrong length or a character that is not lower- or upper-case hex.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected_chars} hexadecimal characters, got {got:?}")]
pub struct ParseHexError {
    /// How many characters the type takes.
    pub expected_chars: usize,
    /// The text that was given, cut to 80 characters.
    pub got: String,
}

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Takes the raw bytes as they are.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Lower-case hex, two characters a byte.
            pub fn to_hex(&self) -> String {
                hex::encode(self.0)
            }

            /// The first eight characters of the hex form, for logs and tables.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseHexError;

            fn from_str(text: &str) -> Result<Self, ParseHexError> {
                let mut bytes = [0u8; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseHexError {
                    expected_chars: $len * 2,
                    got: text.chars().take(80).collect(),
                })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(&self.to_hex())
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    let bytes = <Vec<u8>>::deserialize(deserializer)?;
                    let bytes: [u8; $len] = bytes
                        .try_into()
                        .map_err(|_| serde::de::Error::custom(concat!("wrong length for ", stringify!($name))))?;
                    Ok(Self(bytes))
                }
            }
        }
    };
}
pub(crate) use fixed_bytes;

fixed_bytes!(
    /// BLAKE3 of a whole artifact.
    ArtifactId,
    32
);
fixed_bytes!(
    /// BLAKE3 of an encoded manifest.
    ManifestId,
    32
);
fixed_bytes!(
    /// BLAKE3 of one chunk.
    ChunkId,
    32
);
fixed_bytes!(
    /// SHA-256 of a whole artifact, document or metadata file.
    Sha256,
    32
);
fixed_bytes!(
    /// SHA-512 of a whole artifact.
    Sha512,
    64
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_survives_both_serialised_forms() {
        let id = ChunkId::from_bytes([7; 32]);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{}\"", "07".repeat(32)));
        assert_eq!(serde_json::from_str::<ChunkId>(&json).unwrap(), id);
        let binary = postcard::to_allocvec(&id).unwrap();
        assert_eq!(postcard::from_bytes::<ChunkId>(&binary).unwrap(), id);
    }

    #[test]
    fn a_text_of_the_wrong_length_is_refused() {
        let error = "abcd".parse::<Sha256>().unwrap_err();
        assert_eq!(error.expected_chars, 64);
        assert!("zz".repeat(32).parse::<Sha256>().is_err());
    }
}
