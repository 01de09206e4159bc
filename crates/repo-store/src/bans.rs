//! Banned members with the evidence that convicted them, and false accusations by whom they came.

use crate::{Reads, Rows, StoreError, WriteTx};
use serde::{Deserialize, Serialize};
use sluice_model::{BanEvidence, MemberKey, PersonName, Timestamp};

const BANS: Rows<&[u8]> = Rows::new("bans_1");
const FALSE_EVIDENCE: Rows<&[u8]> = Rows::new("false_evidence_1");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(BANS)?;
    tx.create(FALSE_EVIDENCE)
}

/// What is known against a member; never forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRecord {
    /// Whom.
    pub key: MemberKey,
    /// When the evidence was found good.
    pub since: Timestamp,
    /// Who brought it.
    pub accuser: MemberKey,
    /// The evidence, raw.
    pub evidence: BanEvidence,
    /// Set when the ban no longer holds.
    pub lifted: Option<Lifted>,
    /// How often a ban of this member was lifted.
    pub lifts: u32,
    /// BLAKE3 of statements that were lifted, the newest last: they do not ban again.
    pub spent: Vec<[u8; 32]>,
}

/// The end of a ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifted {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: PersonName,
    /// Why.
    pub reason: String,
}

/// Evidence of a node that convicted nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FalseEvidenceRecord {
    /// Who sent it.
    pub node: MemberKey,
    /// How often.
    pub count: u64,
    /// The last time.
    pub last_at: Timestamp,
    /// Why it convicted nobody.
    pub last_reason: String,
}

/// Writes a ban, replacing the older record of its member.
pub fn put(tx: &WriteTx, ban: &BanRecord) -> Result<(), StoreError> {
    tx.put(BANS, ban.key.as_bytes().as_slice(), ban)
}

/// What is known against that member.
pub fn get(tx: &impl Reads, key: &MemberKey) -> Result<Option<BanRecord>, StoreError> {
    tx.get(BANS, key.as_bytes().as_slice())
}

/// Every record by key, lifted ones too.
pub fn list(tx: &impl Reads) -> Result<Vec<BanRecord>, StoreError> {
    tx.list::<&[u8], &[u8], _>(BANS, .., usize::MAX)
}

/// Counts one more false accusation by `node` and gives the number of them.
pub fn count_false(tx: &WriteTx, node: MemberKey, at: Timestamp, reason: String) -> Result<u64, StoreError> {
    let before: Option<FalseEvidenceRecord> = tx.get(FALSE_EVIDENCE, node.as_bytes().as_slice())?;
    let count = before.map_or(0, |record| record.count).saturating_add(1);
    let record = FalseEvidenceRecord { node, count, last_at: at, last_reason: reason };
    tx.put(FALSE_EVIDENCE, node.as_bytes().as_slice(), &record)?;
    Ok(count)
}

/// How often `node` accused falsely.
pub fn false_count(tx: &impl Reads, node: &MemberKey) -> Result<u64, StoreError> {
    let record: Option<FalseEvidenceRecord> = tx.get(FALSE_EVIDENCE, node.as_bytes().as_slice())?;
    Ok(record.map_or(0, |record| record.count))
}

/// Every node that accused falsely.
pub fn false_evidence(tx: &impl Reads) -> Result<Vec<FalseEvidenceRecord>, StoreError> {
    tx.list::<&[u8], &[u8], _>(FALSE_EVIDENCE, .., usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn bans_and_false_accusations_survive_a_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repo.redb");
        let (key, accuser) = (MemberKey::from_bytes([1; 32]), MemberKey::from_bytes([2; 32]));
        let at = Timestamp::from_millis(5);
        let ban = BanRecord {
            key,
            since: at,
            accuser,
            evidence: BanEvidence { statement: "c3Q=".into(), signature: "c2k=".into() },
            lifted: Some(Lifted { at, by: "ann".parse().unwrap(), reason: "new disk".into() }),
            lifts: 1,
            spent: vec![[3; 32]],
        };
        let store = Store::open(&path).unwrap();
        store.write(|tx| put(tx, &ban)).unwrap();
        assert_eq!(store.write(|tx| count_false(tx, accuser, at, "first".into())).unwrap(), 1);
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.write(|tx| count_false(tx, accuser, at, "second".into())).unwrap(), 2);
        store
            .read(|tx| {
                assert_eq!(get(tx, &key)?, Some(ban.clone()));
                assert_eq!(list(tx)?, [ban]);
                assert_eq!(false_evidence(tx)?[0].last_reason, "second");
                Ok::<_, StoreError>(())
            })
            .unwrap();
    }
}
