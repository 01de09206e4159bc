//! Follows the signed state: who may connect, what each site may take, and what the overlay is told of each commit.
//!
//! The repo server only speaks: whatever is gossiped to it is ignored, because everything that it signs it knows.

use crate::authority::Announcement;
use crate::clock;
use crate::http::problem::chain;
use crate::overlay_links::LinkTable;
use crate::state::Shared;
use sluice_api::gossip::{MetadataBundle, metadata_topic};
use sluice_model::{MemberKey, Timestamp};
use sluice_overlay::{OverlayError, OverlayEvent, OverlayHandle, Verdict};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What one run needs.
pub struct OverlayLoop {
    /// The program.
    pub app: Shared,
    /// Our end of the overlay.
    pub overlay: OverlayHandle,
    /// What happens on it.
    pub events: mpsc::Receiver<OverlayEvent>,
    /// One message a commit.
    pub announcements: mpsc::Receiver<Announcement>,
}

impl OverlayLoop {
    /// Runs until `stop`, or until the overlay is gone.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), OverlayError> {
        let mut versions = self.app.authority.versions();
        let topic = metadata_topic(&self.app.served().view.repo_id);
        let mut change = self.follow().await?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Ok(()) = versions.changed() => change = self.follow().await?,
                () = until(change) => change = self.app.follow_limits(),
                Some(commit) = self.announcements.recv() => self.announce(&topic, &commit).await,
                event = self.events.recv() => match event {
                    Some(event) => self.note(event).await?,
                    None => return if stop.is_cancelled() { Ok(()) } else { Err(OverlayError::Closed) },
                },
            }
        }
    }

    /// Answers when a schedule changes a site's cap.
    async fn follow(&self) -> Result<Option<Timestamp>, OverlayError> {
        let served = self.app.served();
        let change = self.app.follow_limits();
        let allowed: Vec<MemberKey> = served.roster.members.iter().map(|member| member.key).collect();
        self.overlay.set_allowed(allowed).await?;
        Ok(change)
    }

    async fn announce(&self, topic: &str, commit: &Announcement) {
        let bytes = MetadataBundle::encode(commit.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
        if let Err(error) = self.overlay.publish(topic, bytes).await {
            // Nobody connected is the usual reason, and then there is nobody to tell.
            tracing::debug!(error = chain(&error), "a commit was not gossiped");
        }
    }

    async fn note(&self, event: OverlayEvent) -> Result<(), OverlayError> {
        let links: &LinkTable = &self.app.overlay_links;
        match event {
            OverlayEvent::Up(member) => {
                links.up(member);
                tracing::info!(%member, "a node is connected");
            }
            OverlayEvent::Down(member) => {
                links.down(&member);
                tracing::info!(%member, "a node is no longer connected");
            }
            OverlayEvent::Gossip { id, .. } => self.overlay.judge(id, Verdict::Ignore).await?,
        }
        Ok(())
    }
}

/// Longest sleep before a change of caps: a clock that is set meanwhile is noticed within it.
const CLOCK_LOOK: Duration = Duration::from_secs(30);

/// Waits until `change`, or until the clock is to be looked at again.
async fn until(change: Option<Timestamp>) {
    match change {
        None => std::future::pending().await,
        Some(at) => tokio::time::sleep(at.since(clock::timestamp()).min(CLOCK_LOOK)).await,
    }
}
