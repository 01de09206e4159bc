//! DSSE envelopes (secure-systems-lab/dsse v1.0): signs a payload as bytes, and gives it back only after its check.

use crate::Signer;
use crate::signer::verify_ed25519;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sluice_model::dsse::{DsseEnvelope, DsseSignature};

/// Why an envelope was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DsseError {
    /// Another payload type than was asked for.
    #[error("payload type {found:?}, expected {expected:?}")]
    WrongType {
        /// What came.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// Payload or signature is not standard base64.
    #[error("{0} is not standard base64")]
    Malformed(&'static str),
    /// Not exactly one signature.
    #[error("{0} signatures, expected exactly one")]
    SignatureCount(usize),
    /// The signature is not by this key over this payload.
    #[error("the signature does not verify")]
    BadSignature,
}

/// Signs `payload` and wraps both. `keyid` is a hint for the reader, an endpoint's id for outcome reports.
pub fn sign(signer: &Signer, payload_type: &str, payload: &[u8], keyid: &str) -> DsseEnvelope {
    let signature = signer.sign(&pre_authentication(payload_type, payload));
    DsseEnvelope {
        payload_type: payload_type.to_owned(),
        payload: STANDARD.encode(payload),
        signatures: vec![DsseSignature { keyid: keyid.to_owned(), sig: STANDARD.encode(signature) }],
    }
}

/// The payload, when exactly one signature stands there and it is by `key`. `keyid` is not looked at.
pub fn verify(envelope: &DsseEnvelope, key: &[u8; 32], payload_type: &str) -> Result<Vec<u8>, DsseError> {
    if envelope.payload_type != payload_type {
        return Err(DsseError::WrongType {
            found: envelope.payload_type.chars().take(80).collect(),
            expected: payload_type.to_owned(),
        });
    }
    let [signature] = envelope.signatures.as_slice() else {
        return Err(DsseError::SignatureCount(envelope.signatures.len()));
    };
    let payload = STANDARD.decode(&envelope.payload).map_err(|_| DsseError::Malformed("the payload"))?;
    let signature = STANDARD.decode(&signature.sig).map_err(|_| DsseError::Malformed("the signature"))?;
    verify_ed25519(key, &pre_authentication(payload_type, &payload), &signature)
        .map_err(|_| DsseError::BadSignature)?;
    Ok(payload)
}

/// `PAE(type, body)` of the specification.
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pre_authentication_encoding_is_the_specification_s_example() {
        let encoded = pre_authentication("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn only_the_signed_payload_of_the_right_type_and_key_comes_back() {
        let signer = Signer::from_seed([1; 32]);
        let key = signer.public_key();
        let envelope = sign(&signer, "application/x", b"payload", "me");
        assert_eq!(verify(&envelope, &key, "application/x").unwrap(), b"payload");
        assert!(matches!(verify(&envelope, &key, "application/y"), Err(DsseError::WrongType { .. })));
        let other = Signer::from_seed([2; 32]).public_key();
        assert_eq!(verify(&envelope, &other, "application/x"), Err(DsseError::BadSignature));

        let mut altered = envelope.clone();
        altered.payload = STANDARD.encode(b"paylord");
        assert_eq!(verify(&altered, &key, "application/x"), Err(DsseError::BadSignature));
        altered.payload = "***".into();
        assert_eq!(verify(&altered, &key, "application/x"), Err(DsseError::Malformed("the payload")));

        let mut twice = envelope.clone();
        twice.signatures.push(envelope.signatures[0].clone());
        assert_eq!(verify(&twice, &key, "application/x"), Err(DsseError::SignatureCount(2)));
    }
}
