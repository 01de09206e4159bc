//! Public keys that verify metadata: Ed25519 in our own repository; ECDSA P-256 and RSA-PSS too in foreign ones.
//!
//! A key that cannot be used (another kind, or one that stands under an id that is not its own) is kept as
//! [`PublicKey::Unusable`]: it counts for nothing, and does not take down the file that lists it.

use crate::signer::verify_ed25519;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};

/// Longest PEM of a key: RSA with 8,192 bits takes 1.4 KB.
const PEM_BYTES_MAX: usize = 4 << 10;

/// SubjectPublicKeyInfo (RFC 5480) of an uncompressed P-256 point, up to the point: its length and parts never vary.
const P256_HEADER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P256_POINT_BYTES: usize = 65;

/// The algorithm of an RSA SubjectPublicKeyInfo (RFC 3279): `rsaEncryption` with its NULL.
const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// A key by its material, so that one key under two ids is one key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum PublicKey {
    /// 32 bytes, RFC 8032.
    Ed25519([u8; 32]),
    /// An uncompressed point.
    EcdsaP256(Vec<u8>),
    /// An RSAPublicKey in DER (PKCS#1).
    RsaPss(Vec<u8>),
    /// Verifies nothing.
    Unusable,
}

impl PublicKey {
    /// The key of a foreign repository by `keytype`, `scheme` and `keyval.public` (specification 1.0.34, section 4.2).
    pub(crate) fn foreign(keytype: &str, scheme: &str, public: &str) -> Self {
        let key = match (keytype, scheme) {
            ("ed25519", "ed25519") => ed25519(public),
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => p256(public),
            ("rsa", "rsassa-pss-sha256") => rsa(public),
            _ => None,
        };
        key.unwrap_or(Self::Unusable)
    }

    pub(crate) fn is_verified(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => verify_ed25519(key, message, signature).is_ok(),
            Self::EcdsaP256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature).is_ok()
            }
            Self::RsaPss(key) => {
                UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key).verify(message, signature).is_ok()
            }
            Self::Unusable => false,
        }
    }
}

fn ed25519(public: &str) -> Option<PublicKey> {
    let mut key = [0; 32];
    hex::decode_to_slice(public, &mut key).ok()?;
    Some(PublicKey::Ed25519(key))
}

/// PEM, or the point in hex as older tools wrote it.
fn p256(public: &str) -> Option<PublicKey> {
    let point = match hex::decode(public) {
        Ok(point) => point,
        Err(_) => pem(public)?.strip_prefix(&P256_HEADER)?.to_vec(),
    };
    (point.len() == P256_POINT_BYTES && point[0] == 4).then_some(PublicKey::EcdsaP256(point))
}

fn rsa(public: &str) -> Option<PublicKey> {
    let info = pem(public)?;
    let (content, after) = der_value(&info, 0x30)?;
    let bits = content.strip_prefix(&RSA_ALGORITHM).filter(|_| after.is_empty())?;
    let (bits, after) = der_value(bits, 0x03)?;
    // The first byte of a bit string counts the bits that its last byte does not use.
    let key = bits.strip_prefix(&[0]).filter(|_| after.is_empty())?;
    Some(PublicKey::RsaPss(key.to_vec()))
}

/// The bytes of a `PUBLIC KEY` in PEM (RFC 7468), whatever the length of its lines.
fn pem(text: &str) -> Option<Vec<u8>> {
    if text.len() > PEM_BYTES_MAX {
        return None;
    }
    let body = text.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(body).ok()
}

/// The content of the first DER value, which must have that tag, and what follows it.
fn der_value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    (found == tag && length <= rest.len()).then(|| rest.split_at(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_key_of_its_kind_is_unusable_and_panics_nowhere() {
        let pem =
            |der: &[u8]| format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
        let point = [&P256_HEADER[..], &[4; 65]].concat();
        assert!(matches!(
            PublicKey::foreign("ecdsa", "ecdsa-sha2-nistp256", &pem(&point)),
            PublicKey::EcdsaP256(point) if point == [4; 65]
        ));
        for length in 0..point.len() {
            let cut = pem(&point[..length]);
            assert_eq!(PublicKey::foreign("ecdsa", "ecdsa-sha2-nistp256", &cut), PublicKey::Unusable);
            assert_eq!(PublicKey::foreign("rsa", "rsassa-pss-sha256", &cut), PublicKey::Unusable);
        }
        for der in [&[0x30][..], &[0x30, 0x81], &[0x30, 0x82, 1], &[0x30, 0x84, 0, 0, 0, 1], &[0x30, 0x7f]] {
            assert_eq!(PublicKey::foreign("rsa", "rsassa-pss-sha256", &pem(der)), PublicKey::Unusable);
        }
        let key = "00".repeat(32);
        assert_eq!(PublicKey::foreign("ed25519", "ed25519ph", &key), PublicKey::Unusable);
        assert_eq!(PublicKey::foreign("ed25519", "ed25519", &key[1..]), PublicKey::Unusable);
        assert!(!PublicKey::Unusable.is_verified(b"", b""));
    }
}
