//! What a restore from a backup does to a change: it goes on from what the nodes held instead of what is served.

use super::{Draft, sha256_of};
use crate::operations::Failure;
use bytes::Bytes;
use sluice_metadata::{DocumentRef, RoleName, TargetEntry, View, Writer};
use sluice_model::{TargetName, Tombstone};
use std::collections::BTreeMap;

impl Draft {
    /// Version of the timestamp that is served.
    pub fn timestamp_version(&self) -> u64 {
        self.served.view.timestamp_version
    }

    /// Version of the timestamp that this change signs.
    pub fn next_timestamp_version(&self) -> u64 {
        self.writer.next_timestamp_version()
    }

    /// Goes on from verified files of this repository that are newer than what is served, with the documents at hand.
    pub fn take_over(&mut self, writer: Writer, documents: BTreeMap<TargetName, Bytes>) {
        self.taken_over = writer.trusted().files().into_iter().map(|(name, _)| name).collect();
        self.writer = writer;
        self.documents.extend(documents);
        self.changed = true;
    }

    /// Signs every role of this server anew, so many versions further.
    pub fn skip_versions(&mut self, count: u64) {
        self.writer.skip_versions(count);
        self.changed = true;
    }

    /// What waits for approvers' signatures was made from an older state: it is proposed again.
    pub fn drop_proposals(&mut self) {
        for ring in self.served.view.rings.clone() {
            self.proposals.remove(&ring);
        }
    }

    /// Whether the bytes of a document that newer metadata names are the ones that are served.
    pub fn has_document(&self, name: &TargetName, wanted: &DocumentRef) -> bool {
        self.served.view.documents.get(name) == Some(wanted)
    }

    /// Lists the served document of that name instead of a newer one whose bytes nobody has; `false` when there is none.
    /// One that nobody ever needs again leaves the list.
    pub fn keep_document(&mut self, role: &RoleName, name: &TargetName) -> Result<bool, Failure> {
        let mut entries = self.writer.entries(role).cloned().unwrap_or_default();
        let Some(bytes) = self.served.documents.get(name).cloned() else {
            if *role == RoleName::fleet() {
                entries.remove(name);
                self.set_entries(role, entries)?;
            }
            return Ok(false);
        };
        let entry = TargetEntry { length: bytes.len() as u64, sha256: sha256_of(&bytes), custom: None };
        entries.insert(name.clone(), entry);
        self.set_entries(role, entries)?;
        self.documents.insert(name.clone(), bytes);
        Ok(true)
    }

    /// Whether the retractions role lists this very tombstone, or has it in an archive.
    pub fn lists_tombstone(&self, tombstone: &Tombstone) -> bool {
        let Ok(view) = View::of(self.writer.trusted()) else { return false };
        let is_same = |known: &Tombstone| known.serial == tombstone.serial && known.content == tombstone.content;
        let is_archived = view.archives.iter().any(|archive| {
            let bytes = self.documents.get(&archive.target).or_else(|| self.served.documents.get(&archive.target));
            bytes.and_then(|bytes| archive.read(bytes).ok()).is_some_and(|found| found.iter().any(is_same))
        });
        is_archived || view.tombstones.iter().any(is_same)
    }

    /// The highest serial of the retractions role.
    pub fn highest_serial(&self) -> u64 {
        self.writer.highest_serial()
    }
}
