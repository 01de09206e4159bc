//! Finishes a restore once the nodes were heard, and then does what a start does that signs. Without a restore it only waits
//! for the end of the program.

use crate::http::problem::chain;
use crate::operations::restore;
use crate::restore_room::Readiness;
use crate::state::Shared;
use crate::wiring;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// Looks between two words about nodes that are waited for: every half minute.
const LOOKS_PER_WORD: u32 = 60;

/// Runs until `stop`. A failure to finish is logged and tried again: until then nothing is signed.
pub async fn run(app: Shared, stop: CancellationToken) {
    let mut looks = 0;
    while let Some(record) = app.restore.record() {
        match app.restore.readiness(&app.served().roster, crate::clock::now()) {
            Readiness::Ready(unheard) => match finish(&app, unheard).await {
                Ok(()) => break,
                Err(error) => tracing::error!(error = format!("{error:#}"), "the restore could not be finished"),
            },
            Readiness::Waiting(nodes) if looks % LOOKS_PER_WORD == 0 => tracing::warn!(
                nodes = nodes.join(", "),
                "restored from a backup: nothing is signed until these nodes have shown what they hold, or for {} s; they \
                 come by themselves",
                record.wait_secs
            ),
            Readiness::Waiting(_) => {}
        }
        looks += 1;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    stop.cancelled().await;
}

async fn finish(app: &Shared, unheard: Vec<String>) -> anyhow::Result<()> {
    if !unheard.is_empty() {
        tracing::warn!(
            nodes = unheard.join(", "),
            "these nodes were not heard; restore again when one of them knows more"
        );
    }
    restore::finish(app).await?;
    if let Err(error) = wiring::after_signing_began(app).await {
        tracing::error!(
            error = format!("{error:#}"),
            "restored, but a step of the start failed; restart the repo server"
        );
    }
    if let Err(failure) = app.authority.renew().await {
        tracing::error!(error = chain(&failure), "the first timestamp after the restore was not signed");
    }
    Ok(())
}
