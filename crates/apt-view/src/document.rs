//! The signed document of a ring: what travels from the repo server to every node, `policy/apt-<ring>`.
//!
//! A stanza that several generations list stands in it once, so four generations cost little more than one.

use crate::{GENERATIONS_MAX, SUITE};
use serde::{Deserialize, Serialize};
use sluice_model::{RingName, Sha256, Sha512, Timestamp};

/// One ring's repository.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AptDocument {
    /// Format; 1.
    pub schema: u32,
    /// Whose.
    pub ring: RingName,
    /// The armored public key that signed every generation here.
    pub key: String,
    /// Paragraphs of `Packages`, each ending with an empty line.
    pub stanzas: Vec<String>,
    /// The newest first, at most [`GENERATIONS_MAX`].
    pub generations: Vec<Generation>,
}

/// The files of one state of the ring.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Generation {
    /// From 1, one more each.
    pub number: u64,
    /// When its files became what they are: their `Last-Modified`.
    pub made_at: Timestamp,
    /// When it was signed last: `Date`.
    pub signed_at: Timestamp,
    /// `Valid-Until`.
    pub valid_until: Timestamp,
    /// `Release`.
    pub release: String,
    /// `InRelease`.
    pub in_release: String,
    /// `Release.gpg`.
    pub release_gpg: String,
    /// What `Release` lists.
    pub files: Vec<IndexFile>,
}

/// One `Packages` file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IndexFile {
    /// Below the suite's folder, for instance `main/binary-amd64/Packages`.
    pub path: String,
    /// Places in [`AptDocument::stanzas`], in the order of the file.
    pub stanzas: Vec<u32>,
    /// Bytes.
    pub length: u64,
    /// Of the file.
    pub sha256: Sha256,
    /// Of the file.
    pub sha512: Sha512,
}

/// Why bytes are no document of a ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not JSON of this form.
    #[error("not an index document: {0}")]
    Unreadable(String),
    /// A format of another time.
    #[error("index document of format {0}; this program reads 1")]
    Schema(u32),
    /// Of another ring.
    #[error("index document of ring {found}, expected {expected}")]
    Ring {
        /// As it says.
        found: RingName,
        /// As its name says.
        expected: RingName,
    },
    /// None, or more than are kept.
    #[error("{0} generations; 1 to {GENERATIONS_MAX} are kept")]
    Generations(usize),
}

impl AptDocument {
    /// Reads the document of `ring`. The bytes were verified against signed metadata before.
    pub fn read(ring: &RingName, bytes: &[u8]) -> Result<Self, ReadError> {
        let document: Self = serde_json::from_slice(bytes).map_err(|error| ReadError::Unreadable(error.to_string()))?;
        if document.schema != 1 {
            return Err(ReadError::Schema(document.schema));
        }
        if document.ring != *ring {
            return Err(ReadError::Ring { found: document.ring, expected: ring.clone() });
        }
        if document.generations.is_empty() || document.generations.len() > GENERATIONS_MAX {
            return Err(ReadError::Generations(document.generations.len()));
        }
        Ok(document)
    }

    /// The newest generation.
    pub fn newest(&self) -> Option<&Generation> {
        self.generations.first()
    }

    /// The folder of the suite below `dists/`.
    pub fn suite(&self) -> &'static str {
        SUITE
    }
}
