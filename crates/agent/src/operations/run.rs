//! Runs: until told to stop, or one pass.

use crate::delivery::Delivered;
use crate::folder::{DataFolder, FolderError};
use crate::pass::{Done, PassError};
use crate::wiring::{self, OpenError};
use sluice_settings::AgentSettings;
use sluice_state_store::StateError;
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// `run --once` asks so often for the acknowledgement, with [`ONCE_PAUSE`] between.
const ONCE_STEPS: u32 = 6;
const ONCE_PAUSE: Duration = Duration::from_millis(500);

/// A poll interval is at least this long.
const POLL_LEAST: Duration = Duration::from_millis(50);

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Cannot be taken up.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A pass.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The store.
    #[error(transparent)]
    State(#[from] StateError),
    /// A task ended that should not.
    #[error("the task {0} ended unexpectedly")]
    Task(&'static str),
    /// A task panicked; this is a bug.
    #[error("a task panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Until `stop`.
pub async fn forever(data: &Path, settings: AgentSettings, stop: CancellationToken) -> Result<(), RunError> {
    let every = Duration::from_millis(settings.poll.metadata_ms).max(POLL_LEAST);
    let opened = wiring::open(&DataFolder::open(data)?, settings, stop.clone())?;
    wiring::run(opened, every, stop).await
}

/// One pass, and its reports to a node.
pub async fn once(data: &Path, settings: AgentSettings, stop: CancellationToken) -> Result<Done, RunError> {
    let mut opened = wiring::open(&DataFolder::open(data)?, settings, stop.clone())?;
    let done = opened.agent.pass().await?;
    for _ in 0..ONCE_STEPS {
        let links = opened.links.borrow().clone();
        let delivered = opened.delivery.step(&links).await?;
        if matches!(delivered, Delivered::Nothing | Delivered::Checking) || stop.is_cancelled() {
            break;
        }
        tokio::time::sleep(ONCE_PAUSE).await;
    }
    Ok(done)
}
