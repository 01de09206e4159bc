//! Outcome reports on their way from endpoints to the repo server.
//!
//! Appends go through one task that commits all that are waiting in one transaction, so that a hundred endpoints that
//! report at once cost one sync of the disk. An append is acknowledged after that commit.
//!
//! Invariants
//! - An append that answered `Ok` survives a crash and leaves only through [`StateStore::settle_spool`].
//! - A report that is in the spool is not stored again: an endpoint that repeats itself costs nothing.
//! - Urgent reports are carried first, each after every earlier one of its endpoint: the order of one endpoint's reports
//!   never changes.
//! - At most [`SPOOL_REPORTS_MAX`] reports; then [`StateError::Full`], and nothing that is stored is dropped.

use crate::acknowledgements::{self, StoredAcknowledgement};
use crate::{StateError, StateStore, from_json, to_json};
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use sluice_model::EndpointId;
use sluice_model::dsse::DsseEnvelope;
use sluice_model::limits::SPOOL_REPORTS_MAX;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Position (grows) -> envelope as JSON.
const SPOOL: TableDefinition<u64, &[u8]> = TableDefinition::new("spool_1");
/// Signature of the report -> position. Ed25519 is deterministic, so a repeated report has the same signature.
const BY_SIGNATURE: TableDefinition<&str, u64> = TableDefinition::new("spool_signatures_1");

/// Appends that wait for the writer: one for each endpoint connection that the device listener serves at once.
const QUEUE_APPENDS_MAX: usize = 256;
/// Appends of one transaction: 64 batches of 100 reports of 16 KiB are 100 MB at the very worst, 10 MB usually.
const GROUP_APPENDS_MAX: usize = 64;

/// Position -> the endpoint whose report it is.
const ENDPOINT_OF: TableDefinition<u64, [u8; 32]> = TableDefinition::new("spool_endpoints_1");
/// (endpoint, position): the reports of one endpoint in their order.
const BY_ENDPOINT: TableDefinition<([u8; 32], u64), ()> = TableDefinition::new("spool_by_endpoint_1");
/// Positions that are carried before all others: urgent reports, and those that must go before them.
const URGENT: TableDefinition<u64, ()> = TableDefinition::new("spool_urgent_1");

/// A report whose signature the caller verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReport {
    /// Whose.
    pub endpoint: EndpointId,
    /// It overtakes reports of other endpoints that are not.
    pub is_urgent: bool,
    /// The report.
    pub envelope: DsseEnvelope,
}

struct Append {
    reports: Vec<NewReport>,
    done: oneshot::Sender<Result<u64, StateError>>,
}

/// Appends to the spool. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool {
    queue: mpsc::Sender<Append>,
}

/// Commits what was appended; the program spawns [`SpoolTask::run`].
#[derive(Debug)]
pub struct SpoolTask {
    store: StateStore,
    queue: mpsc::Receiver<Append>,
}

/// A report that waits for the repo server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpooledReport {
    /// Its place; what [`StateStore::settle_spool`] takes.
    pub position: u64,
    /// The report.
    pub envelope: DsseEnvelope,
}

pub(crate) fn create_tables(transaction: &WriteTransaction) -> Result<(), StateError> {
    transaction.open_table(SPOOL)?;
    transaction.open_table(BY_SIGNATURE)?;
    transaction.open_table(ENDPOINT_OF)?;
    transaction.open_table(BY_ENDPOINT)?;
    transaction.open_table(URGENT)?;
    Ok(())
}

impl Spool {
    /// Stores `reports`, in order, all or none; returns after they are durable, with how many they were.
    ///
    /// Dropping the future does not take the reports back. The caller verified their signatures.
    ///
    /// # Errors
    /// [`StateError::Full`] at the bound, [`StateError::Database`] when the disk failed, [`StateError::Closed`] at the
    /// program's end.
    pub async fn append(&self, reports: Vec<NewReport>) -> Result<u64, StateError> {
        let (done, result) = oneshot::channel();
        self.queue.send(Append { reports, done }).await.map_err(|_| StateError::Closed)?;
        result.await.map_err(|_| StateError::Closed)?
    }
}

impl SpoolTask {
    /// Commits appends until `stop`, then those that are waiting.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), StateError> {
        loop {
            let first = tokio::select! {
                first = self.queue.recv() => first,
                () = stop.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
            };
            let Some(first) = first else { return Ok(()) };
            let mut group = vec![first];
            while group.len() < GROUP_APPENDS_MAX
                && let Ok(next) = self.queue.try_recv()
            {
                group.push(next);
            }
            let store = self.store.clone();
            let committed = tokio::task::spawn_blocking(move || store.commit_group(group)).await;
            if committed.is_err() {
                tracing::error!("a commit of the spool panicked; its reports were not acknowledged");
            }
        }
    }
}

impl StateStore {
    /// The spool's front and its writer. Call it once: two writers would be correct but would not share their syncs.
    pub fn spool(&self) -> (Spool, SpoolTask) {
        let (sender, receiver) = mpsc::channel(QUEUE_APPENDS_MAX);
        (Spool { queue: sender }, SpoolTask { store: self.clone(), queue: receiver })
    }

    fn commit_group(&self, group: Vec<Append>) {
        let outcome = self.database.write(|transaction| {
            let mut results = Vec::with_capacity(group.len());
            for append in &group {
                results.push(append_one(transaction, &append.reports)?);
            }
            Ok(results)
        });
        match outcome {
            Ok(results) => {
                for (append, is_stored) in group.into_iter().zip(results) {
                    let result = if is_stored {
                        Ok(append.reports.len() as u64)
                    } else {
                        Err(StateError::Full { what: "the spool", max: SPOOL_REPORTS_MAX })
                    };
                    // A caller that went away keeps its report spooled: that is what it asked for.
                    drop(append.done.send(result));
                }
            }
            Err(error) => {
                tracing::error!(error = ?error, appends = group.len(), "the spool could not be written");
                for append in group {
                    let io = std::io::Error::new(
                        if error.is_disk_full() { std::io::ErrorKind::StorageFull } else { std::io::ErrorKind::Other },
                        "the spool could not be written",
                    );
                    drop(append.done.send(Err(StateError::Database(Box::new(redb::Error::Io(io))))));
                }
            }
        }
    }

    /// The reports to carry next, at most `count_max`: urgent ones, then the oldest.
    pub fn next_spooled(&self, count_max: usize) -> Result<Vec<SpooledReport>, StateError> {
        self.database.read(|transaction| {
            let spool = transaction.open_table(SPOOL)?;
            let urgent = transaction.open_table(URGENT)?;
            let mut reports = Vec::new();
            let report = |position: u64, bytes: &[u8]| {
                Ok::<_, StateError>(SpooledReport { position, envelope: from_json("spool_1", bytes)? })
            };
            for row in urgent.iter()?.take(count_max) {
                let position = row?.0.value();
                if let Some(bytes) = spool.get(position)? {
                    reports.push(report(position, bytes.value())?);
                }
            }
            for row in spool.iter()? {
                if reports.len() >= count_max {
                    break;
                }
                let (position, bytes) = row?;
                if urgent.get(position.value())?.is_none() {
                    reports.push(report(position.value(), bytes.value())?);
                }
            }
            Ok(reports)
        })
    }

    /// How many reports wait.
    pub fn spooled_count(&self) -> Result<u64, StateError> {
        self.database.read(|transaction| Ok(transaction.open_table(SPOOL)?.len()?))
    }

    /// The repo server has these: removes them and stores its acknowledgements, in one transaction.
    pub fn settle_spool(&self, positions: &[u64], acks: &[StoredAcknowledgement]) -> Result<(), StateError> {
        self.database.write(|transaction| {
            let mut spool = transaction.open_table(SPOOL)?;
            let mut by_signature = transaction.open_table(BY_SIGNATURE)?;
            for position in positions {
                leave_order(transaction, *position)?;
                let Some(row) = spool.remove(position)? else { continue };
                let envelope: DsseEnvelope = from_json("spool_1", row.value())?;
                if let Some(signature) = signature_of(&envelope) {
                    by_signature.remove(signature)?;
                }
            }
            drop((spool, by_signature));
            acknowledgements::store(transaction, acks)
        })
    }
}

fn signature_of(envelope: &DsseEnvelope) -> Option<&str> {
    envelope.signatures.first().map(|signature| signature.sig.as_str())
}

/// `false`: it does not fit, and nothing of it was stored.
fn append_one(transaction: &WriteTransaction, reports: &[NewReport]) -> Result<bool, StateError> {
    let mut spool = transaction.open_table(SPOOL)?;
    let mut by_signature = transaction.open_table(BY_SIGNATURE)?;
    let mut fresh = Vec::with_capacity(reports.len());
    for report in reports {
        let is_known = match signature_of(&report.envelope) {
            Some(signature) => by_signature.get(signature)?.is_some(),
            None => false,
        };
        if !is_known {
            fresh.push(report);
        }
    }
    if spool.len()? + fresh.len() as u64 > SPOOL_REPORTS_MAX {
        return Ok(false);
    }
    let first = spool.last()?.map_or(0, |row| row.0.value() + 1);
    for (position, report) in (first..).zip(fresh) {
        if let Some(signature) = signature_of(&report.envelope) {
            by_signature.insert(signature, position)?;
        }
        spool.insert(position, to_json(&report.envelope).as_slice())?;
        enter_order(transaction, position, report)?;
    }
    Ok(true)
}

/// An urgent report takes along what its endpoint said before: at most what one endpoint has here.
fn enter_order(transaction: &WriteTransaction, position: u64, report: &NewReport) -> Result<(), StateError> {
    let endpoint = *report.endpoint.as_bytes();
    transaction.open_table(ENDPOINT_OF)?.insert(position, endpoint)?;
    let mut by_endpoint = transaction.open_table(BY_ENDPOINT)?;
    by_endpoint.insert((endpoint, position), ())?;
    if report.is_urgent {
        let mut urgent = transaction.open_table(URGENT)?;
        for row in by_endpoint.range((endpoint, 0)..=(endpoint, position))?.rev() {
            let earlier = row?.0.value().1;
            if urgent.insert(earlier, ())?.is_some() {
                // Everything before it was taken along already.
                break;
            }
        }
    }
    Ok(())
}

fn leave_order(transaction: &WriteTransaction, position: u64) -> Result<(), StateError> {
    transaction.open_table(URGENT)?.remove(position)?;
    let endpoint = transaction.open_table(ENDPOINT_OF)?.remove(position)?.map(|row| row.value());
    if let Some(endpoint) = endpoint {
        transaction.open_table(BY_ENDPOINT)?.remove((endpoint, position))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::dsse::DsseSignature;

    fn new(number: u64) -> NewReport {
        NewReport { endpoint: EndpointId::from_bytes([1; 32]), is_urgent: false, envelope: report(number) }
    }

    fn report(number: u64) -> DsseEnvelope {
        DsseEnvelope {
            payload_type: "t".into(),
            payload: number.to_string(),
            signatures: vec![DsseSignature { keyid: "k".into(), sig: format!("s{number}") }],
        }
    }

    #[tokio::test]
    async fn reports_come_back_in_order_and_a_repeated_one_is_stored_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path().join("state.redb")).unwrap();
        let (spool, task) = store.spool();
        let stop = CancellationToken::new();
        let running = task.run(stop.clone());
        let work = async {
            spool.append(vec![new(1), new(2)]).await.unwrap();
            assert_eq!(spool.append(vec![new(2), new(3)]).await.unwrap(), 2);
            assert_eq!(store.spooled_count().unwrap(), 3);
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(running, work);
        ended.unwrap();
        assert!(matches!(spool.append(vec![new(4)]).await, Err(StateError::Closed)));

        let waiting = store.next_spooled(2).unwrap();
        assert_eq!(waiting.iter().map(|row| row.envelope.clone()).collect::<Vec<_>>(), [report(1), report(2)]);
        let endpoint = EndpointId::from_bytes([1; 32]);
        let ack = |seq| StoredAcknowledgement { endpoint, epoch: 1, seq, bytes: vec![seq as u8] };
        let positions: Vec<u64> = waiting.iter().map(|row| row.position).collect();
        store.settle_spool(&positions, &[ack(2)]).unwrap();
        store.settle_spool(&[], &[ack(1)]).unwrap();
        assert_eq!(store.spooled_count().unwrap(), 1);
        assert_eq!(store.acknowledgements(&endpoint).unwrap(), [ack(1)], "the repo server's last word stands");
    }

    #[tokio::test]
    async fn a_failure_overtakes_the_successes_of_others_and_never_what_its_endpoint_said_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let store = StateStore::open(&path).unwrap();
        let (spool, task) = store.spool();
        let stop = CancellationToken::new();
        let running = task.run(stop.clone());
        let of = |endpoint: u8, number: u64, is_urgent| NewReport {
            endpoint: EndpointId::from_bytes([endpoint; 32]),
            is_urgent,
            envelope: report(number),
        };
        let work = async {
            for (endpoint, number, is_urgent) in
                [(1, 1, false), (2, 2, false), (1, 3, false), (2, 4, true), (3, 5, true), (2, 6, false), (2, 7, true)]
            {
                spool.append(vec![of(endpoint, number, is_urgent)]).await.unwrap();
            }
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(running, work);
        ended.unwrap();
        drop((store, spool));
        let store = StateStore::open(&path).unwrap();
        let next = |count| store.next_spooled(count).unwrap();
        let numbers = |rows: &[SpooledReport]| rows.iter().map(|row| row.envelope.payload.clone()).collect::<Vec<_>>();
        assert_eq!(numbers(&next(10)), ["2", "4", "5", "6", "7", "1", "3"]);
        assert_eq!(numbers(&next(3)), ["2", "4", "5"]);
        let positions: Vec<u64> = next(4).iter().map(|row| row.position).collect();
        store.settle_spool(&positions, &[]).unwrap();
        assert_eq!(numbers(&next(10)), ["7", "1", "3"]);
        assert_eq!(store.spooled_count().unwrap(), 3);
    }

    #[test]
    fn a_full_spool_refuses_whole_batches_and_keeps_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path().join("state.redb")).unwrap();
        store
            .database
            .write(|transaction| {
                let mut spool = transaction.open_table(SPOOL)?;
                for position in 0..SPOOL_REPORTS_MAX - 1 {
                    spool.insert(position, &b"{}"[..])?;
                }
                Ok(())
            })
            .unwrap();
        let append = |reports: Vec<NewReport>| {
            let (done, mut result) = oneshot::channel();
            store.commit_group(vec![Append { reports, done }]);
            result.try_recv().unwrap()
        };
        assert!(matches!(append(vec![new(1), new(2)]), Err(StateError::Full { .. })));
        assert_eq!(append(vec![new(1)]).unwrap(), 1);
        assert!(matches!(append(vec![new(2)]), Err(StateError::Full { .. })));
        assert_eq!(append(vec![new(1)]).unwrap(), 1, "a repeated report needs no room");
        assert_eq!(store.spooled_count().unwrap(), SPOOL_REPORTS_MAX);
    }
}
