//! The DSSE envelope (secure-systems-lab/dsse v1.0): a payload that was signed as bytes, and its signatures.

use serde::{Deserialize, Serialize};

/// Payload type of outcome reports.
pub const OUTCOME_REPORT_TYPE: &str = "application/vnd.sluice.outcome-report+json;version=1";

/// An envelope as sent. Nothing in it may be believed before `metadata::dsse::verify` returned its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DsseEnvelope {
    /// Media type of the payload; signed too.
    pub payload_type: String,
    /// The signed bytes, standard base64.
    pub payload: String,
    /// One for each signer.
    pub signatures: Vec<DsseSignature>,
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DsseSignature {
    /// The signer: an endpoint's [`crate::EndpointId`] in hex.
    pub keyid: String,
    /// 64 bytes, standard base64.
    pub sig: String,
}
