//! Settings of `sluice-agent`.

use crate::LogSettings;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything that `sluice-agent run` can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSettings {
    /// How often it looks and reports.
    pub poll: PollSettings,
    /// The package manager.
    pub dpkg: DpkgSettings,
    /// Logging.
    pub log: LogSettings,
}

/// How often the agent looks and reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PollSettings {
    /// Between two looks at the metadata, milliseconds; a tenth of it is added at random.
    pub metadata_ms: u64,
    /// Between two signs of life when nothing else was reported, seconds.
    pub heartbeat_secs: u64,
    /// How long a node that took reports is given until the repository's acknowledgement is back, milliseconds; then they
    /// go another way.
    pub acknowledged_within_ms: u64,
    /// First wait after a failed attempt, seconds; it doubles up to a day.
    pub retry_secs: u64,
}

impl Default for PollSettings {
    fn default() -> Self {
        Self { metadata_ms: 60_000, heartbeat_secs: 6 * 3600, acknowledged_within_ms: 120_000, retry_secs: 600 }
    }
}

/// The package manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DpkgSettings {
    /// Root of the managed system; `/` for the machine itself.
    pub root: PathBuf,
    /// The program.
    pub program: PathBuf,
    /// Its query companion.
    pub query_program: PathBuf,
    /// Passes `--force-not-root`: for roots that an ordinary user owns, never for `/`.
    pub force_not_root: bool,
    /// Longest transaction, seconds.
    pub timeout_secs: u64,
}

impl Default for DpkgSettings {
    fn default() -> Self {
        Self {
            root: "/".into(),
            program: "dpkg".into(),
            query_program: "dpkg-query".into(),
            force_not_root: false,
            timeout_secs: 1_800,
        }
    }
}
