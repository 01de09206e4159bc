//! Accepts plain HTTP connections of endpoints; each is served in a task of this loop's own set.

use crate::http::caller::Caller;
use crate::http::connection::serve_connection;
use crate::view::ViewHandle;
use axum::Router;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at once: a site's endpoints come in waves of hundreds; each idle one costs some 20 KiB.
const CONNECTIONS_MAX: usize = 4_096;
/// After the system refused to accept (out of descriptors, say).
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(50);

/// Accepts until `stop`, then waits for the responses that are running, which end within their own bound.
pub async fn run(listener: TcpListener, router: Router, views: ViewHandle, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, remote, place)) => {
                let (router, views, stop) = (router.clone(), views.clone(), stop.clone());
                connections.spawn(async move {
                    serve_connection(stream, Caller::Plain { remote }, router, views, stop).await;
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

/// A place first, then a connection: at the bound the kernel's queue fills, and nothing is accepted.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, std::net::SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, remote) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, remote, place))
}
