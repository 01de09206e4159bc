//! What endpoints, nodes and people hand in: reports, tokens, gossip, signed documents.

use super::repository::repository;
use super::shape;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_api::gossip::MetadataBundle;
use sluice_api_client::EnrolmentTokenText;
use sluice_compliance::OutcomeReport;
use sluice_metadata::{Signer, dsse};
use sluice_model::dsse::DsseEnvelope;
use sluice_model::{EndpointRows, Limits, Revoked, Roster, Tombstone, Topology};

const REPORT_TYPE: &str = sluice_model::dsse::OUTCOME_REPORT_TYPE;

/// An envelope whose signature does not matter, or a payload: what is read is read the same again.
pub fn report(input: &[u8]) -> String {
    if let Ok(envelope) = serde_json::from_slice::<DsseEnvelope>(input) {
        let key = Signer::from_seed([9; 32]).public_key();
        return match dsse::verify(&envelope, &key, REPORT_TYPE) {
            Ok(payload) => format!("signed: {}", payload_of(&payload)),
            Err(error) => shape(error),
        };
    }
    let said = payload_of(input);
    if said == "a report" {
        // Whatever is a report survives being signed and checked.
        let signer = Signer::from_seed([9; 32]);
        let envelope = dsse::sign(&signer, REPORT_TYPE, input, "me");
        assert_eq!(dsse::verify(&envelope, &signer.public_key(), REPORT_TYPE).as_deref(), Ok(input));
    }
    said
}

fn payload_of(payload: &[u8]) -> String {
    match OutcomeReport::from_payload(payload) {
        Ok(report) => {
            let again = serde_json::to_vec(&report).expect("a report is JSON");
            assert_eq!(OutcomeReport::from_payload(&again).expect("what was read can be written"), report);
            "a report".into()
        }
        Err(error) => std::error::Error::source(&error).map_or_else(|| shape(&error), shape),
    }
}

/// A token that is read is written the same, but for letter case and blanks around it.
pub fn token(input: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(input) else { return "not text".into() };
    match text.parse::<EnrolmentTokenText>() {
        Ok(token) => {
            let again = token.to_text();
            assert_eq!(text.trim().to_ascii_lowercase(), *again, "a second form of a token");
            assert!(!format!("{token:?}").contains(token.secret_hex().as_str()), "a token shows its secret");
            "a token".into()
        }
        Err(error) => {
            assert!(text.len() < 8 || !error.to_string().contains(text), "the error shows what was given");
            shape(error)
        }
    }
}

/// A message that is read is written the same, and no message moves the metadata back.
pub fn gossip(input: &[u8]) -> String {
    let bundle = match MetadataBundle::decode(input) {
        Ok(bundle) => bundle,
        Err(error) => return std::error::Error::source(&error).map_or_else(|| shape(&error), shape),
    };
    let files = bundle.files.iter().map(|file| (file.name.as_str(), file.bytes.as_slice()));
    let again = MetadataBundle::decode(&MetadataBundle::encode(files)).expect("what was read can be written");
    assert_eq!(again.file("timestamp.json"), bundle.file("timestamp.json"));
    let repository = repository();
    let mut read = |name: &str| bundle.file(name).map(<[u8]>::to_vec);
    match repository.trusted.apply(&mut read, repository.now) {
        Ok(applied) => {
            assert!(applied.trusted.timestamp_version() >= repository.trusted.timestamp_version());
            format!("applied, {} files changed", applied.changed.len())
        }
        Err(error) => shape(error),
    }
}

/// The signed documents: their bytes were checked, and the program that wrote them may have been another one.
pub fn document(input: &[u8]) -> String {
    [
        form::<Roster>(input),
        form::<Revoked>(input),
        form::<Topology>(input),
        form::<Limits>(input),
        form::<EndpointRows>(input),
        form::<Tombstone>(input),
    ]
    .join("|")
}

fn form<T: DeserializeOwned + Serialize>(input: &[u8]) -> String {
    match serde_json::from_slice::<T>(input) {
        Ok(value) => {
            let once = serde_json::to_vec(&value).expect("a document is JSON");
            let again: T = serde_json::from_slice(&once).expect("what was read can be written");
            assert_eq!(serde_json::to_vec(&again).expect("a document is JSON"), once, "it changes when it is written");
            "read".into()
        }
        Err(error) => shape(error).split(" at line").next().unwrap_or_default().to_owned(),
    }
}
