//! Settings of `sluice-node`. Limits and rings are not here: they come from signed policy.

use crate::{ListenSettings, LogSettings};
use serde::{Deserialize, Serialize};

/// Everything that `sluice-node serve` can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSettings {
    /// Where it listens.
    pub listen: ListenSettings,
    /// How often it speaks to the repository.
    pub origin: OriginSettings,
    /// The content store.
    pub cache: CacheSettings,
    /// Moving chunks.
    pub exchange: ExchangeSettings,
    /// Logging.
    pub log: LogSettings,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            listen: crate::listen([0, 0, 0, 0], 8480),
            origin: OriginSettings::default(),
            cache: CacheSettings::default(),
            exchange: ExchangeSettings::default(),
            log: LogSettings::default(),
        }
    }
}

/// How often a node speaks to the repository without being told to by gossip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OriginSettings {
    /// Between two looks for new metadata, milliseconds.
    pub metadata_poll_ms: u64,
    /// Between two status messages, milliseconds.
    pub status_ms: u64,
    /// Longest wait before spooled outcome reports are tried again, milliseconds.
    pub report_retry_ms_max: u64,
}

impl Default for OriginSettings {
    fn default() -> Self {
        Self { metadata_poll_ms: 30_000, status_ms: 5_000, report_retry_ms_max: 60_000 }
    }
}

/// Bounds of the content store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// Free bytes on the disk below which caching stops (serving goes on).
    pub reserve_bytes: u64,
    /// Verified chunks kept in memory.
    pub memory_bytes: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { reserve_bytes: 256 << 20, memory_bytes: 32 << 20 }
    }
}

/// Moving chunks between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExchangeSettings {
    /// What carries the frames.
    pub carrier: CarrierChoice,
    /// Silence of a leader after which the next in rank takes over, milliseconds.
    pub hedge_ms: u64,
}

impl Default for ExchangeSettings {
    fn default() -> Self {
        Self { carrier: CarrierChoice::Tcp, hedge_ms: 4_000 }
    }
}

/// Carrier of exchange frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CarrierChoice {
    /// TLS 1.3 over TCP.
    Tcp,
    /// QUIC.
    Quic,
}
