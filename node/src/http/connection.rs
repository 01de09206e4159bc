//! Serves HTTP on one connection, plain or TLS, with explicit deadlines (the framework sets none), and closes it when
//! the newest view no longer allows what it is sending.

use super::caller::Caller;
use super::running::Running;
use super::stall::Stalling;
use crate::view::ViewHandle;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// From the first byte of a request to the end of its head; also how long a kept-alive connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes no byte of an answer for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest request head; also about how much of an answer waits for the client in memory.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// After `stop`, how long a response that is running may go on.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves requests of `caller` until the connection ends, or `stop`; then the running response gets a moment to finish.
pub async fn serve_connection<S>(stream: S, caller: Caller, router: Router, views: ViewHandle, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let running = Running::default();
    let service = TowerToHyperService::new(router.layer(Extension(caller)).layer(Extension(running.clone())));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Stalling::new(stream, STALL_TIMEOUT)), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = running.forbidden(&views) => {
            tracing::info!(remote = %caller.remote(), "a response was cut: its content may no longer be served");
            return;
        }
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(remote = %caller.remote(), %error, "a connection ended early");
    }
}
