//! Removes what nobody needs: uploads that expired, the bytes of retracted artifacts, and content that a publication
//! left whose client went away in the middle of it.

use crate::http::problem::chain;
use crate::operations::{publish, upload};
use crate::state::Shared;
use sluice_model::ArtifactId;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// An upload lives a day; a quarter of an hour more does not matter.
const INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Artifacts that wait to be removed: a retraction of the largest patch and of three that share with it.
pub const RETIRED_MAX: usize = 256;

/// Runs until `stop`. What is left of `retired` then goes at the next start.
pub async fn run(app: Shared, mut retired: mpsc::Receiver<ArtifactId>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(artifact) = retired.recv() => remove(&app, artifact).await,
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

async fn remove(app: &Shared, artifact: ArtifactId) {
    match app.content.remove(&artifact).await {
        Ok(()) => tracing::info!(%artifact, "retracted bytes were removed"),
        Err(error) => {
            tracing::warn!(%artifact, error = chain(&error), "retracted bytes stay on disk until the next start");
        }
    }
}
