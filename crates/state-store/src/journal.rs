//! An agent's journal: its outcome reports until, and some days beyond, their acknowledgement.

use crate::{StateError, StateStore, from_json, to_json};
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use sluice_model::Timestamp;
use sluice_model::dsse::DsseEnvelope;

/// Most reports that wait for an acknowledgement: years of one endpoint's reports, and 16 MB at about 1.6 KiB each.
pub const JOURNAL_REPORTS_MAX: u64 = 10_000;
/// Most acknowledged reports that are kept for a repo server restored from a backup; the oldest go first.
const ACKNOWLEDGED_REPORTS_MAX: u64 = 10_000;

/// Room that reports whose acknowledgement is taken back leave for new ones.
const NEW_REPORTS_ROOM: u64 = 1_000;

/// (epoch, seq) -> envelope: not acknowledged yet.
const WAITING: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("journal_1");
/// (epoch, seq) -> (acknowledged at, envelope).
const ACKNOWLEDGED: TableDefinition<(u32, u64), (u64, &[u8])> = TableDefinition::new("journal_acknowledged_1");

/// One report of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Epoch of the endpoint's chain.
    pub epoch: u32,
    /// Number in the chain.
    pub seq: u64,
    /// The signed report.
    pub envelope: DsseEnvelope,
    /// When its acknowledgement was verified; `None` while it waits.
    pub acknowledged_at: Option<Timestamp>,
}

pub(crate) fn create_tables(transaction: &WriteTransaction) -> Result<(), StateError> {
    transaction.open_table(WAITING)?;
    transaction.open_table(ACKNOWLEDGED)?;
    Ok(())
}

impl StateStore {
    /// Adds report `seq` of `epoch`, durably.
    ///
    /// # Errors
    /// [`StateError::JournalConflict`] when that number is taken, [`StateError::Full`] at [`JOURNAL_REPORTS_MAX`].
    pub fn journal_append(&self, epoch: u32, seq: u64, envelope: &DsseEnvelope) -> Result<(), StateError> {
        self.database.write(|transaction| {
            let mut waiting = transaction.open_table(WAITING)?;
            let is_acknowledged = transaction.open_table(ACKNOWLEDGED)?.get((epoch, seq))?.is_some();
            if is_acknowledged || waiting.get((epoch, seq))?.is_some() {
                return Err(StateError::JournalConflict { epoch, seq });
            }
            if waiting.len()? >= JOURNAL_REPORTS_MAX {
                return Err(StateError::Full { what: "the journal", max: JOURNAL_REPORTS_MAX });
            }
            waiting.insert((epoch, seq), to_json(envelope).as_slice())?;
            Ok(())
        })
    }

    /// The newest report, acknowledged or not: the next one names its hash.
    pub fn journal_head(&self) -> Result<Option<JournalEntry>, StateError> {
        self.database.read(|transaction| {
            let mut head = None;
            if let Some(row) = transaction.open_table(ACKNOWLEDGED)?.last()? {
                let (at, bytes) = row.1.value();
                head = Some(entry(row.0.value(), bytes, Some(at))?);
            }
            if let Some(row) = transaction.open_table(WAITING)?.last()? {
                let waiting = entry(row.0.value(), row.1.value(), None)?;
                let is_newer = head.as_ref().is_none_or(|head| (waiting.epoch, waiting.seq) > (head.epoch, head.seq));
                if is_newer {
                    head = Some(waiting);
                }
            }
            Ok(head)
        })
    }

    /// At most `count_max` reports that wait for their acknowledgement, in order.
    pub fn journal_unacknowledged(&self, count_max: usize) -> Result<Vec<JournalEntry>, StateError> {
        self.database.read(|transaction| {
            let mut entries = Vec::new();
            for row in transaction.open_table(WAITING)?.iter()?.take(count_max) {
                let (key, bytes) = row?;
                entries.push(entry(key.value(), bytes.value(), None)?);
            }
            Ok(entries)
        })
    }

    /// At most `count_max` newest reports, newest first, whether acknowledged or not.
    pub fn journal_latest(&self, count_max: usize) -> Result<Vec<JournalEntry>, StateError> {
        self.database.read(|transaction| {
            let mut entries = Vec::new();
            for row in transaction.open_table(WAITING)?.iter()?.rev().take(count_max) {
                let (key, bytes) = row?;
                entries.push(entry(key.value(), bytes.value(), None)?);
            }
            for row in transaction.open_table(ACKNOWLEDGED)?.iter()?.rev().take(count_max) {
                let (key, value) = row?;
                let (at, bytes) = value.value();
                entries.push(entry(key.value(), bytes, Some(at))?);
            }
            entries.sort_by_key(|entry| std::cmp::Reverse((entry.epoch, entry.seq)));
            entries.truncate(count_max);
            Ok(entries)
        })
    }

    /// Marks every report of `epoch` up to `seq` as acknowledged; answers how many were waiting.
    ///
    /// The caller verified the acknowledgement.
    pub fn journal_acknowledge(&self, epoch: u32, seq: u64, now: Timestamp) -> Result<u64, StateError> {
        self.database.write(|transaction| {
            let mut waiting = transaction.open_table(WAITING)?;
            let mut acknowledged = transaction.open_table(ACKNOWLEDGED)?;
            let mut keys = Vec::new();
            for row in waiting.range((epoch, 0)..=(epoch, seq))? {
                let (key, bytes) = row?;
                acknowledged.insert(key.value(), (now.as_millis(), bytes.value()))?;
                keys.push(key.value());
            }
            for key in &keys {
                waiting.remove(*key)?;
            }
            while acknowledged.len()? > ACKNOWLEDGED_REPORTS_MAX {
                acknowledged.pop_first()?;
            }
            Ok(keys.len() as u64)
        })
    }

    /// The highest report of `epoch` whose acknowledgement was verified; 0 for none.
    pub fn journal_acknowledged_seq(&self, epoch: u32) -> Result<u64, StateError> {
        self.database.read(|transaction| {
            let table = transaction.open_table(ACKNOWLEDGED)?;
            let newest = table.range((epoch, 0)..=(epoch, u64::MAX))?.next_back().transpose()?;
            Ok(newest.map_or(0, |(key, _)| key.value().1))
        })
    }

    /// Takes the acknowledgement back from reports of `epoch` above `seq`, because the repo server lost them: they wait
    /// again, the oldest first, as many as there is room for. Answers the lowest and how many; `None` when none is kept.
    pub fn journal_reopen(&self, epoch: u32, seq: u64) -> Result<Option<(u64, u64)>, StateError> {
        self.database.write(|transaction| {
            let mut waiting = transaction.open_table(WAITING)?;
            let mut acknowledged = transaction.open_table(ACKNOWLEDGED)?;
            let room = (JOURNAL_REPORTS_MAX - NEW_REPORTS_ROOM).saturating_sub(waiting.len()?);
            let mut keys = Vec::new();
            let from = (epoch, seq.saturating_add(1));
            for row in acknowledged.range(from..=(epoch, u64::MAX))?.take(usize::try_from(room).unwrap_or(0)) {
                let (key, value) = row?;
                waiting.insert(key.value(), value.value().1)?;
                keys.push(key.value());
            }
            for key in &keys {
                acknowledged.remove(*key)?;
            }
            Ok(keys.first().map(|(_, lowest)| (*lowest, keys.len() as u64)))
        })
    }

    /// Drops reports that wait in epochs before `epoch`: the machine enrolled anew, and no repo server takes them any
    /// more. Answers how many.
    pub fn journal_close_before(&self, epoch: u32) -> Result<u64, StateError> {
        self.database.write(|transaction| {
            let mut table = transaction.open_table(WAITING)?;
            let count = table.len()?;
            table.retain_in(..(epoch, 0), |_, _| false)?;
            Ok(count - table.len()?)
        })
    }

    /// Drops everything: the machine has another key, and these are another chain's. Answers how many waited.
    pub fn journal_clear(&self) -> Result<u64, StateError> {
        self.database.write(|transaction| {
            let mut waiting = transaction.open_table(WAITING)?;
            let count = waiting.len()?;
            waiting.retain(|_, _| false)?;
            transaction.open_table(ACKNOWLEDGED)?.retain(|_, _| false)?;
            Ok(count)
        })
    }

    /// Drops reports that were acknowledged before `before`, except the newest, which the next one builds on.
    pub fn journal_prune(&self, before: Timestamp) -> Result<u64, StateError> {
        self.database.write(|transaction| {
            let mut table = transaction.open_table(ACKNOWLEDGED)?;
            let newest = table.last()?.map(|row| row.0.value());
            let count = table.len()?;
            table.retain(|key, (at, _)| at >= before.as_millis() || Some(key) == newest)?;
            Ok(count - table.len()?)
        })
    }
}

fn entry((epoch, seq): (u32, u64), bytes: &[u8], acknowledged_at: Option<u64>) -> Result<JournalEntry, StateError> {
    Ok(JournalEntry {
        epoch,
        seq,
        envelope: from_json("journal_1", bytes)?,
        acknowledged_at: acknowledged_at.map(Timestamp::from_millis),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(text: &str) -> DsseEnvelope {
        DsseEnvelope { payload_type: "t".into(), payload: text.into(), signatures: Vec::new() }
    }

    #[test]
    fn acknowledging_takes_the_oldest_out_in_order_and_the_head_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let store = StateStore::open(&path).unwrap();
        assert_eq!(store.journal_head().unwrap(), None);
        for seq in 1..=5 {
            store.journal_append(1, seq, &envelope(&seq.to_string())).unwrap();
        }
        assert!(matches!(
            store.journal_append(1, 3, &envelope("other")),
            Err(StateError::JournalConflict { epoch: 1, seq: 3 })
        ));
        assert_eq!(store.journal_acknowledge(1, 3, Timestamp::from_millis(100)).unwrap(), 3);
        assert_eq!(store.journal_acknowledge(1, 3, Timestamp::from_millis(200)).unwrap(), 0);
        drop(store);

        let store = StateStore::open(&path).unwrap();
        let waiting: Vec<u64> = store.journal_unacknowledged(10).unwrap().iter().map(|entry| entry.seq).collect();
        assert_eq!(waiting, [4, 5]);
        store.journal_acknowledge(1, 5, Timestamp::from_millis(300)).unwrap();
        assert_eq!(store.journal_prune(Timestamp::from_millis(1_000)).unwrap(), 4, "the newest stays");
        let head = store.journal_head().unwrap().unwrap();
        assert_eq!((head.seq, head.acknowledged_at), (5, Some(Timestamp::from_millis(300))));
        assert_eq!(store.journal_latest(3).unwrap().len(), 1);
    }

    #[test]
    fn what_a_restored_repo_server_lost_waits_again_and_a_closed_epoch_waits_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path().join("state.redb")).unwrap();
        for seq in 1..=6 {
            store.journal_append(1, seq, &envelope(&seq.to_string())).unwrap();
        }
        store.journal_acknowledge(1, 5, Timestamp::from_millis(100)).unwrap();
        assert_eq!(store.journal_acknowledged_seq(1).unwrap(), 5);
        assert_eq!(store.journal_reopen(1, 2).unwrap(), Some((3, 3)));
        assert_eq!((store.journal_acknowledged_seq(1).unwrap(), store.journal_reopen(1, 2).unwrap()), (2, None));
        let waiting = store.journal_unacknowledged(10).unwrap();
        let seqs: Vec<u64> = waiting.iter().map(|entry| entry.seq).collect();
        assert_eq!((seqs, &waiting[0].envelope), (vec![3, 4, 5, 6], &envelope("3")));
        store.journal_append(2, 1, &envelope("new")).unwrap();
        assert_eq!(store.journal_close_before(2).unwrap(), 4);
        assert_eq!(store.journal_unacknowledged(10).unwrap().len(), 1);
        assert_eq!(store.journal_acknowledged_seq(2).unwrap(), 0);
        assert_eq!((store.journal_clear().unwrap(), store.journal_head().unwrap()), (1, None));
    }
}
