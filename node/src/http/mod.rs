//! HTTP of the node, one file per resource. Two routers: for anybody over plain HTTP, and for devices over TLS.

pub mod apt;
pub mod body;
pub mod caller;
pub mod connection;
pub mod content;
pub mod health;
pub mod outcomes;
pub mod problem;
pub mod running;
pub mod stall;
pub mod tuf;

use crate::counters::Counters;
use crate::fetch::FetchHandle;
use crate::view::ViewHandle;
use axum::Router;
use axum::extract::Request;
use axum::routing::{get, post};
use sluice_api::problem::ProblemType;
use sluice_content_store::ContentStore;
use sluice_state_store::{Spool, StateStore};
use sluice_telemetry::metrics::Metrics;
use sluice_transport::Throttle;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// State of every handler. Cheap to clone.
#[derive(Clone)]
pub struct NodeHttp {
    /// What may be served, to whom.
    pub view: ViewHandle,
    /// Content that is here.
    pub content: ContentStore,
    /// Content that is not here yet.
    pub fetch: FetchHandle,
    /// What is served passes it.
    pub serve: Throttle,
    /// What is counted.
    pub counters: Counters,
    /// Takes outcome reports.
    pub spool: Spool,
    /// Told when reports were spooled.
    pub spooled: Arc<Notify>,
    /// Acknowledgements.
    pub store: StateStore,
    /// Highest tombstone serial that is fenced.
    pub fenced: watch::Receiver<u64>,
    /// Everything for `/metrics`.
    pub metrics: Metrics,
    /// Read when `/metrics` is.
    pub gauges: health::Gauges,
}

/// For endpoints without an agent: content, metadata, health.
pub fn plain_router(node: NodeHttp) -> Router {
    let health = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics));
    finish(health.merge(signed_reads()), node)
}

/// For agents: the same reads, with the rings of the endpoint's own row, and their reports.
pub fn device_router(node: NodeHttp) -> Router {
    let device = Router::new()
        .route("/device/v1/outcomes", post(outcomes::accept))
        .route("/device/v1/acknowledgements", get(outcomes::acknowledgements));
    finish(device.merge(signed_reads()), node)
}

/// What both may read, each within its gate.
fn signed_reads() -> Router<NodeHttp> {
    content::routes().merge(tuf::routes()).merge(apt::routes())
}

fn finish(router: Router<NodeHttp>, node: NodeHttp) -> Router {
    router.fallback(not_found).method_not_allowed_fallback(wrong_method).with_state(node)
}

async fn not_found(request: Request) -> problem::Refusal {
    let detail = format!("{} is not served here", request.uri().path());
    problem::Refusal::new(ProblemType::NotFound, detail)
}

async fn wrong_method(request: Request) -> problem::Refusal {
    let detail = format!("{} does not take {}", request.uri().path(), request.method());
    problem::Refusal::new(ProblemType::MethodNotAllowed, detail)
}
