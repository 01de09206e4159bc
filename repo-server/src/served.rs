//! What is served now: one complete, verified state of the metadata with its documents, swapped as a whole.

use bytes::Bytes;
use sluice_metadata::{DocumentRef, Trusted, View, read_document};
use sluice_model::{
    ArtifactId, EndpointId, EndpointRow, EndpointRows, Limits, ManifestId, MemberKey, ReleasedArtifact, Revoked,
    Roster, Sha256, SiteName, TargetName, Topology,
};
use sluice_rollout::{Catalogue, WantedContent};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::operations::Failure;

/// Name of the roster document.
pub const ROSTER: &str = "fleet/roster";
/// Name of the document of revoked keys.
pub const REVOKED: &str = "fleet/revoked";
/// Name of the topology document.
pub const TOPOLOGY: &str = "fleet/topology";
/// Name of the limits document.
pub const LIMITS: &str = "policy/limits";
/// The documents of endpoints begin with this; the site follows.
pub const ENDPOINTS_PREFIX: &str = "fleet/endpoints-";

/// One state. Cheap to hold: readers keep an `Arc` of it while they work.
pub struct Served {
    /// What they say.
    pub view: View,
    /// Every current metadata file by name.
    pub files: BTreeMap<String, Bytes>,
    /// Bytes of every document that `view.documents` names.
    pub documents: BTreeMap<TargetName, Bytes>,
    /// `fleet/roster`.
    pub roster: Arc<Roster>,
    /// `fleet/revoked`.
    pub revoked: Arc<Revoked>,
    /// `fleet/topology`.
    pub topology: Arc<Topology>,
    /// `policy/limits`.
    pub limits: Arc<Limits>,
    /// `fleet/endpoints-<site>` by site.
    pub endpoints: BTreeMap<SiteName, Arc<EndpointRows>>,
    by_endpoint: HashMap<EndpointId, (SiteName, usize)>,
    /// Retracted content by SHA-256, with the serial of its first tombstone.
    retracted: HashMap<Sha256, u64>,
    retracted_blake3: HashMap<ArtifactId, u64>,
    /// What the release roles list, and who may have it.
    pub catalogue: Catalogue,
    /// Manifests of live artifacts.
    live_manifests: HashMap<ManifestId, ArtifactId>,
}

impl Served {
    /// Reads complete metadata with the bytes of its documents; each document is verified.
    pub fn of(
        trusted: &Trusted,
        document: impl Fn(&TargetName, &DocumentRef) -> Result<Option<Bytes>, Failure>,
    ) -> Result<Self, Failure> {
        let view = View::of(trusted).map_err(|error| Failure::broken("reading the signed metadata", error))?;
        let mut documents = BTreeMap::new();
        for (name, reference) in &view.documents {
            let bytes = document(name, reference)?.ok_or_else(|| {
                Failure::broken("reading the signed documents", format!("the bytes of {name} are not in the database"))
            })?;
            documents.insert(name.clone(), bytes);
        }
        let mut endpoints = BTreeMap::new();
        for name in documents.keys().filter(|name| name.as_str().starts_with(ENDPOINTS_PREFIX)) {
            let rows: EndpointRows = parse(&view, &documents, name.as_str())?
                .ok_or_else(|| Failure::broken("reading the signed documents", format!("{name} is not listed")))?;
            endpoints.insert(rows.site.clone(), Arc::new(rows));
        }
        let mut served = Self {
            files: trusted.files().into_iter().map(|(name, bytes)| (name, Bytes::from_owner(bytes))).collect(),
            roster: Arc::new(parse(&view, &documents, ROSTER)?.unwrap_or_default()),
            revoked: Arc::new(parse(&view, &documents, REVOKED)?.unwrap_or_default()),
            topology: Arc::new(parse(&view, &documents, TOPOLOGY)?.unwrap_or_default()),
            limits: Arc::new(parse(&view, &documents, LIMITS)?.unwrap_or_default()),
            view,
            documents,
            endpoints,
            by_endpoint: HashMap::new(),
            retracted: HashMap::new(),
            retracted_blake3: HashMap::new(),
            catalogue: Catalogue::default(),
            live_manifests: HashMap::new(),
        };
        served.index();
        Ok(served)
    }

    fn index(&mut self) {
        for (site, rows) in &self.endpoints {
            for (idx, row) in rows.endpoints.iter().enumerate() {
                self.by_endpoint.insert(row.endpoint, (site.clone(), idx));
            }
        }
        for tombstone in &self.view.tombstones {
            for content in &tombstone.content {
                self.retracted.entry(content.sha256).or_insert(tombstone.serial);
                self.retracted_blake3.entry(content.blake3).or_insert(tombstone.serial);
            }
        }
        self.catalogue = Catalogue::new(&self.view.releases, &self.view.tombstones);
        let manifests = self.catalogue.live_artifacts().map(|row| (row.custom.manifest.blake3, row.custom.blake3));
        self.live_manifests = manifests.collect();
    }

    /// An artifact that a release role lists and no tombstone names.
    pub fn live(&self, artifact: &ArtifactId) -> Option<&ReleasedArtifact> {
        self.catalogue.live_rows(WantedContent::Blake3(*artifact)).first()
    }

    /// The live artifact that has this manifest.
    pub fn artifact_of_manifest(&self, manifest: &ManifestId) -> Option<ArtifactId> {
        self.live_manifests.get(manifest).copied()
    }

    /// The serial of the tombstone that blocks this content.
    pub fn retracted_by(&self, sha256: &Sha256) -> Option<u64> {
        self.retracted.get(sha256).copied()
    }

    /// The serial of the tombstone that blocks this artifact.
    pub fn artifact_retracted_by(&self, artifact: &ArtifactId) -> Option<u64> {
        self.retracted_blake3.get(artifact).copied()
    }

    /// The row of an endpoint, revoked ones too, and its site.
    pub fn endpoint(&self, endpoint: &EndpointId) -> Option<(&SiteName, &EndpointRow)> {
        let (site, idx) = self.by_endpoint.get(endpoint)?;
        Some((site, self.endpoints.get(site)?.endpoints.get(*idx)?))
    }

    /// The site of a node of the roster; `None` for keys that are no node.
    pub fn site_of_node(&self, key: &MemberKey) -> Option<&SiteName> {
        self.roster.member(key)?.site.as_ref()
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    view: &View,
    documents: &BTreeMap<TargetName, Bytes>,
    name: &str,
) -> Result<Option<T>, Failure> {
    let found = documents.iter().find(|(target, _)| target.as_str() == name);
    let (Some(reference), Some((_, bytes))) = (view.document(name), found) else { return Ok(None) };
    read_document(reference, bytes).map(Some).map_err(|error| Failure::broken("reading the signed documents", error))
}
