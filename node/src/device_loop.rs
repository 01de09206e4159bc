//! Accepts device connections: HTTP of agents, the exchange protocol of members. The key was proven in the handshake;
//! whether it may stay is decided from the newest view, by [`ExchangeServer`] and by the HTTP handlers; the connection of
//! an endpoint that is revoked is cut.

use crate::exchange_server::ExchangeServer;
use crate::http::caller::Caller;
use crate::http::connection::serve_connection;
use crate::view::ViewHandle;
use axum::Router;
use sluice_model::MemberKey;
use sluice_transport::{Accepted, Alpn, DeviceListener, QuicListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the loop works with.
pub struct DeviceLoop {
    /// TLS over TCP.
    pub tcp: DeviceListener,
    /// QUIC, where the settings ask for it.
    pub quic: Option<QuicListener>,
    /// Routes for agents.
    pub router: Router,
    /// What a running response is judged by.
    pub views: ViewHandle,
    /// Serves other nodes.
    pub exchange: ExchangeServer,
}

impl DeviceLoop {
    /// Accepts until `stop`; connections end with it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = self.tcp.accept() => accepted,
                accepted = accept_quic(&mut self.quic) => accepted,
            };
            self.begin(accepted, &mut connections, &stop);
        }
        while connections.join_next().await.is_some() {}
    }

    fn begin(&self, accepted: Accepted, connections: &mut JoinSet<()>, stop: &CancellationToken) {
        let Accepted { stream, peer, remote, alpn } = accepted;
        let stop = stop.child_token();
        match alpn {
            Alpn::Http => {
                let caller = Caller::Device { key: peer, remote };
                let views = self.views.clone();
                let router = self.router.clone();
                connections.spawn(async move {
                    tokio::select! {
                        () = serve_connection(stream, caller, router, views.clone(), stop) => {}
                        () = until_expelled(&views, &peer) => {
                            tracing::info!(device = %peer, %remote, "an endpoint was revoked: its connection was cut");
                        }
                    }
                });
            }
            Alpn::Exchange => {
                let server = self.exchange.clone();
                connections.spawn(async move { server.serve(stream, peer, stop).await });
            }
        }
    }
}

/// Resolves when the endpoint with `key`, which was active at some time since the call, is so no longer.
async fn until_expelled(views: &ViewHandle, key: &MemberKey) {
    let endpoint = sluice_identity::endpoint_id_of(key);
    let mut changed = views.changed();
    let mut was_active = false;
    loop {
        let is_active = changed.borrow_and_update().endpoints.active(&endpoint).is_some();
        if was_active && !is_active {
            return;
        }
        was_active = is_active;
        if changed.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn accept_quic(listener: &mut Option<QuicListener>) -> Accepted {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
