//! What every request and task of the program shares.

use crate::authority::Authority;
use crate::clock;
use crate::counters::{SiteLink, SiteLinks};
use crate::draft::sha256_of;
use crate::gauges::Gauges;
use crate::node_board::NodeBoard;
use crate::operations::audited::RefusalBudget;
use crate::operations::upload::BusyUploads;
use crate::overlay_links::LinkTable;
use crate::quotas::Quotas;
use crate::restore_room::RestoreRoom;
use crate::served::Served;
use sluice_compliance_store::ComplianceStore;
use sluice_content_store::ContentStore;
use sluice_identity::{DeviceKey, InternalCa, endpoint_id_of};
use sluice_model::{MemberKey, Sha256, Timestamp};
use sluice_openpgp::ArchiveKey;
use sluice_repo_store::Store;
use sluice_settings::RepoSettings;
use sluice_telemetry::metrics::Metrics;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// Roots that enrolment tokens may name: a token is good for 30 days at most, and nobody rotates every other day. Each costs
/// one signature check of a forged enrolment.
const ROOTS_NAMED_MAX: usize = 16;

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
    /// Signs the certificates of the HTTPS listener.
    pub ca: InternalCa,
    /// Signs what apt reads.
    pub archive_key: ArchiveKey,
    /// Counters for `/metrics`.
    pub metrics: Metrics,
    /// The gauges among them.
    pub gauges: Gauges,
    /// As loaded.
    pub settings: RepoSettings,
    /// Random per process start: part of request ids.
    pub boot: u32,
    /// The data folder.
    pub data: PathBuf,
    /// Artifacts: every one whole.
    pub content: ContentStore,
    /// Held while a publication cuts and records its files.
    pub publishing: tokio::sync::Mutex<()>,
    /// The way to each site.
    pub sites: SiteLinks,
    /// Who is connected over the overlay.
    pub overlay_links: LinkTable,
    /// Outcome reports, facts and counters.
    pub compliance: ComplianceStore,
    /// What nodes say of themselves.
    pub board: NodeBoard,
    /// How many requests people may make.
    pub quotas: Quotas,
    /// How many refusals may still be written to the audit log.
    pub refusals: RefusalBudget,
    /// What nodes showed, while this server is being restored from a backup.
    pub restore: RestoreRoom,
    /// Held while what a node shows is read and verified: a body may be large.
    pub showing: tokio::sync::Mutex<()>,
    /// Uploads in use by a request.
    pub busy_uploads: BusyUploads,
    /// Cancelled first when the program stops: long requests end early and keep what they have.
    pub stopping: CancellationToken,
    /// Where the listeners are, once they are bound.
    pub listening: OnceLock<Listening>,
}

/// Addresses that were bound.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Listening {
    /// Plain HTTP.
    pub http: SocketAddr,
    /// HTTPS with certificates of the internal CA.
    pub https: SocketAddr,
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

    /// SHA-256 of the first root: what this repository is known by, whatever roots follow.
    pub fn root_sha256(&self) -> Option<Sha256> {
        self.served().files.get("1.root.json").map(|bytes| sha256_of(bytes))
    }

    /// SHA-256 of the roots that enrolment tokens may name, the one in force first. New tokens name that one; those made
    /// before a rotation, one of the others.
    pub fn roots_sha256(&self) -> Vec<Sha256> {
        let served = self.served();
        let version = |name: &str| name.strip_suffix(".root.json")?.parse::<u64>().ok();
        let mut roots: Vec<(u64, Sha256)> =
            served.files.iter().filter_map(|(name, bytes)| Some((version(name)?, sha256_of(bytes)))).collect();
        roots.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
        roots.truncate(ROOTS_NAMED_MAX);
        roots.into_iter().map(|(_, sha256)| sha256).collect()
    }

    /// The way to the site of a device; devices that belong to none share one.
    pub fn links_of(&self, key: &MemberKey) -> Arc<SiteLink> {
        let served = self.served();
        let of_endpoint = || served.endpoint(&endpoint_id_of(key)).map(|(site, _)| site);
        self.sites.of(served.site_of_node(key).or_else(of_endpoint))
    }

    /// Sets every site's pace to what its signed cap and schedule say now; answers when a schedule changes that.
    pub fn follow_limits(&self) -> Option<Timestamp> {
        let served = self.served();
        let sites = served.topology.sites.iter().map(|site| site.name.clone());
        self.sites.apply(&served.limits, sites, clock::timestamp())
    }

    /// Brings the gauges up to date, for whoever reads `/metrics` next.
    pub fn measure(&self) {
        self.gauges.measure(self);
    }
}
