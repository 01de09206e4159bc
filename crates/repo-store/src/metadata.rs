//! Signed bytes: metadata files by name and target documents by SHA-256, as they were signed.
//!
//! The current file of each role and every root stay. A file or document that a commit replaced stays for
//! [`KEPT_AFTER`], so that a client in the middle of a walk finishes it, and goes with a later commit.

use crate::{Reads, Rows, StoreError, WriteTx};
use sluice_model::{Sha256, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a replaced file is still served: a walk over a slow, paced link takes minutes.
pub const KEPT_AFTER: Duration = Duration::from_secs(3_600);

const FILES: Rows<&str> = Rows::new("metadata_files_1");
const DOCUMENTS: Rows<&[u8]> = Rows::new("metadata_documents_1");
const REPLACED: Rows<(u64, &str)> = Rows::new("metadata_replaced_1");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(FILES)?;
    tx.create(DOCUMENTS)?;
    tx.create(REPLACED)
}

/// One commit's files and documents.
#[derive(Clone, Debug, Default)]
pub struct NewMetadata {
    /// File name to bytes.
    pub files: Vec<(String, Vec<u8>)>,
    /// Target bytes by their SHA-256.
    pub documents: Vec<(Sha256, Vec<u8>)>,
    /// Files that no current metadata names any more.
    pub replaced_files: Vec<String>,
    /// Documents that no current metadata names any more.
    pub replaced_documents: Vec<Sha256>,
}

/// Writes what a commit made, each metadata file also as a leaf of the audit log, and drops what was replaced longer than [`KEPT_AFTER`] before `now`.
pub fn put(tx: &WriteTx, new: &NewMetadata, now: Timestamp) -> Result<(), StoreError> {
    for (name, bytes) in &new.files {
        tx.put_bytes(FILES, name.as_str(), bytes)?;
        crate::audit::append_signed(tx, name, bytes, now)?;
    }
    for (sha256, bytes) in &new.documents {
        tx.put_bytes(DOCUMENTS, sha256.as_bytes().as_slice(), bytes)?;
    }
    for name in &new.replaced_files {
        tx.put_bytes(REPLACED, (now.as_millis(), name.as_str()), &[])?;
    }
    for sha256 in &new.replaced_documents {
        tx.put_bytes(REPLACED, (now.as_millis(), sha256.to_hex().as_str()), &[])?;
    }
    drop_old(tx, new, now)
}

fn drop_old(tx: &WriteTx, new: &NewMetadata, now: Timestamp) -> Result<(), StoreError> {
    // A document may come back with the same bytes: then it is current again and must not go.
    let current: BTreeSet<String> = new.documents.iter().map(|(sha256, _)| sha256.to_hex()).collect();
    let keep_from = now.as_millis().saturating_sub(KEPT_AFTER.as_millis() as u64);
    let (mut due, mut back) = (Vec::new(), Vec::new());
    tx.for_each(REPLACED, |(at, name), _| {
        if current.contains(name) {
            back.push((at, name.to_owned()));
        } else if at < keep_from {
            due.push((at, name.to_owned()));
        }
        Ok(())
    })?;
    for (at, name) in back {
        tx.remove(REPLACED, (at, name.as_str()))?;
    }
    for (at, name) in due {
        tx.remove(REPLACED, (at, name.as_str()))?;
        match name.parse::<Sha256>() {
            Ok(sha256) => tx.remove(DOCUMENTS, sha256.as_bytes().as_slice())?,
            Err(_) => tx.remove(FILES, name.as_str())?,
        };
    }
    Ok(())
}

/// The bytes of a metadata file.
pub fn file(tx: &impl Reads, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    tx.get_bytes(FILES, name)
}

/// The bytes of a target document.
pub fn document(tx: &impl Reads, sha256: &Sha256) -> Result<Option<Vec<u8>>, StoreError> {
    tx.get_bytes(DOCUMENTS, sha256.as_bytes().as_slice())
}

/// Every metadata file that is in force: roots, and the newest of each role.
pub fn current_files(tx: &impl Reads) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let mut replaced = BTreeSet::new();
    tx.for_each(REPLACED, |(_, name), _| {
        replaced.insert(name.to_owned());
        Ok(())
    })?;
    Ok(files(tx)?.into_iter().filter(|(name, _)| !replaced.contains(name)).collect())
}

/// Every stored metadata file, replaced ones too.
pub fn files(tx: &impl Reads) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let mut files = Vec::new();
    tx.for_each(FILES, |name, bytes| {
        files.push((name.to_owned(), bytes.to_vec()));
        Ok(())
    })?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    fn sha(byte: u8) -> Sha256 {
        Sha256::from_bytes([byte; 32])
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(10_000_000 + secs * 1_000)
    }

    #[test]
    fn a_replaced_file_is_kept_for_an_hour_and_then_goes_with_the_next_commit() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("repo.redb")).unwrap();
        let commit = |new: NewMetadata, now| store.write(|tx| put(tx, &new, now)).unwrap();
        let file = |name: &str| (name.to_owned(), name.as_bytes().to_vec());
        commit(
            NewMetadata { files: vec![file("1.fleet.json"), file("timestamp.json")], ..NewMetadata::default() },
            at(0),
        );
        commit(
            NewMetadata {
                files: vec![file("2.fleet.json"), file("timestamp.json")],
                documents: vec![(sha(2), b"two".to_vec())],
                replaced_files: vec!["1.fleet.json".into()],
                ..NewMetadata::default()
            },
            at(10),
        );
        let names = |files: Vec<(String, Vec<u8>)>| files.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(store.read(current_files).unwrap()), ["2.fleet.json", "timestamp.json"]);
        assert!(store.read(|tx| super::file(tx, "1.fleet.json")).unwrap().is_some());
        commit(NewMetadata::default(), at(10 + 3_600));
        assert!(store.read(|tx| super::file(tx, "1.fleet.json")).unwrap().is_some());
        commit(NewMetadata::default(), at(10 + 3_601));
        assert_eq!(names(store.read(files).unwrap()), ["2.fleet.json", "timestamp.json"]);
    }

    #[test]
    fn a_document_that_comes_back_is_not_dropped_with_its_first_life() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("repo.redb")).unwrap();
        let commit = |added: Option<u8>, replaced: Option<u8>, now| {
            let new = NewMetadata {
                documents: added.map(|byte| (sha(byte), vec![byte])).into_iter().collect(),
                replaced_documents: replaced.map(sha).into_iter().collect(),
                ..NewMetadata::default()
            };
            store.write(|tx| put(tx, &new, now)).unwrap();
        };
        commit(Some(1), None, at(0));
        commit(Some(2), Some(1), at(10));
        commit(Some(1), Some(2), at(20));
        commit(None, None, at(10_000));
        assert_eq!(store.read(|tx| document(tx, &sha(1))).unwrap(), Some(vec![1]));
        assert_eq!(store.read(|tx| document(tx, &sha(2))).unwrap(), None);
    }
}
