//! Patches with their artifacts and approvals, and the tombstones of retracted ones.

use crate::{Reads, Rows, StoreError, WriteTx};
use serde::{Deserialize, Serialize};
use sluice_model::{
    ArtifactId, ArtifactKind, Cve, DebFields, ManifestId, ManifestRef, PackageName, PatchRef, PersonName, RingName,
    Severity, Sha256, Sha512, Timestamp, Tombstone,
};

const PATCHES: Rows<(&str, &str)> = Rows::new("patches_1");
const TOMBSTONES: Rows<u64> = Rows::new("tombstones_1");
/// SHA-256 of a retracted artifact to the serial of its first tombstone.
const RETRACTED: Rows<&[u8]> = Rows::new("retracted_sha256_1");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(PATCHES)?;
    tx.create(TOMBSTONES)?;
    tx.create(RETRACTED)
}

/// A patch as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchRecord {
    /// Name and version.
    pub patch: PatchRef,
    /// How bad it is not to have it.
    pub severity: Severity,
    /// What it mends.
    pub cves: Vec<Cve>,
    /// Patches that it replaces.
    pub supersedes: Vec<PatchRef>,
    /// Who published it; never its approver.
    pub published_by: PersonName,
    /// When.
    pub published_at: Timestamp,
    /// In the order given: the order of the set.
    pub artifacts: Vec<ArtifactRecord>,
    /// Rings that it was approved into, oldest first.
    pub approvals: Vec<ApprovalRecord>,
    /// Serial of the tombstone that retracted it.
    pub retraction: Option<u64>,
}

/// One artifact of a patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ArtifactRecord {
    pub file_name: String,
    pub length: u64,
    pub sha256: Sha256,
    pub sha512: Sha512,
    pub blake3: ArtifactId,
    pub manifest: ManifestId,
    pub manifest_length: u64,
    pub chunker: String,
    pub chunk_count: u32,
    pub package: PackageName,
    pub package_version: String,
    pub architecture: String,
}

impl ArtifactRecord {
    /// What signed metadata says of the manifest.
    pub fn manifest_ref(&self) -> ManifestRef {
        ManifestRef { blake3: self.manifest, length: self.manifest_length, chunker: self.chunker.clone() }
    }

    /// What signed metadata says of the package.
    pub fn kind(&self) -> ArtifactKind {
        ArtifactKind::Deb(DebFields {
            package: self.package.clone(),
            version: self.package_version.clone(),
            architecture: self.architecture.clone(),
        })
    }
}

/// An approval into a ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ApprovalRecord {
    pub ring: RingName,
    pub by: PersonName,
    pub at: Timestamp,
    /// `approved_serial` of its rows.
    pub serial: u64,
    /// Version of the release role that first listed it.
    pub release_version: u64,
}

/// The patch of that name and version.
pub fn get(tx: &impl Reads, patch: &PatchRef) -> Result<Option<PatchRecord>, StoreError> {
    tx.get(PATCHES, (patch.name.as_str(), patch.version.as_str()))
}

/// Every patch, by name and version.
pub fn list(tx: &impl Reads) -> Result<Vec<PatchRecord>, StoreError> {
    tx.list::<(&str, &str), (&str, &str), _>(PATCHES, .., usize::MAX)
}

/// How many patches there are.
pub fn count(tx: &impl Reads) -> Result<u64, StoreError> {
    tx.count(PATCHES)
}

/// Writes the patch, replacing its older record.
pub fn put(tx: &WriteTx, patch: &PatchRecord) -> Result<(), StoreError> {
    tx.put(PATCHES, (patch.patch.name.as_str(), patch.patch.version.as_str()), patch)
}

/// Writes a tombstone and blocks its content for good.
pub fn put_tombstone(tx: &WriteTx, tombstone: &Tombstone) -> Result<(), StoreError> {
    tx.put(TOMBSTONES, tombstone.serial, tombstone)?;
    for content in &tombstone.content {
        let key = content.sha256.as_bytes().as_slice();
        if tx.get::<&[u8], u64>(RETRACTED, key)?.is_none() {
            tx.put(RETRACTED, key, &tombstone.serial)?;
        }
    }
    Ok(())
}

/// The tombstone of that serial.
pub fn tombstone(tx: &impl Reads, serial: u64) -> Result<Option<Tombstone>, StoreError> {
    tx.get(TOMBSTONES, serial)
}

/// Every tombstone, oldest first.
pub fn tombstones(tx: &impl Reads) -> Result<Vec<Tombstone>, StoreError> {
    tx.list::<u64, u64, _>(TOMBSTONES, .., usize::MAX)
}

/// The serial of the tombstone that blocks this content.
pub fn retracted_by(tx: &impl Reads, sha256: &Sha256) -> Result<Option<u64>, StoreError> {
    tx.get(RETRACTED, sha256.as_bytes().as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use sluice_model::RetractedContent;

    #[test]
    fn patches_and_tombstones_are_read_back_and_content_stays_blocked_by_its_first_tombstone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repo.redb");
        let store = Store::open(&path).unwrap();
        let (sha256, blake3) = (Sha256::from_bytes([1; 32]), ArtifactId::from_bytes([2; 32]));
        let artifact = ArtifactRecord {
            file_name: "jq_1%3a1.6_amd64.deb".into(),
            length: 7,
            sha256,
            sha512: Sha512::from_bytes([3; 64]),
            blake3,
            manifest: ManifestId::from_bytes([4; 32]),
            manifest_length: 52,
            chunker: "fastcdc-2020/64K-256K-1M".into(),
            chunk_count: 1,
            package: "jq".parse().unwrap(),
            package_version: "1:1.6".into(),
            architecture: "amd64".into(),
        };
        let approval = ApprovalRecord {
            ring: "pilot".parse().unwrap(),
            by: "bob".parse().unwrap(),
            at: Timestamp::from_millis(9),
            serial: 3,
            release_version: 4,
        };
        let patch = PatchRecord {
            patch: "jq/1:1.6~rc1".parse().unwrap(),
            severity: Severity::High,
            cves: vec!["CVE-2026-12345".parse().unwrap()],
            supersedes: vec!["jq/1.5".parse().unwrap()],
            published_by: "paul".parse().unwrap(),
            published_at: Timestamp::from_millis(8),
            artifacts: vec![artifact],
            approvals: vec![approval],
            retraction: Some(1),
        };
        let tombstone = |serial| Tombstone {
            schema: 1,
            serial,
            patch: patch.patch.clone(),
            content: vec![RetractedContent { sha256, blake3 }],
            reason: "it eats files".into(),
            by: "bob".parse().unwrap(),
            at: Timestamp::from_millis(10),
            approved: Default::default(),
        };
        store
            .write(|tx| {
                put(tx, &patch)?;
                put_tombstone(tx, &tombstone(1))?;
                put_tombstone(tx, &tombstone(2))
            })
            .unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.read(|tx| get(tx, &patch.patch)).unwrap().as_ref(), Some(&patch));
        assert_eq!(store.read(tombstones).unwrap(), [tombstone(1), tombstone(2)]);
        assert_eq!(store.read(|tx| retracted_by(tx, &sha256)).unwrap(), Some(1));
        assert_eq!(store.read(|tx| retracted_by(tx, &Sha256::from_bytes([9; 32]))).unwrap(), None);
    }
}
