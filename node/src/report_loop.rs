//! Carries spooled outcome reports to the origin and keeps its acknowledgements for the endpoints.
//!
//! Invariants
//! - A report leaves the spool only after the origin stored it or refused it by name, in one transaction with the
//!   acknowledgement.
//! - An acknowledgement is kept only with a good signature by an origin of the roster.

use crate::backoff::Backoff;
use crate::http::problem::chain;
use crate::origin::Origin;
use crate::view::{NodeView, ViewHandle};
use sluice_api::device::{ReportBatch, ReportReceipt, SignedAcknowledgement};
use sluice_api_client::ClientError;
use sluice_metadata::verify_purpose;
use sluice_model::limits::REPORTS_PER_BATCH_MAX;
use sluice_state_store::{SpooledReport, StateError, StateStore, StoredAcknowledgement};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Wait after the first failure.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// The spool is looked at this often even when nobody says that something came.
const IDLE_LOOK: Duration = Duration::from_secs(30);

/// What the loop works with.
pub struct ReportLoop {
    /// The way to the origin.
    pub origin: Arc<Origin>,
    /// Holds the spool and the acknowledgements.
    pub store: StateStore,
    /// Whose acknowledgements count.
    pub view: ViewHandle,
    /// Told when something was spooled, or when the origin is back.
    pub poke: Arc<Notify>,
    /// Longest wait between two attempts.
    pub retry_max: Duration,
}

/// What came of one batch.
enum Sent {
    /// The spool is empty.
    Nothing,
    /// Some left the spool.
    Settled,
    /// The origin could not be asked or does not want the batch: later.
    Later,
    /// The origin cannot read the batch: one by one, to find which.
    Unreadable,
}

impl ReportLoop {
    /// Runs until `stop`. The error is that of the disk.
    pub async fn run(self, stop: CancellationToken) -> Result<(), StateError> {
        let mut backoff = Backoff::new(RETRY_MIN, self.retry_max);
        let mut batch_max = REPORTS_PER_BATCH_MAX;
        loop {
            let sent = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                sent = self.send_batch(batch_max) => sent?,
            };
            let wait = match sent {
                Sent::Settled => {
                    backoff.reset();
                    batch_max = (batch_max * 2).min(REPORTS_PER_BATCH_MAX);
                    continue;
                }
                Sent::Unreadable => {
                    batch_max = 1;
                    continue;
                }
                Sent::Nothing => IDLE_LOOK,
                Sent::Later => backoff.next_wait(),
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.poke.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn send_batch(&self, count_max: usize) -> Result<Sent, StateError> {
        let store = self.store.clone();
        let waiting = blocking(move || store.next_spooled(count_max)).await?;
        if waiting.is_empty() {
            return Ok(Sent::Nothing);
        }
        let batch = ReportBatch { reports: waiting.iter().map(|report| report.envelope.clone()).collect() };
        let sent = self.origin.ask(|client| {
            let batch = &batch;
            async move { client.outcomes(batch).await }
        });
        match sent.await {
            Ok(receipt) => self.settle(&waiting, receipt).await,
            Err(error) => self.on_failure(&waiting, &error).await,
        }
    }

    async fn settle(&self, waiting: &[SpooledReport], receipt: ReportReceipt) -> Result<Sent, StateError> {
        for refused in &receipt.refused {
            tracing::warn!(reason = refused.reason, "the origin refused an outcome report; its endpoint still has it");
        }
        let view = self.view.load();
        let acks: Vec<StoredAcknowledgement> =
            receipt.acknowledgements.iter().filter_map(|ack| checked(&view, ack)).collect();
        let is_refused = |index: usize| receipt.refused.iter().any(|refused| refused.index == index);
        let is_all_stored = receipt.stored as usize + receipt.refused.len() >= waiting.len();
        let settled: Vec<u64> = waiting
            .iter()
            .enumerate()
            .filter(|(index, _)| is_all_stored || is_refused(*index))
            .map(|(_, report)| report.position)
            .collect();
        let is_stuck = settled.is_empty();
        let store = self.store.clone();
        blocking(move || store.settle_spool(&settled, &acks)).await?;
        Ok(if is_stuck { Sent::Later } else { Sent::Settled })
    }

    async fn on_failure(&self, waiting: &[SpooledReport], error: &ClientError) -> Result<Sent, StateError> {
        let is_unreadable = error.problem().is_some_and(|problem| [400, 413, 422].contains(&problem.status));
        if !is_unreadable {
            tracing::debug!(error = chain(error), "outcome reports wait: the origin did not take them");
            return Ok(Sent::Later);
        }
        let [report] = waiting else { return Ok(Sent::Unreadable) };
        tracing::error!(
            error = chain(error),
            position = report.position,
            "the origin cannot read an outcome report; it leaves the spool, its endpoint still has it"
        );
        let (store, position) = (self.store.clone(), report.position);
        blocking(move || store.settle_spool(&[position], &[])).await?;
        Ok(Sent::Settled)
    }
}

/// The acknowledgement in its stored form, when an origin of the roster signed it.
fn checked(view: &NodeView, ack: &SignedAcknowledgement) -> Option<StoredAcknowledgement> {
    let is_origin = view.roster.origins().any(|origin| origin.key == ack.signer);
    let signature = hex::decode(&ack.signature).ok()?;
    let is_good = is_origin && verify_purpose(ack.signer.as_bytes(), "ack", &ack.signed_bytes(), &signature).is_ok();
    if !is_good {
        tracing::warn!(endpoint = %ack.endpoint.short(), "an acknowledgement without a good signature was dropped");
        return None;
    }
    let bytes = serde_json::to_vec(ack).expect("an acknowledgement is text and numbers");
    Some(StoredAcknowledgement { endpoint: ack.endpoint, epoch: ack.epoch, seq: ack.seq, bytes })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StateError::Closed))
}
