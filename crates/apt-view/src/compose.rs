//! The files of a document, ready to serve, and which of them a path names.

use crate::document::{AptDocument, Generation, IndexFile};
use crate::{SUITE, sha256, sha512};
use sluice_model::{Sha256, Timestamp};
use std::collections::HashMap;

/// Why nothing is served of a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// The stanzas do not give what `Release` lists.
    #[error("{path} of generation {generation} is not what its Release lists")]
    WrongFile {
        /// Which file.
        path: String,
        /// Which generation.
        generation: u64,
    },
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ComposedFile<B> {
    /// What it is.
    pub bytes: B,
    /// Of its bytes.
    pub sha256: Sha256,
    /// When it became what it is.
    pub modified_at: Timestamp,
}

/// The files of a document, of every generation. `B` shares its bytes when it is cloned.
#[derive(Debug)]
pub struct Composed<B> {
    files: Vec<ComposedFile<B>>,
    places: HashMap<String, usize>,
    bytes_total: u64,
}

impl AptDocument {
    /// Every file that is kept, each checked against what its generation lists. O(bytes of all files).
    pub fn compose<B: From<Vec<u8>>>(&self) -> Result<Composed<B>, ComposeError> {
        let mut composed = Composed { files: Vec::new(), places: HashMap::new(), bytes_total: 0 };
        for (age, generation) in self.generations.iter().enumerate() {
            let is_newest = age == 0;
            for file in &generation.files {
                self.add(&mut composed, generation, file, is_newest)?;
            }
            if is_newest {
                for (name, text) in [
                    ("InRelease", &generation.in_release),
                    ("Release", &generation.release),
                    ("Release.gpg", &generation.release_gpg),
                ] {
                    let place = composed.push(text.clone().into_bytes(), generation.signed_at);
                    composed.places.insert(format!("{SUITE}/{name}"), place);
                }
            }
        }
        Ok(composed)
    }

    fn add<B: From<Vec<u8>>>(
        &self,
        composed: &mut Composed<B>,
        generation: &Generation,
        file: &IndexFile,
        is_newest: bool,
    ) -> Result<(), ComposeError> {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", file.path.as_str()));
        let by_hash = |kind: &str, hash: String| format!("{SUITE}/{folder}/by-hash/{kind}/{hash}");
        let strong = by_hash("SHA512", file.sha512.to_hex());
        let wrong = || ComposeError::WrongFile { path: file.path.clone(), generation: generation.number };
        let place = match composed.places.get(&strong) {
            // A file that did not change between two generations is kept once.
            Some(place) => *place,
            None => {
                let texts: Option<Vec<&str>> =
                    file.stanzas.iter().map(|place| Some(self.stanzas.get(*place as usize)?.as_str())).collect();
                let bytes = texts.ok_or_else(wrong)?.concat().into_bytes();
                if bytes.len() as u64 != file.length || sha256(&bytes) != file.sha256 || sha512(&bytes) != file.sha512 {
                    return Err(wrong());
                }
                composed.push(bytes, generation.made_at)
            }
        };
        composed.places.insert(strong, place);
        composed.places.insert(by_hash("SHA256", file.sha256.to_hex()), place);
        if is_newest {
            composed.places.insert(format!("{SUITE}/{folder}/{name}"), place);
        }
        Ok(())
    }
}

impl<B: From<Vec<u8>>> Composed<B> {
    fn push(&mut self, bytes: Vec<u8>, modified_at: Timestamp) -> usize {
        self.bytes_total += bytes.len() as u64;
        let sha256 = sha256(&bytes);
        self.files.push(ComposedFile { bytes: B::from(bytes), sha256, modified_at });
        self.files.len() - 1
    }
}

impl<B> Composed<B> {
    /// The file at a path below `dists/`.
    pub fn file(&self, path: &str) -> Option<&ComposedFile<B>> {
        self.files.get(*self.places.get(path)?)
    }

    /// Bytes of every file together.
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total
    }
}
