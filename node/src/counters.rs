//! What this node counts, once: the same numbers go to `/metrics` and into its status at the repo server.
//!
//! Counters begin at zero with the process; `NodeStatus::boot` tells the repo server that they did.

use sluice_telemetry::metrics::{Counter, Metrics};
use sluice_transport::Throttle;
use std::sync::{Arc, OnceLock};

/// Counters of this process. Cheap to clone; each is incremented where the bytes pass a socket.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Exchange frames from the origin, headers and trailers included.
    pub origin_bytes: Counter,
    /// Exchange frames from peers, headers and trailers included.
    pub peer_bytes: Counter,
    /// Exchange frames sent to peers.
    pub peer_served_bytes: Counter,
    /// Content bytes sent to endpoints.
    pub served_bytes: Counter,
    /// Metadata, documents and manifests fetched across the WAN, and reports sent.
    pub metadata_bytes: Counter,
    /// Distinct chunks that this node led across the WAN.
    pub chunks_led: Counter,
    /// Chunks dropped because their bytes were wrong.
    pub corrupt_chunks: Counter,
    wan: Arc<OnceLock<Throttle>>,
}

impl Counters {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            origin_bytes: metrics.counter("origin_bytes", "Exchange bytes received from the origin"),
            peer_bytes: metrics.counter("peer_bytes", "Exchange bytes received from peers"),
            peer_served_bytes: metrics.counter("peer_served_bytes", "Exchange bytes sent to peers"),
            served_bytes: metrics.counter("served_bytes", "Content bytes sent to endpoints"),
            metadata_bytes: metrics.counter("metadata_bytes", "Metadata, document and manifest bytes across the WAN"),
            chunks_led: metrics.counter("chunks_led", "Distinct chunks led across the WAN"),
            corrupt_chunks: metrics.counter("corrupt_chunks", "Chunks dropped because their bytes were wrong"),
            wan: Arc::default(),
        }
    }

    /// Names the throttle that everything across the WAN passes: it meters each slice at the moment it passes, where
    /// the counters above are added to in steps. The first one named stays.
    pub fn measure_wan(&self, throttle: Throttle) {
        let _ = self.wan.set(throttle);
    }

    /// Exchange bytes that came from the origin just now.
    pub fn add_origin(&self, bytes: u64) {
        self.origin_bytes.inc_by(bytes);
    }

    /// Metadata, document, manifest or report bytes that crossed the WAN just now.
    pub fn add_metadata(&self, bytes: u64) {
        self.metadata_bytes.inc_by(bytes);
    }

    /// Most bytes that crossed the WAN in any one second.
    pub fn wan_peak_bytes_per_sec(&self) -> u64 {
        self.wan.get().map_or(0, Throttle::peak_per_sec)
    }
}
