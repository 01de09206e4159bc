//! Where verified outcome reports become durable, and are counted once.
//!
//! One redb file, one writing task. Reports come with their signature already verified; [`ComplianceStore::ingest`]
//! merges them by `sluice_compliance` and answers when they are durable. Facts, standings and counters are kept in the
//! transaction of the report that changed them, so a dashboard reads counters and never reports.
//!
//! Invariants
//! - What was acknowledged is in the file after a crash at any later point, and counts once however often it comes.
//! - A counter is the number of pairs with that standing, at every commit.
//! - After an I/O error the file is opened anew; a file that cannot be read is an error, never an empty file.

mod database;
mod error;
mod ingest;
mod quarantine;
mod query;
mod record;
mod withheld;
mod writer;

pub use error::StoreError;
pub use ingest::{Acknowledged, Ingested, NewOutcome};
pub use query::{OutcomeFilter, Page, Tally};
pub use record::{ChainState, Heard, Outcome, Pair, Quarantine, Withheld};
pub use writer::WriterTask;

use database::Reopening;
use sluice_model::EndpointId;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;
use writer::Command;

/// Handle of the store; cheap to clone.
#[derive(Clone)]
pub struct ComplianceStore {
    database: Arc<Reopening>,
    commands: mpsc::Sender<Command>,
}

impl ComplianceStore {
    /// Opens or creates the file at `path`. Nothing is taken in until [`WriterTask::run`] runs.
    pub fn open(path: &Path) -> Result<(Self, WriterTask), StoreError> {
        Self::over(Reopening::file(path)?)
    }

    fn over(database: Reopening) -> Result<(Self, WriterTask), StoreError> {
        database.write(record::create_tables)?;
        let database = Arc::new(database);
        let (commands, task) = writer::channel(database.clone());
        Ok((Self { database, commands }, task))
    }

    /// Merges reports and answers when they are durable: one verdict each, in order, and what may be acknowledged.
    ///
    /// Waits while the queue is full. Dropping the future does not undo what was handed over.
    pub async fn ingest(&self, reports: Vec<NewOutcome>) -> Result<Ingested, Arc<StoreError>> {
        writer::send(&self.commands, |answer| Command::Ingest { reports, answer }).await
    }

    /// Takes an endpoint out of every count, because it was revoked. Its reports stay.
    pub async fn forget(&self, endpoint: EndpointId) -> Result<(), Arc<StoreError>> {
        writer::send(&self.commands, |answer| Command::Forget { endpoint, answer }).await
    }
}
