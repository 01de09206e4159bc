//! Removes what nobody needs: uploads that expired, the bytes of patches that were retracted long ago, and content that a
//! publication left whose client went away in the middle of it.

use crate::http::problem::chain;
use crate::operations::{publish, upload};
use crate::state::Shared;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// An upload lives a day; a quarter of an hour more does not matter.
const INTERVAL: Duration = Duration::from_secs(15 * 60);

/// Runs until `stop`.
pub async fn run(app: Shared, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {
                if let Err(failure) = upload::sweep(&app).await {
                    tracing::warn!(error = chain(&failure), "expired uploads were not removed; trying again later");
                }
                if let Err(failure) = publish::sweep_content(&app).await {
                    tracing::warn!(error = chain(&failure), "unused content was not removed; trying again later");
                }
            }
        }
    }
}
