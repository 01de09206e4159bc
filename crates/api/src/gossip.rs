//! What is gossiped on the overlay: the metadata files of a commit, or a hint to fetch them.

use serde::{Deserialize, Serialize};
use sluice_model::limits::GOSSIP_BYTES_MAX;

/// Name of the file that every bundle holds.
pub const TIMESTAMP_FILE: &str = "timestamp.json";
/// Files of one bundle: roots and roles of the largest repository.
const FILES_MAX: usize = 64;

/// The topic on which a repository's metadata is announced.
pub fn metadata_topic(repo_id: &str) -> String {
    format!("sluice/{repo_id}/metadata/1")
}

/// Files that changed together, as signed. With `timestamp.json` alone it is a hint: the rest is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataBundle {
    /// Unverified.
    pub files: Vec<BundledFile>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledFile {
    /// Its name below `/tuf/metadata/`.
    pub name: String,
    /// Its bytes as signed; standard base64 in JSON.
    #[serde(with = "base64_bytes")]
    pub bytes: Vec<u8>,
}

/// Why a message is not a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Longer than any honest one.
    #[error("{length} bytes are more than the {GOSSIP_BYTES_MAX} of a gossip message")]
    TooLarge {
        /// How long it is.
        length: usize,
    },
    /// Not JSON of this form.
    #[error("not a bundle of metadata files")]
    Malformed(#[from] serde_json::Error),
    /// More files than a repository has, or none called `timestamp.json`.
    #[error("a bundle of {count} files, expected 1 to {FILES_MAX} with {TIMESTAMP_FILE} among them")]
    Files {
        /// How many it has.
        count: usize,
    },
}

impl MetadataBundle {
    /// The message for `files`, which hold `timestamp.json`: all of them when they fit, else the timestamp alone.
    pub fn encode<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
        let mut files: Vec<BundledFile> = files
            .into_iter()
            .map(|(name, bytes)| BundledFile { name: name.to_owned(), bytes: bytes.to_vec() })
            .collect();
        let whole = to_json(&Self { files: files.clone() });
        if whole.len() <= GOSSIP_BYTES_MAX && files.len() <= FILES_MAX {
            return whole;
        }
        files.retain(|file| file.name == TIMESTAMP_FILE);
        to_json(&Self { files })
    }

    /// Reads a message. What it holds is unverified.
    pub fn decode(message: &[u8]) -> Result<Self, BundleError> {
        if message.len() > GOSSIP_BYTES_MAX {
            return Err(BundleError::TooLarge { length: message.len() });
        }
        let bundle: Self = serde_json::from_slice(message)?;
        let count = bundle.files.len();
        if count > FILES_MAX || bundle.file(TIMESTAMP_FILE).is_none() {
            return Err(BundleError::Files { count });
        }
        Ok(bundle)
    }

    /// The bytes of the file called `name`.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|file| file.name == name).map(|file| file.bytes.as_slice())
    }
}

fn to_json(bundle: &MetadataBundle) -> Vec<u8> {
    serde_json::to_vec(bundle).expect("a bundle is names and text")
}

pub(crate) mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_read_back_and_has_this_form() {
        let message = MetadataBundle::encode([("2.snapshot.json", &b"{}"[..]), (TIMESTAMP_FILE, &b"t"[..])]);
        assert_eq!(
            String::from_utf8(message.clone()).unwrap(),
            r#"{"files":[{"name":"2.snapshot.json","bytes":"e30="},{"name":"timestamp.json","bytes":"dA=="}]}"#
        );
        assert_eq!(MetadataBundle::decode(&message).unwrap().file(TIMESTAMP_FILE), Some(&b"t"[..]));
    }

    #[test]
    fn what_does_not_fit_becomes_a_hint() {
        let large = vec![b'x'; GOSSIP_BYTES_MAX];
        let message = MetadataBundle::encode([("2.snapshot.json", &large[..]), (TIMESTAMP_FILE, &b"t"[..])]);
        assert_eq!(MetadataBundle::decode(&message).unwrap().files.len(), 1);
    }

    #[test]
    fn junk_is_refused_with_its_reason() {
        assert!(matches!(MetadataBundle::decode(b"junk"), Err(BundleError::Malformed(_))));
        assert!(matches!(MetadataBundle::decode(br#"{"files":[]}"#), Err(BundleError::Files { count: 0 })));
        assert!(matches!(MetadataBundle::decode(&vec![b' '; GOSSIP_BYTES_MAX + 1]), Err(BundleError::TooLarge { .. })));
    }
}
