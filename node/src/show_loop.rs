//! Shows the repo server what it forgot: when it gives this node older metadata than the node has verified, it was restored
//! from a backup (or its keys are stolen), and the signed files of its nodes are what it can learn from.
//!
//! It decides nothing: what the server may believe is for the server's own keys to say.

use crate::clock;
use crate::http::problem::chain;
use crate::origin::Origin;
use crate::view::NodeView;
use sluice_api::gossip::BundledFile;
use sluice_api::restore::{NewerAnswer, NewerMetadata};
use sluice_metadata::MetadataError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two attempts when the server did not answer.
const RETRY: Duration = Duration::from_secs(2);
/// Before the same is shown again to a server that took it: a restart would have lost it.
const AGAIN: Duration = Duration::from_secs(30);

/// A view that the origin is behind of; shared with the metadata loop.
pub type Behind = watch::Receiver<Option<Arc<NodeView>>>;

/// Whether a refusal says that the origin knows less than this node.
pub fn is_older(error: &MetadataError) -> bool {
    matches!(
        error,
        MetadataError::Rollback { .. }
            | MetadataError::IssuedBackwards { .. }
            | MetadataError::RetractionsBackwards { .. }
            | MetadataError::SameVersionOtherBytes { .. }
            | MetadataError::RoleDropped { .. }
    )
}

/// Whether `next` lists no more a retraction that `current` lists: a server that forgot it signed it away.
pub fn loses_a_retraction(current: &NodeView, next: &NodeView) -> bool {
    let lists = |view: &NodeView, serial: u64| {
        view.view.tombstones.iter().any(|known| known.serial == serial)
            || view.view.archives.iter().any(|archive| (archive.first..=archive.last).contains(&serial))
    };
    let is_same = |one: &sluice_model::Tombstone, other: &sluice_model::Tombstone| {
        one.serial == other.serial && one.content == other.content
    };
    current.tombstones.iter().filter(|known| lists(current, known.serial)).any(|known| {
        let is_listed = next.view.tombstones.iter().any(|other| is_same(known, other));
        !is_listed && !next.view.archives.iter().any(|archive| (archive.first..=archive.last).contains(&known.serial))
    })
}

/// Runs until `stop`.
pub async fn run(origin: Arc<Origin>, mut behind: Behind, stop: CancellationToken) {
    // Version that was shown last, and until when it is not shown again.
    let mut shown: Option<(u64, Instant)> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = behind.changed() => if changed.is_err() { return },
        }
        let Some(view) = behind.borrow_and_update().clone() else { continue };
        let version = view.timestamp_version;
        if shown.is_some_and(|(known, until)| known == version && clock::now() < until) {
            continue;
        }
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = show(&origin, &view) => answer,
        };
        let wait = match answer {
            Some(NewerAnswer::Taken | NewerAnswer::Known | NewerAnswer::Alarmed) => AGAIN,
            None => RETRY,
        };
        shown = Some((version, clock::now() + wait));
    }
}

async fn show(origin: &Origin, view: &NodeView) -> Option<NewerAnswer> {
    let newer = &newer(view);
    let answer = origin.ask(|client| async move { client.newer_metadata(newer).await }).await;
    match answer {
        Ok(receipt) => {
            match receipt.answer {
                NewerAnswer::Taken => tracing::info!("the repo server is being restored, and was shown what it lost"),
                NewerAnswer::Alarmed => tracing::error!(
                    "ALARM: the repo server signs older metadata than this node has verified, and nobody told it that it \
                     was restored from a backup: docs/restore.md"
                ),
                NewerAnswer::Known => {}
            }
            Some(receipt.answer)
        }
        Err(error) => {
            tracing::debug!(error = chain(&error), "the repo server was not shown what it lost");
            None
        }
    }
}

fn newer(view: &NodeView) -> NewerMetadata {
    let files = view.metadata_files.iter();
    let files = files.map(|(name, bytes)| BundledFile { name: name.clone(), bytes: bytes.to_vec() });
    let documents = view.documents.iter();
    let documents = documents.map(|(name, held)| BundledFile { name: name.to_string(), bytes: held.bytes.to_vec() });
    NewerMetadata::of(files.collect(), documents.collect())
}
