//! Moves verified metadata forward: polls the origin, judges what is gossiped, commits, publishes, fences.
//!
//! The one task that holds the [`ViewPublisher`]. A walk to the origin runs beside the gossip queue, so that a retraction
//! that is gossiped never waits for a slow or absent origin.
//!
//! Invariants
//! - Files and tombstones are durable before their view is published; content is removed after it.
//! - Older or refused metadata changes nothing; the refusal is logged with the verifier's own reason.

use crate::clock;
use crate::http::problem::chain;
use crate::operations::advance::{self, AdvanceError, Documents};
use crate::operations::restore;
use crate::origin::Origin;
use crate::show_loop;
use crate::view::{NodeView, ViewHandle, ViewPublisher};
use futures::FutureExt;
use futures::future::BoxFuture;
use sluice_api::gossip::{MetadataBundle, TIMESTAMP_FILE};
use sluice_api_client::{RefreshError, Times, refresh};
use sluice_content_store::ContentStore;
use sluice_metadata::{Change, MetadataError, Trusted, View};
use sluice_model::ArtifactId;
use sluice_overlay::Verdict;
use sluice_rollout::{TrustedClock, WantedContent};
use sluice_state_store::StateStore;
use sluice_state_store::hold::Hold;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Gossiped bundles that wait: they come one at a time from the overlay loop.
pub const GOSSIP_QUEUE_MAX: usize = 16;

/// A gossiped bundle and where its verdict goes.
pub struct Gossiped {
    /// Unverified.
    pub bundle: MetadataBundle,
    /// Told as soon as the bundle is verified, before it is committed.
    pub verdict: oneshot::Sender<Verdict>,
}

/// What the loop works with.
pub struct MetadataLoop {
    /// The way to the origin.
    pub origin: Arc<Origin>,
    /// Where metadata is kept.
    pub store: StateStore,
    /// Where retracted content is removed from.
    pub content: ContentStore,
    /// Publishes views.
    pub publisher: ViewPublisher,
    /// The newest view.
    pub view: ViewHandle,
    /// From the overlay loop.
    pub gossip: mpsc::Receiver<Gossiped>,
    /// Asks for a look at the origin now.
    pub poke: Arc<Notify>,
    /// Highest tombstone serial whose content is fenced here.
    pub fenced: watch::Sender<u64>,
    /// The hold that is set at this machine.
    pub hold: watch::Receiver<Option<Hold>>,
    /// Told of the view that the origin turns out to be behind of.
    pub behind: watch::Sender<Option<Arc<NodeView>>>,
    /// Between two looks.
    pub poll: Duration,
}

/// The outcome of a walk to the origin.
struct Walked {
    trusted: Trusted,
    documents: Documents,
}

type Walk = BoxFuture<'static, Result<Walked, WalkError>>;

#[derive(Debug, thiserror::Error)]
enum WalkError {
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    #[error("the metadata has no meaning")]
    View(#[from] sluice_metadata::ViewError),
}

impl MetadataLoop {
    /// Runs until `stop`. The error is that of the disk: without it the node could forget what it must not.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), AdvanceError> {
        // A crash between a commit and its removals is made good here.
        let first = self.view.load();
        self.fence(&first, &HashSet::new()).await;
        let mut timer = tokio::time::interval(self.poll);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut walk: Option<Walk> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(gossiped) = self.gossip.recv() => self.on_gossip(gossiped).await?,
                _ = timer.tick(), if walk.is_none() => walk = Some(self.begin_walk()),
                Ok(()) = self.hold.changed() => self.on_hold(),
                () = self.poke.notified(), if walk.is_none() => walk = Some(self.begin_walk()),
                outcome = pending(&mut walk) => {
                    walk = None;
                    self.on_walked(outcome).await?;
                }
            }
        }
    }

    fn begin_walk(&self) -> Walk {
        let (origin, view) = (Arc::clone(&self.origin), self.view.load());
        async move {
            let now = Times { trusted: view.now(), system: clock::timestamp() };
            let from = &view.trusted;
            let refreshed = origin.ask(|client| async move { refresh(from, &client, now).await }).await?;
            let said = View::of(&refreshed.trusted)?;
            let documents = advance::fetch_documents(&said, &view.site, &view.documents, &origin).await;
            Ok(Walked { trusted: refreshed.trusted, documents })
        }
        .boxed()
    }

    async fn on_walked(&mut self, outcome: Result<Walked, WalkError>) -> Result<(), AdvanceError> {
        match outcome {
            Ok(walked) => self.take_up(walked.trusted, &walked.documents).await,
            Err(WalkError::Refresh(RefreshError::Fetch(error))) if error.problem().is_some() => {
                tracing::warn!(error = chain(&error), "the origin refuses to give its metadata to this node");
                Ok(())
            }
            Err(WalkError::Refresh(RefreshError::Fetch(error))) => {
                tracing::debug!(error = chain(&error), "the origin's metadata could not be fetched");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "the origin's metadata was refused; what was trusted stays in force"
                );
                if matches!(&error, WalkError::Refresh(refused) if refused.refusal().is_some_and(show_loop::is_older)) {
                    self.behind.send_replace(Some(self.view.load()));
                }
                Ok(())
            }
        }
    }

    async fn on_gossip(&mut self, gossiped: Gossiped) -> Result<(), AdvanceError> {
        let Gossiped { bundle, verdict } = gossiped;
        let view = self.view.load();
        let now = view.now();
        let mut read = |name: &str| bundle.file(name).map(<[u8]>::to_vec);
        let outcome = view.trusted.apply(&mut read, now);
        let (judged, next) = match outcome {
            Ok(applied) if applied.changed.is_empty() => (Verdict::Ignore, None),
            Ok(applied) => (Verdict::Accept, Some(applied.trusted)),
            Err(MetadataError::Missing { .. }) => (self.judge_hint(&view, &bundle), None),
            Err(error) => (judge_refusal(&error), None),
        };
        if verdict.send(judged).is_err() {
            tracing::debug!("a verdict came too late; the metadata is taken all the same");
        }
        match next {
            Some(trusted) => self.take_up(trusted, &Documents::new()).await?,
            None => return Ok(()),
        }
        // Gossip carries no documents. After a walk that could not get one, the next tick tries again.
        let view = self.view.load();
        if !advance::is_current(&view.view, &view.site, &view.documents) {
            self.poke.notify_one();
        }
        Ok(())
    }

    /// A timestamp without its files: when it is newer, the origin has the rest.
    fn judge_hint(&self, view: &NodeView, bundle: &MetadataBundle) -> Verdict {
        let Some(timestamp) = bundle.file(TIMESTAMP_FILE) else { return Verdict::Reject };
        match view.trusted.clone().update_timestamp(timestamp, view.now()) {
            Ok(Change::Newer) => {
                self.poke.notify_one();
                Verdict::Accept
            }
            Ok(Change::Same) => Verdict::Ignore,
            Err(error) => judge_refusal(&error),
        }
    }

    /// Commits and publishes `trusted` with the documents at hand, when that is a step forward; then fences.
    async fn take_up(&mut self, trusted: Trusted, fresh: &Documents) -> Result<(), AdvanceError> {
        let current = self.view.load();
        let is_newer = trusted.timestamp_version() > current.timestamp_version
            || trusted.root_version() > current.trusted.root_version();
        // Gossip may have overtaken a walk; its documents are good all the same.
        let trusted = if is_newer { trusted } else { current.trusted.clone() };
        let said = match View::of(&trusted) {
            Ok(said) => said,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "verified metadata has no meaning; what was trusted stays in force"
                );
                return Ok(());
            }
        };
        let documents = advance::merge_documents(&said, &current.site, &current.documents, fresh);
        if !is_newer && documents == current.documents {
            return Ok(());
        }
        let clock = clock_after(&current, &trusted);
        let next = match advance::build(&current.place(), trusted, documents, &current.tombstones, clock) {
            Ok(next) => NodeView { hold: self.hold.borrow().clone(), ..next },
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "verified metadata cannot be used; what was trusted stays in force"
                );
                return Ok(());
            }
        };
        if show_loop::loses_a_retraction(&current, &next) {
            self.behind.send_replace(Some(Arc::clone(&current)));
        }
        advance::commit(&self.store, &next).await?;
        let next = self.publisher.publish(next);
        let was_member = current.roster.member(&current.key).is_some();
        if was_member && next.roster.member(&next.key).is_none() {
            tracing::error!(
                "the signed roster no longer names this node: no other member deals with it, and it serves nothing once its \
                 lease ends; join again with a new token and another data folder if that was a mistake"
            );
        }
        tracing::debug!(version = next.timestamp_version, lease_until = %next.lease_until, "metadata moved forward");
        self.fence(&next, &retracted(&current)).await;
        if next.clock != current.clock {
            let (store, clock) = (self.store.clone(), next.clock);
            let stored = tokio::task::spawn_blocking(move || restore::store_clock(&store, clock)).await;
            stored.map_err(|_| AdvanceError::Panicked)??;
        }
        Ok(())
    }

    /// A hold was set or lifted at this machine: every task sees it at once.
    fn on_hold(&mut self) {
        let hold = self.hold.borrow_and_update().clone();
        self.publisher.publish(NodeView { hold, ..NodeView::clone(&self.view.load()) });
    }

    /// Deletes retracted content that was not deleted before (`done`) and says so.
    async fn fence(&self, view: &NodeView, done: &HashSet<ArtifactId>) {
        for artifact in retracted(view).difference(done) {
            let is_here = self.content.reader(artifact).is_some();
            match self.content.remove(artifact).await {
                Ok(()) if !is_here => {}
                Ok(()) => tracing::info!(%artifact, "retracted content is gone from this node"),
                // It is not served all the same: the view names its tombstone.
                Err(error) => {
                    tracing::error!(%artifact, error = chain(&error), "retracted content could not be deleted")
                }
            }
        }
        let serial = view.tombstone_serial();
        self.fenced.send_if_modified(|fenced| {
            let is_higher = serial > *fenced;
            *fenced = serial.max(*fenced);
            is_higher
        });
    }
}

/// What no ring may have: content that a ring reinstated is needed again.
fn retracted(view: &NodeView) -> HashSet<ArtifactId> {
    let content = view.tombstones.iter().flat_map(|tombstone| tombstone.content.iter().map(|content| content.blake3));
    content.filter(|artifact| view.catalogue.tombstone(WantedContent::Blake3(*artifact)).is_some()).collect()
}

/// The trusted clock once `next` is in force. What a key said that root has replaced since is void.
fn clock_after(current: &NodeView, next: &Trusted) -> TrustedClock {
    let (issued_at, up) = (next.issued_at().unwrap_or_default(), clock::since_boot());
    match issued_at.cmp(&current.issued_at) {
        Ordering::Equal => current.clock,
        Ordering::Greater => current.clock.learn(issued_at, up),
        Ordering::Less => TrustedClock::arrived(issued_at, up),
    }
}

/// Old or not to be judged here is nobody's fault; everything else is the sender's.
fn judge_refusal(error: &MetadataError) -> Verdict {
    match error {
        MetadataError::Rollback { .. } | MetadataError::Expired { .. } | MetadataError::OutOfOrder { .. } => {
            tracing::info!(%error, "gossiped metadata was refused");
            Verdict::Ignore
        }
        _ => {
            tracing::warn!(%error, "gossiped metadata was refused, and counts against its sender");
            Verdict::Reject
        }
    }
}

/// Completes with the running walk; never when there is none.
async fn pending(walk: &mut Option<Walk>) -> Result<Walked, WalkError> {
    match walk {
        Some(walk) => walk.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
