//! Runs: until told to stop, or one pass.

use crate::delivery::Delivered;
use crate::delivery_loop;
use crate::folder::{DataFolder, FolderError};
use crate::pass::{Done, PassError};
use crate::poll_loop;
use crate::wiring::{self, OpenError};
use sluice_settings::AgentSettings;
use sluice_state_store::StateError;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// `run --once` asks so often for the acknowledgement, with [`ONCE_PAUSE`] between.
const ONCE_STEPS: u32 = 6;
const ONCE_PAUSE: Duration = Duration::from_millis(500);

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

/// Until `stop`. The bill of materials: a poll loop and a delivery loop.
pub async fn forever(data: &Path, settings: AgentSettings, stop: CancellationToken) -> Result<(), RunError> {
    let every = Duration::from_millis(settings.poll.metadata_ms.max(50));
    let opened = wiring::open(&DataFolder::open(data)?, settings, stop.clone())?;
    let mut tasks: JoinSet<(&'static str, Result<(), RunError>)> = JoinSet::new();
    let delivering = delivery_loop::run(opened.delivery, opened.links, opened.journaled, stop.clone());
    tasks.spawn(async move { ("delivery_loop", delivering.await.map_err(RunError::from)) });
    let polling = poll_loop::run(opened.agent, every, stop.clone());
    tasks.spawn(async move { ("poll_loop", polling.await.map_err(RunError::from)) });
    wiring::notify_ready();
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = match ended {
            Ok((_, Ok(()))) if stop.is_cancelled() => Ok(()),
            Ok((name, Ok(()))) => Err(RunError::Task(name)),
            Ok((_, Err(error))) => Err(error),
            Err(error) => Err(RunError::Panicked(error)),
        };
        // The first error counts; it stops the other task too.
        stop.cancel();
        result = result.and(ended);
    }
    result
}

/// One pass, and its reports to a node.
pub async fn once(data: &Path, settings: AgentSettings, stop: CancellationToken) -> Result<Done, RunError> {
    let mut opened = wiring::open(&DataFolder::open(data)?, settings, stop.clone())?;
    let done = opened.agent.pass().await?;
    for _ in 0..ONCE_STEPS {
        let links = opened.links.borrow().clone();
        if opened.delivery.step(&links).await? == Delivered::Nothing || stop.is_cancelled() {
            break;
        }
        tokio::time::sleep(ONCE_PAUSE).await;
    }
    Ok(done)
}
