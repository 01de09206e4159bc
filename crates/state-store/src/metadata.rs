//! Trusted metadata files, the floor below which no role may go, and tombstones.

use crate::{StateError, StateStore, from_json, to_json};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use sluice_model::Tombstone;
use std::sync::Arc;

/// File name -> bytes as received.
const FILES: TableDefinition<&str, &[u8]> = TableDefinition::new("metadata_1");
/// Role name -> lowest version that may ever be trusted.
const FLOOR: TableDefinition<&str, u64> = TableDefinition::new("floor_1");
/// (serial, sha256 of the artifact) -> tombstone. Keyed by content as well, so that another tombstone under a known
/// serial adds to the set and never replaces anything.
const TOMBSTONES: TableDefinition<(u64, [u8; 32]), &[u8]> = TableDefinition::new("tombstones_1");

pub(crate) fn create_tables(transaction: &WriteTransaction) -> Result<(), StateError> {
    transaction.open_table(FILES)?;
    transaction.open_table(FLOOR)?;
    transaction.open_table(TOMBSTONES)?;
    Ok(())
}

/// A metadata file: its name, and its bytes as received.
pub type StoredFile = (String, Arc<[u8]>);

impl StateStore {
    /// Replaces the stored metadata files by `files` and adds `tombstones`, in one transaction.
    ///
    /// Files that are not in `files` are removed; tombstones never are.
    pub fn commit_metadata(&self, files: &[StoredFile], tombstones: &[Tombstone]) -> Result<(), StateError> {
        self.database.write(|transaction| {
            let mut table = transaction.open_table(FILES)?;
            table.retain(|name, _| files.iter().any(|(kept, _)| kept == name))?;
            for (name, bytes) in files {
                let is_same = table.get(name.as_str())?.is_some_and(|old| old.value() == &bytes[..]);
                if !is_same {
                    table.insert(name.as_str(), &bytes[..])?;
                }
            }
            let mut table = transaction.open_table(TOMBSTONES)?;
            for tombstone in tombstones {
                for content in &tombstone.content {
                    let key = (tombstone.serial, *content.sha256.as_bytes());
                    if table.get(key)?.is_none() {
                        table.insert(key, to_json(tombstone).as_slice())?;
                    }
                }
            }
            Ok(())
        })
    }

    /// The stored metadata files, by name.
    pub fn metadata_files(&self) -> Result<Vec<StoredFile>, StateError> {
        self.database.read(|transaction| {
            let mut files = Vec::new();
            for row in transaction.open_table(FILES)?.iter()? {
                let (name, bytes) = row?;
                files.push((name.value().to_owned(), Arc::from(bytes.value())));
            }
            Ok(files)
        })
    }

    /// Every tombstone ever committed, by serial.
    pub fn tombstones(&self) -> Result<Vec<Tombstone>, StateError> {
        self.database.read(|transaction| {
            let mut tombstones: Vec<Tombstone> = Vec::new();
            for row in transaction.open_table(TOMBSTONES)?.iter()? {
                let (_, bytes) = row?;
                let tombstone: Tombstone = from_json("tombstones_1", bytes.value())?;
                // Rows of one tombstone are neighbours, unless two share a serial.
                let is_known = tombstones
                    .iter()
                    .rev()
                    .take_while(|other| other.serial == tombstone.serial)
                    .any(|other| *other == tombstone);
                if !is_known {
                    tombstones.push(tombstone);
                }
            }
            Ok(tombstones)
        })
    }

    /// Raises the floor of each role named; one that is higher already stays.
    pub fn raise_floor(&self, floor: &[(String, u64)]) -> Result<(), StateError> {
        self.database.write(|transaction| {
            let mut table = transaction.open_table(FLOOR)?;
            for (role, version) in floor {
                let old = table.get(role.as_str())?.map_or(0, |old| old.value());
                if *version > old {
                    table.insert(role.as_str(), *version)?;
                }
            }
            Ok(())
        })
    }

    /// Role names and the lowest version of each that may be trusted.
    pub fn floor(&self) -> Result<Vec<(String, u64)>, StateError> {
        self.database.read(|transaction| {
            let mut floor = Vec::new();
            for row in transaction.open_table(FLOOR)?.iter()? {
                let (role, version) = row?;
                floor.push((role.value().to_owned(), version.value()));
            }
            Ok(floor)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::{ArtifactId, RetractedContent, Sha256, Timestamp};

    fn tombstone(serial: u64, hash: u8) -> Tombstone {
        Tombstone {
            schema: 1,
            serial,
            patch: "demo/1".parse().unwrap(),
            content: vec![
                RetractedContent { sha256: Sha256::from_bytes([hash; 32]), blake3: ArtifactId::from_bytes([hash; 32]) },
                RetractedContent {
                    sha256: Sha256::from_bytes([hash + 1; 32]),
                    blake3: ArtifactId::from_bytes([9; 32]),
                },
            ],
            reason: "bad".into(),
            by: "ann".parse().unwrap(),
            at: Timestamp::from_millis(1),
            approved: Default::default(),
        }
    }

    fn file(name: &str, bytes: &[u8]) -> (String, Arc<[u8]>) {
        (name.into(), Arc::from(bytes))
    }

    #[test]
    fn files_are_replaced_as_a_set_and_tombstones_only_grow() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let store = StateStore::open(&path).unwrap();
        store.commit_metadata(&[file("timestamp.json", b"1"), file("1.x.json", b"x")], &[tombstone(1, 10)]).unwrap();
        store.commit_metadata(&[file("timestamp.json", b"2")], &[]).unwrap();
        store.commit_metadata(&[file("timestamp.json", b"3")], &[tombstone(1, 20)]).unwrap();
        drop(store);

        let store = StateStore::open(&path).unwrap();
        assert_eq!(store.metadata_files().unwrap(), vec![file("timestamp.json", b"3")]);
        assert_eq!(
            store.tombstones().unwrap(),
            vec![tombstone(1, 10), tombstone(1, 20)],
            "another tombstone under a known serial adds to the set"
        );
    }

    #[test]
    fn the_floor_is_never_lowered() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path().join("state.redb")).unwrap();
        store.raise_floor(&[("timestamp".into(), 7), ("root".into(), 1)]).unwrap();
        store.raise_floor(&[("timestamp".into(), 3), ("root".into(), 2)]).unwrap();
        assert_eq!(store.floor().unwrap(), vec![("root".into(), 2), ("timestamp".into(), 7)]);
    }

    #[test]
    fn a_second_process_is_told_that_the_file_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let _held = StateStore::open(&path).unwrap();
        assert!(matches!(StateStore::open(&path), Err(StateError::InUse { .. })));
    }
}
