//! Says why this machine has what it has, in the words of `rollout`.

use crate::folder::{DataFolder, FolderError};
use crate::pass::Explanation;
use crate::wiring::{self, OpenError};
use sluice_settings::AgentSettings;
use std::path::Path;

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Cannot be taken up.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The agent runs and has not made a pass yet.
    #[error("the agent is running and has not looked yet; ask again in a moment")]
    NotYet,
}

/// From the stored, verified metadata and dpkg as they are now; while the agent runs, what it wrote at its last look.
pub async fn run(data: &Path, settings: AgentSettings) -> Result<Explanation, ExplainError> {
    let folder = DataFolder::open(data)?;
    match wiring::open(&folder, settings, Default::default()) {
        Ok(mut opened) => match opened.agent.look().await {
            Ok(explanation) => Ok(explanation),
            // Documents that were never fetched: what was written last is all there is.
            Err(error) => read(&folder).ok_or_else(|| ExplainError::Open(OpenError::Look(Box::new(error)))),
        },
        Err(OpenError::Running { .. }) => read(&folder).ok_or(ExplainError::NotYet),
        Err(error) => Err(error.into()),
    }
}

fn read(folder: &DataFolder) -> Option<Explanation> {
    serde_json::from_slice(&std::fs::read(folder.explanation()).ok()?).ok()
}
