//! Keeps the node's throttles, and where the origin is, as the newest signed documents and the site's wall clock say.

use crate::clock;
use crate::origin::Origin;
use crate::view::{NodeView, ViewHandle};
use sluice_model::Timestamp;
use sluice_pacing::{WanCalendar, WanNow};
use sluice_transport::Throttle;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Longest sleep before a change of the schedule: a clock that is set meanwhile is noticed within it.
const CLOCK_LOOK: Duration = Duration::from_secs(30);

/// The limits of this node. Every byte passes one of them.
#[derive(Clone, Debug)]
pub struct Throttles {
    /// Everything that crosses the site's WAN link: chunks from the origin, metadata, documents, manifests, reports.
    pub wan: Throttle,
    /// What this node serves to endpoints and peers.
    pub serve: Throttle,
    /// What the schedule says of the WAN link now.
    wan_now: Arc<watch::Sender<WanNow>>,
}

impl Throttles {
    /// The limits of `view` now.
    pub fn of(view: &NodeView) -> Self {
        let now = wan_now(view);
        let serve = Throttle::new(view.limits.site(&view.site).serve_bytes_per_sec);
        Self { wan: Throttle::new(now.bytes_per_sec), serve, wan_now: Arc::new(watch::Sender::new(now)) }
    }

    /// What the schedule says of the WAN link, and its changes.
    pub fn wan_now(&self) -> watch::Receiver<WanNow> {
        self.wan_now.subscribe()
    }

    /// Takes the limits of a newer view, or of a later hour; streams that are running notice at once. Answers when the
    /// schedule changes them.
    pub fn follow(&self, view: &NodeView) -> Option<Timestamp> {
        let now = wan_now(view);
        self.wan.set_rate(now.bytes_per_sec);
        self.serve.set_rate(view.limits.site(&view.site).serve_bytes_per_sec);
        let before = self.wan_now.send_replace(now);
        if (before.bytes_per_sec, before.is_closed) != (now.bytes_per_sec, now.is_closed) {
            let cap = now.bytes_per_sec.map_or("none".to_owned(), |rate| rate.to_string());
            tracing::info!(cap, closed = now.is_closed, until = ?now.until, "the limits of the WAN link changed");
        }
        now.until
    }
}

fn wan_now(view: &NodeView) -> WanNow {
    let usual = view.limits.site(&view.site).wan_bytes_per_sec;
    WanCalendar::new(usual, view.limits.schedules.get(&view.site)).at(view.now())
}

/// Follows the views and the hours until `stop`.
pub async fn run(throttles: Throttles, origin: Arc<Origin>, view: ViewHandle, stop: CancellationToken) {
    let mut changed = view.changed();
    let mut change = throttles.follow(&view.load());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changed.changed() => if changed.is_err() { return },
            () = until(change) => {}
        }
        let newest = view.load();
        change = throttles.follow(&newest);
        if let Err(error) = origin.follow(&newest.roster) {
            tracing::warn!(%error, "the roster's address of the origin cannot be used");
        }
    }
}

/// Waits until `change`, or until the clock is to be looked at again.
async fn until(change: Option<Timestamp>) {
    match change {
        None => std::future::pending().await,
        Some(at) => tokio::time::sleep(at.since(clock::timestamp()).min(CLOCK_LOOK)).await,
    }
}
