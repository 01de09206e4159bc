//! What a node shows a repo server that gave it older metadata than it has: the signed files that it holds.
//!
//! Nothing in it is believed but what the server's own keys signed. The path is `POST /device/v1/newer-metadata`.

use crate::gossip::{BundledFile, TIMESTAMP_FILE};
use serde::{Deserialize, Serialize};

/// Bytes of a body: three rings and the archives of years stay below a megabyte; 20,000 endpoints of a site are 4 MB, and
/// base64 adds a third. What a repository at every bound has would be more and is cut off at the documents.
pub const NEWER_METADATA_BYTES_MAX: usize = 32 << 20;
/// Files and documents of one message each.
pub const NEWER_FILES_MAX: usize = 1_024;

/// The signed files of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewerMetadata {
    /// Metadata files by name, `timestamp.json` among them.
    pub files: Vec<BundledFile>,
    /// Documents that they name, by target name.
    pub documents: Vec<BundledFile>,
}

impl NewerMetadata {
    /// Of these files and documents; documents that would make it too long are left out, the largest first.
    pub fn of(files: Vec<BundledFile>, mut documents: Vec<BundledFile>) -> Self {
        let encoded = |file: &BundledFile| file.name.len() + file.bytes.len().div_ceil(3) * 4 + 64;
        let fixed: usize = files.iter().map(encoded).sum();
        documents.sort_by_key(|document| document.bytes.len());
        let mut room = (NEWER_METADATA_BYTES_MAX - 1_024).saturating_sub(fixed);
        documents.retain(|document| {
            let fits = encoded(document) <= room;
            room = room.saturating_sub(encoded(document));
            fits
        });
        documents.truncate(NEWER_FILES_MAX);
        Self { files, documents }
    }

    /// The bytes of the timestamp.
    pub fn timestamp(&self) -> Option<&[u8]> {
        self.files.iter().find(|file| file.name == TIMESTAMP_FILE).map(|file| file.bytes.as_slice())
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NewerAnswer {
    /// The server is being restored and takes it into account.
    Taken,
    /// The server knows everything in it.
    Known,
    /// The server was not told that it was restored: it raised an alarm and changed nothing.
    Alarmed,
}

/// The answer to [`NewerMetadata`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewerReceipt {
    /// What came of it.
    pub answer: NewerAnswer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_and_the_small_documents_stay() {
        let file = |name: &str, length| BundledFile { name: name.into(), bytes: vec![b'x'; length] };
        let documents = vec![file("fleet/endpoints-a", NEWER_METADATA_BYTES_MAX), file("fleet/roster", 10)];
        let all = NewerMetadata::of(vec![file("timestamp.json", 100)], documents);
        assert_eq!(all.documents.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["fleet/roster"]);
        assert!(serde_json::to_vec(&all).unwrap().len() <= NEWER_METADATA_BYTES_MAX);
        assert_eq!(all.timestamp().map(<[u8]>::len), Some(100));
    }
}
