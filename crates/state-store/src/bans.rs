//! Peers that sent wrong bytes, kept across restarts.

use crate::{StateError, StateStore, from_json, to_json};
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use sluice_model::{BanEvidence, MemberKey, Timestamp};

/// Most peers on the list: more than any site has members.
pub const BANS_MAX: u64 = 1_024;

/// Member key -> [`Ban`] as JSON.
const BANS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("bans_1");

/// A banned peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Whom.
    pub peer: MemberKey,
    /// When.
    pub at: Timestamp,
    /// Why, naming artifact and chunk.
    pub reason: String,
    /// What convicts the peer before others, when it signed what it sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<BanEvidence>,
    /// How often bans of the peer had been lifted when this one was made: a later lift voids it.
    #[serde(default)]
    pub lifts: u32,
}

pub(crate) fn create_tables(transaction: &WriteTransaction) -> Result<(), StateError> {
    transaction.open_table(BANS)?;
    Ok(())
}

impl StateStore {
    /// Bans `ban.peer`; the first reason stays when it is banned already.
    pub fn ban(&self, ban: &Ban) -> Result<(), StateError> {
        self.database.write(|transaction| {
            let mut table = transaction.open_table(BANS)?;
            if table.get(*ban.peer.as_bytes())?.is_some() {
                return Ok(());
            }
            if table.len()? >= BANS_MAX {
                return Err(StateError::Full { what: "the list of banned peers", max: BANS_MAX });
            }
            table.insert(*ban.peer.as_bytes(), to_json(ban).as_slice())?;
            Ok(())
        })
    }

    /// Forgets the ban of `peer`, which was lifted.
    pub fn unban(&self, peer: &MemberKey) -> Result<(), StateError> {
        self.database.write(|transaction| {
            transaction.open_table(BANS)?.remove(*peer.as_bytes())?;
            Ok(())
        })
    }

    /// Every banned peer.
    pub fn bans(&self) -> Result<Vec<Ban>, StateError> {
        self.database.read(|transaction| {
            let mut bans = Vec::new();
            for row in transaction.open_table(BANS)?.iter()? {
                bans.push(from_json("bans_1", row?.1.value())?);
            }
            Ok(bans)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_survives_a_restart_with_its_first_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let ban = |reason: &str| Ban {
            peer: MemberKey::from_bytes([3; 32]),
            at: Timestamp::from_millis(5),
            reason: reason.into(),
            evidence: Some(BanEvidence { statement: "c3Q=".into(), signature: "c2k=".into() }),
            lifts: 2,
        };
        let store = StateStore::open(&path).unwrap();
        store.ban(&ban("first")).unwrap();
        store.ban(&ban("second")).unwrap();
        drop(store);
        let store = StateStore::open(&path).unwrap();
        assert_eq!(store.bans().unwrap(), vec![ban("first")]);
        store.unban(&ban("").peer).unwrap();
        assert_eq!(store.bans().unwrap(), vec![]);
    }

    #[test]
    fn a_ban_of_an_earlier_version_has_no_evidence() {
        let peer = MemberKey::from_bytes([3; 32]);
        let old = format!(r#"{{"peer":"{peer}","at":5,"reason":"r"}}"#);
        let ban: Ban = from_json("bans_1", old.as_bytes()).unwrap();
        assert_eq!((ban.evidence, ban.lifts), (None, 0));
    }
}
