//! Keeps the node's throttles, and where the origin is, as the newest signed documents say.

use crate::origin::Origin;
use crate::view::{NodeView, ViewHandle};
use sluice_transport::Throttle;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The limits of this node. Every byte passes one of them.
#[derive(Clone, Debug)]
pub struct Throttles {
    /// Everything that crosses the site's WAN link: chunks from the origin, metadata, documents, manifests, reports.
    pub wan: Throttle,
    /// What this node serves to endpoints and peers.
    pub serve: Throttle,
}

impl Throttles {
    /// The limits of `view`.
    pub fn of(view: &NodeView) -> Self {
        let limits = view.limits.site(&view.site);
        Self { wan: Throttle::new(limits.wan_bytes_per_sec), serve: Throttle::new(limits.serve_bytes_per_sec) }
    }

    /// Takes the limits of a newer view; streams that are running notice at once.
    pub fn follow(&self, view: &NodeView) {
        let limits = view.limits.site(&view.site);
        self.wan.set_rate(limits.wan_bytes_per_sec);
        self.serve.set_rate(limits.serve_bytes_per_sec);
    }
}

/// Follows the views until `stop`.
pub async fn run(throttles: Throttles, origin: Arc<Origin>, view: ViewHandle, stop: CancellationToken) {
    let mut changed = view.changed();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changed.changed() => if changed.is_err() { return },
        }
        let newest = view.load();
        throttles.follow(&newest);
        if let Err(error) = origin.follow(&newest.roster) {
            tracing::warn!(%error, "the roster's address of the origin cannot be used");
        }
    }
}
