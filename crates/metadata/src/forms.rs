//! The forms of a JSON text, for checkers that stand outside: what it means, how it is stored, and what is signed.

use crate::json;
use sluice_model::Sha256;

/// The forms of one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonForms {
    /// What is signed: keys in order, no white space, only `"` and `\` escaped.
    pub canonical: Vec<u8>,
    /// The same as valid JSON.
    pub stored: Vec<u8>,
    /// What it means.
    pub value: serde_json::Value,
}

/// Reads a text as the verifier reads it: no duplicate keys, no floats, not too deep. The error says what and where.
pub fn json_forms(bytes: &[u8]) -> Result<JsonForms, String> {
    let value = json::parse(bytes)?;
    Ok(JsonForms { canonical: value.canonical(), stored: value.to_bytes(), value: value.to_value() })
}

/// SHA-256, as metadata names files by it.
pub fn sha256_of(bytes: &[u8]) -> Sha256 {
    json::sha256(bytes)
}
