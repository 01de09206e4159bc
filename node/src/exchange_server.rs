//! Serves one accepted exchange connection: admits the peer, paces and counts what it gets, and cuts it off when a new
//! view says so.

use crate::chunk_source::NodeSource;
use crate::counters::Counters;
use crate::exchange::members::is_site_peer;
use crate::fetch::FetchHandle;
use crate::view::ViewHandle;
use sluice_content_store::ContentStore;
use sluice_identity::DeviceKey;
use sluice_model::MemberKey;
use sluice_state_store::StateStore;
use sluice_transport::{DeviceStream, ServeCounters, ServeLimits, ServeOptions, Throttle, serve_exchange};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often what was sent is added to the counters.
const COUNT_EVERY: Duration = Duration::from_millis(250);

/// Serves exchange connections. Cheap to clone.
#[derive(Clone)]
pub struct ExchangeServer {
    /// Signs the chunks.
    pub key: DeviceKey,
    /// The newest verified metadata.
    pub views: ViewHandle,
    /// Where content is.
    pub store: ContentStore,
    /// Fetches what is asked for and not here.
    pub fetch: FetchHandle,
    /// Whom not to deal with.
    pub state: StateStore,
    /// What is counted.
    pub counters: Counters,
    /// What this node may serve, to endpoints and peers together.
    pub serve: Throttle,
}

impl ExchangeServer {
    /// Serves `stream`, whose peer proved to own `peer`, until either side ends it, the peer leaves the roster, what is
    /// being sent is retracted, or `cancel`. The program runs one of these for each connection it accepts.
    pub async fn serve(&self, stream: DeviceStream, peer: MemberKey, cancel: CancellationToken) {
        if !is_site_peer(&self.views.load(), &peer) || self.is_banned(&peer) {
            tracing::warn!(%peer, "exchange connection refused: not a node of our site, or banned");
            return;
        }
        self.fetch.peer_seen(peer);
        let source = Arc::new(NodeSource::new(self.views.clone(), self.store.clone(), self.fetch.clone()));
        let counters = Arc::new(ServeCounters::default());
        let options = ServeOptions {
            limits: ServeLimits::default(),
            pace: vec![self.serve.clone()],
            sign_with: Some(self.key.clone()),
            counters: Arc::clone(&counters),
        };
        let cut = cancel.child_token();
        let mut counted = 0;
        tokio::select! {
            ended = serve_exchange(stream, peer, Arc::clone(&source), &options, cut.clone()) => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %peer.short(), %error, "exchange connection ended");
                }
            }
            () = self.watch(&source, &peer) => tracing::info!(peer = %peer.short(), "exchange connection cut off"),
            () = self.count(&counters, &mut counted) => {}
        }
        self.add(&counters, &mut counted);
    }

    /// Returns when a view forbids what is going on.
    async fn watch(&self, source: &NodeSource, peer: &MemberKey) {
        let mut views = self.views.changed();
        while views.changed().await.is_ok() {
            if !source.may_go_on(&views.borrow_and_update(), peer) {
                return;
            }
        }
        std::future::pending().await
    }

    async fn count(&self, counters: &ServeCounters, counted: &mut u64) {
        loop {
            tokio::time::sleep(COUNT_EVERY).await;
            self.add(counters, counted);
        }
    }

    fn add(&self, counters: &ServeCounters, counted: &mut u64) {
        let sent = counters.chunk_frame_bytes();
        self.counters.peer_served_bytes.inc_by(sent - *counted);
        *counted = sent;
    }

    fn is_banned(&self, peer: &MemberKey) -> bool {
        // A list that cannot be read bans nobody: what the peer gets is verified content of this site.
        self.state.bans().is_ok_and(|bans| bans.iter().any(|ban| ban.peer == *peer))
    }
}
