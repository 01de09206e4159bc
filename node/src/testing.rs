//! For tests: a repository that really signs, and a node's parts over real files in a folder of their own.

use crate::clock;
use crate::counters::Counters;
use crate::fetch::FetchHandle;
use crate::http::NodeHttp;
use crate::http::health::Gauges;
use crate::operations::advance::{self, Documents};
use crate::origin::Origin;
use crate::view::{NodeView, Place, SignedDocument, ViewHandle, ViewPublisher};
use sluice_api::gossip::MetadataBundle;
use sluice_content_store::{ContentStore, StoreLimits};
use sluice_identity::DeviceKey;
use sluice_metadata::{
    DocumentRef, InitParams, Keyring, Profile, Publication, RepositoryProfile, RoleName, Signer, TargetEntry, Trusted,
    Writer, dev_roles,
};
use sluice_model::{
    EndpointRow, EndpointRows, EndpointState, MemberKey, RetractedContent, RingName, Sha256, Timestamp, Tombstone,
};
use sluice_rollout::TrustedClock;
use sluice_state_store::StateStore;
use sluice_telemetry::metrics::Metrics;
use sluice_transport::Throttle;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const LEASE: Duration = Duration::from_secs(3_600);

/// A repository with one ring, one key a role.
pub struct Repository {
    writer: Writer,
    keyring: Keyring,
    first: Publication,
}

impl Repository {
    pub fn new() -> Self {
        let rings: Vec<RingName> = vec!["pilot".parse().unwrap()];
        let mut keyring = Keyring::default();
        for (idx, role) in dev_roles(&rings).into_iter().enumerate() {
            keyring.insert(role, Signer::from_seed([idx as u8 + 1; 32]));
        }
        let params = InitParams {
            repo_id: "test".into(),
            profile: RepositoryProfile::Dev,
            rings,
            now: clock::timestamp(),
            lease: LEASE,
        };
        let (writer, first) = Writer::init(params, &keyring).unwrap();
        Self { writer, keyring, first }
    }

    /// What a node that joined at the beginning trusts.
    pub fn first(&self) -> Trusted {
        let file =
            |name: &str| self.first.files.iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes.clone());
        let root = Trusted::new(&file("1.root.json").unwrap(), Profile::Strict).unwrap();
        root.apply(&mut |name| file(name), clock::timestamp()).unwrap().trusted
    }

    /// A newer timestamp over the same roles.
    pub fn renew(&mut self) -> Publication {
        self.writer.resign_timestamp(&self.keyring, clock::timestamp(), LEASE).unwrap()
    }

    /// Retracts one artifact.
    pub fn retract(&mut self, serial: u64, content: RetractedContent) -> Publication {
        let role = RoleName::retractions();
        let tombstone = Tombstone {
            schema: 1,
            serial,
            patch: "demo/1".parse().unwrap(),
            content: vec![content],
            reason: "bad".into(),
            by: "rita".parse().unwrap(),
            at: clock::timestamp(),
            approved: Default::default(),
        };
        let mut entries = self.writer.entries(&role).unwrap().clone();
        let entry = TargetEntry {
            length: 1,
            sha256: Sha256::from_bytes([1; 32]),
            custom: Some(serde_json::json!({ "tombstone": tombstone })),
        };
        entries.insert(format!("retractions/{serial}").parse().unwrap(), entry);
        self.writer.set_entries(&role, entries).unwrap();
        self.writer.commit(&self.keyring, clock::timestamp(), LEASE).unwrap()
    }
}

/// As it is gossiped.
pub fn bundle(publication: &Publication) -> MetadataBundle {
    let files = publication.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    MetadataBundle::decode(&MetadataBundle::encode(files)).unwrap()
}

/// The node of these tests.
pub fn place() -> Place {
    Place { key: MemberKey::from_bytes([9; 32]), site: "lyon".parse().unwrap() }
}

/// A view of `trusted` in whose site these endpoints are active.
pub fn view_with(trusted: Trusted, endpoints: &[MemberKey]) -> NodeView {
    let rows = EndpointRows {
        schema: 1,
        site: place().site,
        endpoints: endpoints
            .iter()
            .map(|key| EndpointRow {
                endpoint: sluice_identity::endpoint_id_of(key),
                ring: "pilot".parse().unwrap(),
                state: EndpointState::Active,
                enrolled_at: Timestamp::from_millis(1),
            })
            .collect(),
    };
    let bytes: Arc<[u8]> = serde_json::to_vec(&rows).unwrap().into();
    let document = DocumentRef { length: bytes.len() as u64, sha256: Sha256::from_bytes([0; 32]) };
    let mut documents = Documents::new();
    documents.insert("fleet/endpoints-lyon".parse().unwrap(), SignedDocument { document, bytes });
    let clock = TrustedClock::arrived(trusted.issued_at().unwrap(), clock::since_boot());
    advance::build(&place(), trusted, documents, &[], clock).unwrap()
}

/// Stores over real files, with the tasks that belong to them.
pub struct Stores {
    pub state: StateStore,
    pub content: ContentStore,
    pub tasks: JoinSet<()>,
    pub stop: CancellationToken,
}

impl Stores {
    pub fn open(dir: &Path) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (content, task) = ContentStore::open(&dir.join("content"), StoreLimits::default()).unwrap();
        let token = stop.clone();
        tasks.spawn(async move { task.run(token).await.unwrap() });
        Self { state: StateStore::open(dir.join("state.redb")).unwrap(), content, tasks, stop }
    }

    /// Everything closed, as after a clean stop.
    pub async fn close(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// The state of HTTP handlers over these stores.
    pub fn http(&mut self, view: ViewHandle) -> NodeHttp {
        let metrics = Metrics::default();
        let (spool, task) = self.state.spool();
        let token = self.stop.clone();
        self.tasks.spawn(async move { task.run(token).await.unwrap() });
        NodeHttp {
            view,
            content: self.content.clone(),
            fetch: FetchHandle::new(watch::channel(open_link()).1).0,
            serve: Throttle::unlimited(),
            counters: Counters::new(&metrics),
            spool,
            spooled: Arc::new(Notify::new()),
            store: self.state.clone(),
            fenced: watch::channel(0).1,
            gauges: Gauges::new(&metrics),
            metrics,
        }
    }
}

/// An origin that cannot be reached.
pub fn no_origin() -> Arc<Origin> {
    sluice_identity::install_provider();
    let counters = Counters::new(&Metrics::default());
    Arc::new(Origin::new(DeviceKey::generate().unwrap(), Vec::new(), Throttle::unlimited(), counters))
}

/// A published view.
pub fn published(view: NodeView) -> (ViewPublisher, ViewHandle) {
    ViewPublisher::new(view)
}

/// A WAN link without cap or schedule.
pub fn open_link() -> sluice_pacing::WanNow {
    sluice_pacing::WanNow { bytes_per_sec: None, is_closed: false, until: None }
}
