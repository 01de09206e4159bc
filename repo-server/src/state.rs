//! What every request and task of the program shares.

use crate::authority::Authority;
use crate::operations::upload::BusyUploads;
use crate::served::Served;
use sluice_identity::DeviceKey;
use sluice_repo_store::Store;
use sluice_settings::RepoSettings;
use sluice_telemetry::metrics::Metrics;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// State of handlers: `State<Shared>`.
pub type Shared = Arc<App>;

/// Everything that outlives a request.
pub struct App {
    /// The program's own database.
    pub store: Store,
    /// Signs, stores and serves metadata.
    pub authority: Authority,
    /// Key of this origin: TLS, overlay, acknowledgements.
    pub device_key: DeviceKey,
    /// Counters for `/metrics`.
    pub metrics: Metrics,
    /// As loaded.
    pub settings: RepoSettings,
    /// Random per process start: part of request ids.
    pub boot: u32,
    /// The data folder.
    pub data: PathBuf,
    /// Uploads in use by a request.
    pub busy_uploads: BusyUploads,
    /// Where the listeners are, once they are bound.
    pub listening: OnceLock<Listening>,
}

/// Addresses that were bound.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Listening {
    /// Plain HTTP.
    pub http: SocketAddr,
    /// TLS with raw keys.
    pub device: SocketAddr,
    /// libp2p over TCP.
    pub overlay: SocketAddr,
}

impl App {
    /// What is served now.
    pub fn served(&self) -> Arc<Served> {
        self.authority.served()
    }
}
