//! The one task that writes: it takes what waits, writes all of it in one transaction, and answers after the commit.

use crate::StoreError;
use crate::database::Reopening;
use crate::ingest::{self, Ingested, NewOutcome};
use redb::WriteTransaction;
use sluice_model::EndpointId;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Batches that may wait; further callers wait for room. 100 reports of 16 KiB each: 100 MiB at the very worst.
const QUEUE_MAX: usize = 64;
/// Batches in one transaction: 64 x 100 reports commit in some 50 ms.
const GROUP_MAX: usize = 64;

type Answer<T> = oneshot::Sender<Result<T, Arc<StoreError>>>;

pub(crate) enum Command {
    Ingest { reports: Vec<NewOutcome>, answer: Answer<Ingested> },
    Forget { endpoint: EndpointId, answer: Answer<()> },
}

enum Written {
    Ingested(Ingested),
    Forgotten,
}

/// Runs the writes of a [`crate::ComplianceStore`].
pub struct WriterTask {
    database: Arc<Reopening>,
    commands: mpsc::Receiver<Command>,
}

pub(crate) fn channel(database: Arc<Reopening>) -> (mpsc::Sender<Command>, WriterTask) {
    let (sender, commands) = mpsc::channel(QUEUE_MAX);
    (sender, WriterTask { database, commands })
}

pub(crate) async fn send<T>(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(Answer<T>) -> Command,
) -> Result<T, Arc<StoreError>> {
    let (answer, answered) = oneshot::channel();
    let stopped = || Arc::new(StoreError::Stopped);
    commands.send(command(answer)).await.map_err(|_| stopped())?;
    answered.await.map_err(|_| stopped())?
}

impl WriterTask {
    /// Runs until every handle is gone or `stop` is cancelled; what was handed over by then is written and answered.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let mut group = Vec::new();
            tokio::select! {
                biased;
                () = stop.cancelled() => self.commands.close(),
                received = self.commands.recv_many(&mut group, GROUP_MAX) => {
                    if received == 0 {
                        return;
                    }
                    self.write(group).await;
                    continue;
                }
            }
            while self.commands.recv_many(&mut group, GROUP_MAX).await > 0 {
                self.write(std::mem::take(&mut group)).await;
            }
            return;
        }
    }

    async fn write(&self, group: Vec<Command>) {
        let database = self.database.clone();
        let written = tokio::task::spawn_blocking(move || write_group(&database, group)).await;
        if let Err(error) = written {
            // The answers were dropped with the panic, so the callers know that nothing was acknowledged.
            tracing::error!(%error, "writing reports panicked");
        }
    }
}

fn write_group(database: &Reopening, group: Vec<Command>) {
    let result = database.write(|tx| group.iter().map(|command| perform(tx, command)).collect::<Result<Vec<_>, _>>());
    // A caller that is gone needs no answer: what is written stands.
    match result {
        Ok(written) => {
            for (command, written) in group.into_iter().zip(written) {
                match (command, written) {
                    (Command::Ingest { answer, .. }, Written::Ingested(ingested)) => drop(answer.send(Ok(ingested))),
                    (Command::Forget { answer, .. }, _) => drop(answer.send(Ok(()))),
                    (Command::Ingest { answer, .. }, Written::Forgotten) => drop(answer),
                }
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            tracing::error!(?error, "reports were not written; their senders keep them");
            for command in group {
                match command {
                    Command::Ingest { answer, .. } => drop(answer.send(Err(error.clone()))),
                    Command::Forget { answer, .. } => drop(answer.send(Err(error.clone()))),
                }
            }
        }
    }
}

fn perform(tx: &WriteTransaction, command: &Command) -> Result<Written, StoreError> {
    match command {
        Command::Ingest { reports, .. } => ingest::ingest(tx, reports).map(Written::Ingested),
        Command::Forget { endpoint, .. } => ingest::forget(tx, endpoint).map(|()| Written::Forgotten),
    }
}
