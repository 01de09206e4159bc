//! Follows the signed state: whenever a ring changed, its apt index follows within a second or two; and signs indices
//! anew in good time.
//!
//! Beside the changes themselves, not inside them: a retraction never fails or waits because of an index. In between a
//! node refuses the bytes, whatever an index still says.

use crate::clock;
use crate::http::problem::chain;
use crate::operations::apt;
use crate::state::Shared;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longest wait between two looks: when nothing changes, dates run on.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(60);
/// Looks in the quarter of the validity after which an index is signed anew, and a quarter is the smallest part of it.
const LOOKS_PER_VALIDITY: u32 = 8;
/// Least time between two signings: `Date` counts seconds.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs until `stop`. A failure is logged and tried again with the next look; until then the indices stay as they are.
pub async fn run(app: Shared, stop: CancellationToken) {
    let mut versions = app.authority.versions();
    let valid_for = Duration::from_secs(app.settings.apt.valid_secs);
    let look_every = (valid_for / LOOKS_PER_VALIDITY).min(LOOK_EVERY_MAX);
    loop {
        versions.mark_unchanged();
        let pause = match apt::refresh(&app, clock::timestamp()).await {
            Ok(_) => INTERVAL,
            Err(failure) => {
                tracing::error!(error = chain(&failure), "the apt indices were not brought up to date; trying again");
                look_every.max(INTERVAL)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = versions.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(look_every) => {}
        }
    }
}
