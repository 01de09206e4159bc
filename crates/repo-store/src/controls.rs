//! The control files of published packages, by the content of their `.deb`: what an index says of them besides the
//! signed rows.

use crate::{Reads, Rows, StoreError, WriteTx};
use sluice_model::Sha256;
use std::collections::BTreeMap;

/// SHA-256 of an artifact to its control file.
const CONTROLS: Rows<&[u8]> = Rows::new("controls_1");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(CONTROLS)
}

/// Keeps a control file. The same content has the same one.
pub fn put(tx: &WriteTx, artifact: &Sha256, control: &str) -> Result<(), StoreError> {
    tx.put(CONTROLS, artifact.as_bytes().as_slice(), &control)
}

/// Whether the control file of this content is kept.
pub fn has(tx: &impl Reads, artifact: &Sha256) -> Result<bool, StoreError> {
    Ok(tx.get_bytes(CONTROLS, artifact.as_bytes().as_slice())?.is_some())
}

/// The control files of these contents; those that are not kept are missing.
pub fn of<'a>(
    tx: &impl Reads,
    artifacts: impl Iterator<Item = &'a Sha256>,
) -> Result<BTreeMap<Sha256, String>, StoreError> {
    let mut found = BTreeMap::new();
    for artifact in artifacts {
        if let Some(control) = tx.get(CONTROLS, artifact.as_bytes().as_slice())? {
            found.insert(*artifact, control);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn a_control_file_is_read_back_after_a_restart_and_an_unknown_one_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repo.redb");
        let (known, unknown) = (Sha256::from_bytes([1; 32]), Sha256::from_bytes([2; 32]));
        let store = Store::open(&path).unwrap();
        store.write(|tx| put(tx, &known, "Package: jq\nDescription: ä\n")).unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        let found = store.read(|tx| of(tx, [known, unknown].iter())).unwrap();
        assert_eq!(found, BTreeMap::from([(known, "Package: jq\nDescription: ä\n".to_owned())]));
        assert!(store.read(|tx| has(tx, &known)).unwrap());
        assert!(!store.read(|tx| has(tx, &unknown)).unwrap());
    }
}
