//! Tells the origin how this node is: its addresses once at each start, its counters every few seconds, and at once when
//! a retraction is fenced.

use crate::counters::Counters;
use crate::http::problem::chain;
use crate::origin::Origin;
use crate::trouble::Trouble;
use crate::view::ViewHandle;
use crate::witness_loop::Alarm;
use sluice_api::bans::BanReport;
use sluice_api::device::{Announcement, BannedPeer, NodeStatus};
use sluice_api_client::ClientError;
use sluice_content_store::ContentStore;
use sluice_model::limits::TEXT_CHARS_MAX;
use sluice_model::{MemberAddresses, MemberKey, Timestamp};
use sluice_state_store::StateStore;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// What the loop works with.
pub struct StatusLoop {
    /// The way to the origin.
    pub origin: Arc<Origin>,
    /// What is counted.
    pub counters: Counters,
    /// What is wrong.
    pub trouble: Trouble,
    /// What is doubted about the repo server's audit log.
    pub log_alarm: Alarm,
    /// Bans and the spool.
    pub store: StateStore,
    /// How much is stored.
    pub content: ContentStore,
    /// Version in force.
    pub view: ViewHandle,
    /// Highest tombstone serial that is fenced.
    pub fenced: watch::Receiver<u64>,
    /// Told when the origin is back.
    pub poke: Arc<Notify>,
    /// Where this node listens.
    pub addresses: MemberAddresses,
    /// Random for this start.
    pub boot: u64,
    /// When this process started.
    pub started_at: Timestamp,
    /// Between two messages.
    pub every: Duration,
    /// Bans in the store that the origin heard of from this process, with their number of lifts.
    pub told_bans: BTreeSet<(MemberKey, u32)>,
}

impl StatusLoop {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut timer = tokio::time::interval(self.every);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_announced = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timer.tick() => {}
                () = self.poke.notified() => {}
                changed = self.fenced.changed() => if changed.is_err() { return },
            }
            let told = tokio::select! {
                () = stop.cancelled() => return,
                told = self.tell(&mut is_announced) => told,
            };
            if let Err(error) = told {
                tracing::debug!(error = chain(&error), "the origin was not told how this node is");
            }
        }
    }

    async fn tell(&mut self, is_announced: &mut bool) -> Result<(), ClientError> {
        if !*is_announced {
            let announcement = Announcement { addresses: self.addresses.clone() };
            self.origin
                .ask(|client| {
                    let announcement = &announcement;
                    async move { client.announce(announcement).await }
                })
                .await?;
            *is_announced = true;
            tracing::info!("the origin knows where this node listens");
        }
        let status = self.status().await;
        self.origin
            .ask(|client| {
                let status = &status;
                async move { client.status(status).await }
            })
            .await?;
        self.report_bans().await
    }

    /// Brings to the origin what convicts the peers that this node banned, each once in the life of this process: the
    /// origin knows what it was told before.
    async fn report_bans(&mut self) -> Result<(), ClientError> {
        let store = self.store.clone();
        // What cannot be read just now is told the next time.
        let bans = tokio::task::spawn_blocking(move || store.bans().unwrap_or_default()).await.unwrap_or_default();
        self.told_bans.retain(|(peer, lifts)| bans.iter().any(|ban| ban.peer == *peer && ban.lifts == *lifts));
        for ban in bans {
            let Some(evidence) = ban.evidence else { continue };
            if self.told_bans.contains(&(ban.peer, ban.lifts)) {
                continue;
            }
            let report = BanReport { peer: ban.peer, evidence, lifts: ban.lifts };
            let told = self
                .origin
                .ask(|client| {
                    let report = &report;
                    async move { client.report_ban(report).await }
                })
                .await;
            match told {
                Ok(()) => tracing::info!(key = %report.peer, "the origin has the evidence against a banned peer"),
                Err(error) if error.problem().is_some() => {
                    tracing::error!(key = %report.peer, error = chain(&error), "the origin refuses our evidence");
                }
                Err(error) => return Err(error),
            }
            self.told_bans.insert((report.peer, report.lifts));
        }
        Ok(())
    }

    /// A hold at this machine, for people; the origin takes no longer text.
    fn hold(&self) -> Option<String> {
        let view = self.view.load();
        let hold = view.hold.as_ref()?;
        Some(format!("held since {}: {}", hold.since, hold.reason).chars().take(TEXT_CHARS_MAX).collect())
    }

    /// What people must know first: a log in doubt, then what keeps this node from its work.
    fn trouble(&self) -> Option<String> {
        let alarm = self.log_alarm.borrow().clone();
        alarm.or_else(|| self.hold()).or_else(|| self.trouble.get()).or_else(|| self.content.trouble())
    }

    async fn status(&self) -> NodeStatus {
        let store = self.store.clone();
        // What cannot be read just now is told the next time.
        let (bans, spooled_reports) = tokio::task::spawn_blocking(move || {
            (store.bans().unwrap_or_default(), store.spooled_count().unwrap_or_default())
        })
        .await
        .unwrap_or_default();
        let counters = &self.counters;
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: self.boot,
            started_at: self.started_at,
            origin_bytes: counters.origin_bytes.get(),
            peer_bytes: counters.peer_bytes.get(),
            peer_served_bytes: counters.peer_served_bytes.get(),
            served_bytes: counters.served_bytes.get(),
            metadata_bytes: counters.metadata_bytes.get(),
            chunks_led: counters.chunks_led.get(),
            corrupt_chunks: counters.corrupt_chunks.get(),
            wan_peak_bytes_per_sec: counters.wan_peak_bytes_per_sec(),
            stored_bytes: self.content.usage().map_or(0, |usage| usage.stored_bytes),
            spooled_reports,
            fenced_serial: *self.fenced.borrow(),
            timestamp_version: self.view.load().timestamp_version,
            banned: bans.into_iter().map(|ban| BannedPeer { peer: ban.peer, at: ban.at, reason: ban.reason }).collect(),
            trouble: self.trouble(),
        }
    }
}
