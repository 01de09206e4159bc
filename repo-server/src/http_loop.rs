//! Accepts plain HTTP connections, at most so many at once, and serves each in a task of its own.

use crate::http::serve::serve_connection;
use crate::http::{Remote, public_router};
use crate::state::Shared;
use axum::Extension;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at once; at the cap the kernel's queue fills and nothing is accepted. Each costs some 20 KiB.
const CONNECTIONS_MAX: usize = 1_024;
/// After the system refused a connection (out of descriptors, say), so that it is not asked in a tight loop.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(50);

/// Runs until `stop`; then running responses get a moment to finish.
pub async fn run(app: Shared, listener: TcpListener, stop: CancellationToken) {
    let router = public_router(&app);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            listener.accept().await.map(|(stream, remote)| (stream, remote, place))
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, remote, place)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%remote, %error, "TCP_NODELAY was not set");
                }
                let (router, stop) = (router.clone().layer(Extension(Remote(remote))), stop.clone());
                connections.spawn(async move {
                    serve_connection(stream, router, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept HTTP connections");
                tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
}
