//! DSSE envelopes (secure-systems-lab/dsse v1.0): signs a payload as bytes, and gives it back only after its check.

use crate::Signer;
use sluice_model::dsse::DsseEnvelope;

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
    /// Payload or signature is not standard base64, or the signature is not 64 bytes.
    #[error("{0} is not well formed")]
    Malformed(&'static str),
    /// Not exactly one signature.
    #[error("{0} signatures, expected exactly one")]
    SignatureCount(usize),
    /// The signature is not by this key over this payload.
    #[error("the signature does not verify")]
    BadSignature,
}

/// Signs `payload` and wraps both. `keyid` is a hint for the reader, an endpoint's id for outcome reports.
pub fn sign(_signer: &Signer, _payload_type: &str, _payload: &[u8], _keyid: &str) -> DsseEnvelope {
    todo!()
}

/// The payload, when exactly one signature stands there and it is by `key`.
pub fn verify(_envelope: &DsseEnvelope, _key: &[u8; 32], _payload_type: &str) -> Result<Vec<u8>, DsseError> {
    todo!()
}
