//! Accepts device connections and gives each to what it wants to speak: device HTTP, or the exchange protocol.
//!
//! The handshake proved the key. HTTP is open to any key (enrolment needs it), each handler asks the roster; the
//! exchange protocol is for nodes of the roster. Both end for a device that is revoked while it is connected; when it
//! comes back, HTTP tells it so.

use crate::http::serve::serve_connection;
use crate::http::{DeviceCaller, device_router};
use crate::origin::Origin;
use crate::state::Shared;
use axum::{Extension, Router};
use sluice_identity::endpoint_id_of;
use sluice_model::EndpointState;
use sluice_transport::{Accepted, Alpn, DeviceListener, DeviceStream, ServeLimits, ServeOptions, serve_exchange};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Runs until `stop`.
pub async fn run(app: Shared, mut listener: DeviceListener, stop: CancellationToken) {
    let router = device_router(&app);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted.alpn {
            Alpn::Http => {
                let caller = DeviceCaller { key: accepted.peer, remote: accepted.remote };
                let router = router.clone().layer(Extension(caller));
                connections.spawn(http(app.clone(), caller, accepted.stream, router, stop.clone()));
            }
            Alpn::Exchange => {
                connections.spawn(exchange(app.clone(), accepted, stop.clone()));
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn http(app: Shared, caller: DeviceCaller, stream: DeviceStream, router: Router, stop: CancellationToken) {
    tokio::select! {
        () = serve_connection(stream, router, stop) => {}
        () = until_expelled(&app, &caller.key) => {
            tracing::info!(device = %caller.key, remote = %caller.remote, "a device was revoked: its connection was cut");
        }
    }
}

async fn exchange(app: Shared, accepted: Accepted, stop: CancellationToken) {
    let Accepted { stream, peer, remote, .. } = accepted;
    let served = app.served();
    let Some(site) = served.site_of_node(&peer) else {
        tracing::info!(%peer, %remote, "a device that is no node of the roster asked for chunks and was closed");
        return;
    };
    let link = app.sites.of(Some(site));
    let options = ServeOptions {
        limits: ServeLimits::default(),
        pace: vec![link.throttle.clone()],
        sign_with: Some(app.device_key.clone()),
        counters: link.exchange.clone(),
    };
    let source = Arc::new(Origin::new(app.clone(), link, peer));
    let cut = stop.child_token();
    let serving = serve_exchange(stream, peer, source, &options, cut.clone());
    let ended = tokio::select! {
        ended = serving => ended,
        () = until_revoked(&app, &peer) => {
            tracing::info!(%peer, %remote, "a node left the roster: its connection was cut");
            return;
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %remote, error = crate::http::problem::chain(&error), "an exchange connection ended");
    }
}

/// Resolves when `key`, which was a device of the fleet at some time since the call, is one no longer.
async fn until_expelled(app: &Shared, key: &sluice_model::MemberKey) {
    let endpoint = endpoint_id_of(key);
    let mut versions = app.authority.versions();
    let mut was_known = false;
    loop {
        let served = app.served();
        let is_active = served.endpoint(&endpoint).is_some_and(|(_, row)| row.state == EndpointState::Active);
        let is_known = is_active || served.roster.member(key).is_some();
        drop(served);
        if was_known && !is_known {
            return;
        }
        was_known = is_known;
        if versions.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Resolves when `peer` is no longer a node of the roster.
async fn until_revoked(app: &Shared, peer: &sluice_model::MemberKey) {
    let mut versions = app.authority.versions();
    while app.served().site_of_node(peer).is_some() {
        if versions.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
