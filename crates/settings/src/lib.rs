//! Settings of the three long-running programs: one TOML file each, every key documented, unknown keys refused.
//!
//! Order of precedence: command line flags (the program applies them), environment, file, default. An environment
//! variable `SLUICE_<SECTION>_<KEY>` overrides one key, for instance `SLUICE_LISTEN_HTTP=127.0.0.1:0`.
//! `deploy/*.toml` show every key with its default; a test loads them and compares.

mod agent;
#[cfg(test)]
mod deployed;
mod load;
mod node;
mod repo;

pub use agent::{AgentSettings, DpkgSettings, PollSettings};
pub use load::{SettingsError, load};
pub use node::{CacheSettings, CarrierChoice, ExchangeSettings, NodeSettings, OriginSettings};
pub use repo::{HttpsSettings, LeaseSettings, RepoSettings, ReportSettings, StoreSettings};

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Where a program listens. Port 0 lets the system choose; `listening.json` in the data folder says what it chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenSettings {
    /// Plain HTTP.
    pub http: SocketAddr,
    /// TLS 1.3 with raw keys: exchange protocol and device HTTP.
    pub device: SocketAddr,
    /// libp2p over TCP.
    pub overlay: SocketAddr,
}

/// How a program logs, to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// For people (`text`) or for collectors (`json`).
    pub format: LogFormat,
    /// A filter such as `info` or `info,sluice_node=debug`.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}

fn listen(host: [u8; 4], first_port: u16) -> ListenSettings {
    let at = |offset: u16| SocketAddr::from((host, first_port + offset));
    ListenSettings { http: at(0), device: at(1), overlay: at(2) }
}
