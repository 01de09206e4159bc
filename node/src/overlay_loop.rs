//! Between the overlay and the rest of the node: hands gossip on for judgement, keeps the allow-list and the dialled
//! members as the roster says, tells who is alive.

use crate::fetch::FetchHandle;
use crate::metadata_loop::Gossiped;
use crate::origin::Origin;
use crate::view::{NodeView, ViewHandle};
use sluice_api::gossip::MetadataBundle;
use sluice_model::{MemberKey, MemberKind};
use sluice_overlay::{MessageId, OverlayError, OverlayEvent, OverlayHandle, Verdict};
use sluice_telemetry::metrics::Gauge;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How long a verdict may take; later ones would not be forwarded in any case.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(20);

/// What the loop works with.
pub struct OverlayLoop {
    /// The overlay.
    pub overlay: OverlayHandle,
    /// Its events.
    pub events: mpsc::Receiver<OverlayEvent>,
    /// The newest view.
    pub view: ViewHandle,
    /// To the metadata loop.
    pub gossip: mpsc::Sender<Gossiped>,
    /// To the exchange loop: who is alive.
    pub fetch: FetchHandle,
    /// Where the origin is reached, for addresses that the roster gives as wildcards.
    pub origin: Arc<Origin>,
    /// Told when the link to an origin comes up: metadata, reports and status go at once.
    pub origin_up: Vec<Arc<Notify>>,
    /// Members that are connected.
    pub links: Gauge,
}

impl OverlayLoop {
    /// Runs until `stop`, or until the overlay ends.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), OverlayError> {
        let mut changed = self.view.changed();
        let mut up = HashSet::new();
        self.follow(&self.view.load()).await?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = changed.changed() => match changed {
                    Ok(()) => self.follow(&self.view.load()).await?,
                    Err(_) => return Ok(()),
                },
                event = self.events.recv() => match event {
                    Some(event) => self.on_event(event, &mut up).await?,
                    None if stop.is_cancelled() => return Ok(()),
                    None => return Err(OverlayError::Closed),
                },
            }
        }
    }

    /// The roster decides who may connect, the banned apart; the origin and the nodes of our site are dialled. The origin
    /// itself keeps its link to a banned node: it has to hear of retractions like every other.
    async fn follow(&self, view: &NodeView) -> Result<(), OverlayError> {
        let is_wanted = |key: &MemberKey| *key != view.key && !view.bans.is_banned(key);
        let others = || view.roster.members.iter().filter(|member| is_wanted(&member.key));
        self.overlay.set_allowed(others().map(|member| member.key).collect()).await?;
        for member in others() {
            let is_near = member.kind == MemberKind::Origin || member.site.as_ref() == Some(&view.site);
            if is_near {
                let addresses = self.resolve(member.kind, &member.addresses.overlay);
                self.overlay.dial(member.key, addresses).await?;
            }
        }
        Ok(())
    }

    /// An origin that listens on every address is dialled where its device listener answers.
    fn resolve(&self, kind: MemberKind, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut resolved: Vec<SocketAddr> = Vec::new();
        for address in addresses {
            if !address.ip().is_unspecified() {
                resolved.push(*address);
            } else if kind == MemberKind::Origin {
                let known = self.origin.addresses();
                resolved.extend(known.iter().map(|known| SocketAddr::new(known.ip(), address.port())));
            }
        }
        resolved.dedup();
        resolved
    }

    async fn on_event(&self, event: OverlayEvent, up: &mut HashSet<MemberKey>) -> Result<(), OverlayError> {
        match event {
            OverlayEvent::Gossip { id, bytes, .. } => return self.on_gossip(id, &bytes).await,
            OverlayEvent::Up(member) => {
                up.insert(member);
                self.on_up(member);
            }
            OverlayEvent::Down(member) => {
                up.remove(&member);
                tracing::info!(%member, "a member is disconnected from the overlay");
            }
        }
        self.links.set(i64::try_from(up.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    fn on_up(&self, member: MemberKey) {
        let view = self.view.load();
        let Some(row) = view.roster.member(&member) else { return };
        tracing::info!(%member, name = row.name, "a member is connected to the overlay");
        match row.kind {
            MemberKind::Origin => self.origin_up.iter().for_each(|told| told.notify_one()),
            MemberKind::Node => self.fetch.peer_seen(member),
        }
    }

    async fn on_gossip(&self, id: MessageId, bytes: &[u8]) -> Result<(), OverlayError> {
        let verdict = match MetadataBundle::decode(bytes) {
            Ok(bundle) => self.verdict_on(bundle).await,
            Err(error) => {
                tracing::warn!(%error, "a gossiped message was refused, and counts against its sender");
                Verdict::Reject
            }
        };
        self.overlay.judge(id, verdict).await
    }

    async fn verdict_on(&self, bundle: MetadataBundle) -> Verdict {
        let (verdict, judged) = oneshot::channel();
        if self.gossip.send(Gossiped { bundle, verdict }).await.is_err() {
            return Verdict::Ignore;
        }
        match tokio::time::timeout(VERDICT_TIMEOUT, judged).await {
            Ok(Ok(verdict)) => verdict,
            _ => Verdict::Ignore,
        }
    }
}
