//! The content that a connection is sending now, so that it can be cut while the client is not even reading.

use crate::gate::GateRequest;
use crate::view::{NodeView, ViewHandle};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A lease is looked at when it ends, and again after at most this long: the system clock may jump.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Shared by a connection and its responses, of which one runs at a time.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Mutex<Option<GateRequest>>>);

/// As long as it lives, the response runs.
#[derive(Debug)]
pub struct RunningResponse(Running);

impl Running {
    /// A response to `request` begins.
    pub fn begin(&self, request: GateRequest) -> RunningResponse {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
        RunningResponse(self.clone())
    }

    fn may_go_on(&self, view: &NodeView) -> bool {
        let running = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.is_none_or(|request| request.may_go_on(view))
    }

    /// Returns when a view forbids what is running, or the lease on it ends.
    pub async fn forbidden(&self, views: &ViewHandle) {
        let mut changed = views.changed();
        while self.may_go_on(&views.load()) {
            let look_at = Instant::now() + LOOK_AGAIN_AFTER.min(views.load().until_lease_end());
            tokio::select! {
                change = changed.changed() => if change.is_err() { tokio::time::sleep_until(look_at).await },
                () = tokio::time::sleep_until(look_at) => {}
            }
        }
    }
}

impl Drop for RunningResponse {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
