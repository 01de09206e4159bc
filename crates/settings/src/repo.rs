//! Settings of `sluice-repo`.

use crate::{ListenSettings, LogSettings};
use serde::{Deserialize, Serialize};

/// Everything that `sluice-repo serve` can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepoSettings {
    /// Where it listens.
    pub listen: ListenSettings,
    /// The serving lease.
    pub lease: LeaseSettings,
    /// The content store.
    pub store: StoreSettings,
    /// Logging.
    pub log: LogSettings,
}

impl Default for RepoSettings {
    fn default() -> Self {
        Self {
            listen: crate::listen([127, 0, 0, 1], 8470),
            lease: LeaseSettings::default(),
            store: StoreSettings::default(),
            log: LogSettings::default(),
        }
    }
}

/// How long metadata may be served from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeaseSettings {
    /// Expiry of the timestamp role, seconds, at least 10. It is re-signed every minute or every sixth of this,
    /// whichever is shorter.
    pub serving_secs: u64,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self { serving_secs: 24 * 3600 }
    }
}

/// Bounds of a content store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// Free bytes on the disk below which nothing more is stored.
    pub reserve_bytes: u64,
    /// Verified chunks kept in memory.
    pub memory_bytes: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { reserve_bytes: 256 << 20, memory_bytes: 32 << 20 }
    }
}
