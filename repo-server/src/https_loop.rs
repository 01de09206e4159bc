//! Accepts HTTPS connections and serves each in a task of its own: the same routes as plain HTTP, but a token may come
//! from anywhere.

use crate::http::serve::serve_connection;
use crate::http::{Encrypted, Remote, public_router};
use crate::state::Shared;
use axum::Extension;
use sluice_transport::{AcceptedHttps, HttpsListener, ListenLimits};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at once, as for plain HTTP. Each costs some 60 KiB: TLS buffers twice what HTTP does.
const CONNECTIONS_MAX: usize = 1_024;

/// Bounds of the listener.
pub fn limits() -> ListenLimits {
    ListenLimits { connections_max: CONNECTIONS_MAX, ..ListenLimits::default() }
}

/// Runs until `stop`; then running responses get a moment to finish.
pub async fn run(app: Shared, mut listener: HttpsListener, stop: CancellationToken) {
    let router = public_router(&app).layer(Extension(Encrypted));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let AcceptedHttps { stream, remote, place } = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (router, stop) = (router.clone().layer(Extension(Remote(remote))), stop.clone());
        connections.spawn(async move {
            serve_connection(stream, router, stop).await;
            drop(place);
        });
    }
    while connections.join_next().await.is_some() {}
}
