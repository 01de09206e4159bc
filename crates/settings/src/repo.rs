//! Settings of `sluice-repo`.

use crate::{ListenSettings, LogSettings};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Everything that `sluice-repo serve` can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepoSettings {
    /// Where it listens.
    pub listen: ListenSettings,
    /// HTTPS for people and foreign clients.
    pub https: HttpsSettings,
    /// The serving lease.
    pub lease: LeaseSettings,
    /// The Debian repository of each ring.
    pub apt: AptSettings,
    /// Outcome reports.
    pub reports: ReportSettings,
    /// The content store.
    pub store: StoreSettings,
    /// Logging.
    pub log: LogSettings,
}

impl Default for RepoSettings {
    fn default() -> Self {
        Self {
            listen: crate::listen([127, 0, 0, 1], 8470),
            https: HttpsSettings::default(),
            lease: LeaseSettings::default(),
            apt: AptSettings::default(),
            reports: ReportSettings::default(),
            store: StoreSettings::default(),
            log: LogSettings::default(),
        }
    }
}

/// HTTPS with certificates of the internal CA: where tokens may cross a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpsSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Host names and addresses by which clients reach it, besides this machine's name, its loopback addresses and the
    /// address in `listen`.
    pub names: Vec<String>,
    /// Life of a certificate, seconds: at least 3, at most seven days. It is renewed after two thirds.
    pub leaf_secs: u64,
}

impl Default for HttpsSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8473)), names: Vec::new(), leaf_secs: 7 * 24 * 3600 }
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

/// The indices that apt reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AptSettings {
    /// From `Date` to `Valid-Until` of an index, seconds: at least 10, at most 30 days. It is signed anew after a quarter.
    pub valid_secs: u64,
}

impl Default for AptSettings {
    fn default() -> Self {
        Self { valid_secs: 7 * 24 * 3600 }
    }
}

/// What becomes of endpoints that say nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportSettings {
    /// Silence after which an endpoint's compliance is unknown, seconds: longer than the agents' `heartbeat_secs`.
    pub silence_secs: u64,
}

impl Default for ReportSettings {
    fn default() -> Self {
        Self { silence_secs: 7 * 3600 }
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
