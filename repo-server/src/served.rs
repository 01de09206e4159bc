//! What is served now: one complete, verified state of the metadata with its documents, swapped as a whole.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use sluice_metadata::{DocumentRef, Duty, Trusted, View, read_document};
use sluice_model::{
    ArtifactId, EndpointId, EndpointRow, EndpointRows, Limits, ManifestId, MemberKey, ReleasedArtifact, Revoked,
    RingName, Roster, Sha256, SiteName, Suspensions, TargetName, Tombstone, Topology,
};
use sluice_rollout::{Catalogue, InForce, Reinstated, Tombstones, WantedContent};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::operations::Failure;

/// Name of the roster document.
pub const ROSTER: &str = "fleet/roster";
/// Name of the document of revoked keys.
pub const REVOKED: &str = "fleet/revoked";
/// Name of the document of banned members.
pub const BANS: &str = "fleet/bans";
/// Name of the topology document.
pub const TOPOLOGY: &str = "fleet/topology";
/// Name of the limits document.
pub const LIMITS: &str = "policy/limits";
/// Name of the document of suspensions.
pub const SUSPENSIONS: &str = "policy/suspensions";
/// The documents of endpoints begin with this; the site follows.
pub const ENDPOINTS_PREFIX: &str = "fleet/endpoints-";

/// Endpoint to its place in the document of its site.
type EndpointIndex = HashMap<EndpointId, usize>;

/// One state. Cheap to hold: readers keep an `Arc` of it while they work.
pub struct Served {
    /// What the metadata says.
    pub view: View,
    /// Who signs which role until when, soonest first.
    pub duties: Vec<Duty>,
    /// Every role with its version.
    pub versions: Vec<(String, u64)>,
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
    /// `policy/suspensions`.
    pub suspensions: Arc<Suspensions>,
    /// Every tombstone, archived ones too, by serial.
    pub tombstones: Arc<Vec<Tombstone>>,
    /// `fleet/endpoints-<site>` by site.
    pub endpoints: BTreeMap<SiteName, Arc<EndpointRows>>,
    endpoint_index: BTreeMap<SiteName, Arc<EndpointIndex>>,
    /// Retracted content by SHA-256, with the serial of its first tombstone.
    retracted: HashMap<Sha256, u64>,
    retracted_blake3: HashMap<ArtifactId, u64>,
    /// What the release roles list, and who may have it.
    pub catalogue: Catalogue,
    /// Manifests of live artifacts.
    live_manifests: HashMap<ManifestId, ArtifactId>,
}

impl Served {
    /// Reads complete metadata with the bytes of its documents; each document is verified. What a document of `before`
    /// says is taken over when the document is the same, so that a commit costs what it changed.
    pub fn of(
        trusted: &Trusted,
        before: Option<&Self>,
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
        let parser = Parser { view: &view, documents: &documents, before };
        let (mut endpoints, mut endpoint_index) = (BTreeMap::new(), BTreeMap::new());
        for name in documents.keys().filter(|name| name.as_str().starts_with(ENDPOINTS_PREFIX)) {
            let (site, rows, index) = parser.endpoints(name)?;
            endpoints.insert(site.clone(), rows);
            endpoint_index.insert(site, index);
        }
        let duties = sluice_metadata::duties(trusted);
        let mut served = Self {
            duties: duties.map_err(|error| Failure::broken("reading who signs which role", error))?,
            versions: trusted.versions(),
            files: trusted.files().into_iter().map(|(name, bytes)| (name, Bytes::from_owner(bytes))).collect(),
            roster: parser.document(ROSTER, |before| &before.roster)?,
            revoked: parser.document(REVOKED, |before| &before.revoked)?,
            topology: parser.document(TOPOLOGY, |before| &before.topology)?,
            limits: parser.document(LIMITS, |before| &before.limits)?,
            suspensions: parser.document(SUSPENSIONS, |before| &before.suspensions)?,
            tombstones: Arc::new(all_tombstones(&view, &documents)?),
            view,
            documents,
            endpoints,
            endpoint_index,
            retracted: HashMap::new(),
            retracted_blake3: HashMap::new(),
            catalogue: Catalogue::default(),
            live_manifests: HashMap::new(),
        };
        served.index();
        Ok(served)
    }

    fn index(&mut self) {
        for tombstone in self.tombstones.iter() {
            for content in &tombstone.content {
                self.retracted.entry(content.sha256).or_insert(tombstone.serial);
                self.retracted_blake3.entry(content.blake3).or_insert(tombstone.serial);
            }
        }
        let suspensions = InForce::fleet_wide(&self.suspensions);
        self.catalogue = Catalogue::of(&self.view.releases, &self.tombstones, &self.reinstated(), suspensions);
        let manifests = self.catalogue.live_artifacts().map(|row| (row.custom.manifest.blake3, row.custom.blake3));
        self.live_manifests = manifests.collect();
    }

    /// Serials that each ring lifted for itself.
    fn reinstated(&self) -> Reinstated {
        let rings = self.view.reinstatements.iter();
        rings.map(|(ring, found)| (ring.clone(), found.iter().map(|found| found.serial).collect())).collect()
    }

    /// The tombstones that count in a ring.
    pub fn tombstones_in(&self, ring: &RingName) -> Tombstones {
        let reinstated = self.view.reinstatements.get(ring).into_iter().flatten();
        self.catalogue.tombstones().lifting(reinstated.map(|found| found.serial))
    }

    /// An artifact that a release role lists and no tombstone names.
    pub fn live(&self, artifact: &ArtifactId) -> Option<&ReleasedArtifact> {
        self.catalogue.live_rows(WantedContent::Blake3(*artifact)).first()
    }

    /// The live artifact that has this manifest.
    pub fn artifact_of_manifest(&self, manifest: &ManifestId) -> Option<ArtifactId> {
        self.live_manifests.get(manifest).copied()
    }

    /// The serial of the tombstone that blocks this content in every ring.
    pub fn retracted_by(&self, sha256: &Sha256) -> Option<u64> {
        self.catalogue.tombstone(WantedContent::Sha256(*sha256))?;
        self.retracted.get(sha256).copied()
    }

    /// The serial of the tombstone that blocks this artifact.
    pub fn artifact_retracted_by(&self, artifact: &ArtifactId) -> Option<u64> {
        self.catalogue.tombstone(WantedContent::Blake3(*artifact))?;
        self.retracted_blake3.get(artifact).copied()
    }

    /// The row of an endpoint, revoked ones too, and its site. One look-up a site.
    pub fn endpoint(&self, endpoint: &EndpointId) -> Option<(&SiteName, &EndpointRow)> {
        let found = self.endpoint_index.iter().find_map(|(site, index)| Some((site, *index.get(endpoint)?)));
        let (site, idx) = found?;
        Some((site, self.endpoints.get(site)?.endpoints.get(idx)?))
    }

    /// The site of a node of the roster; `None` for keys that are no node.
    pub fn site_of_node(&self, key: &MemberKey) -> Option<&SiteName> {
        self.roster.member(key)?.site.as_ref()
    }
}

/// Reads documents, or takes over what was read before of the same bytes.
/// Listed ones, and those in archives.
fn all_tombstones(view: &View, documents: &BTreeMap<TargetName, Bytes>) -> Result<Vec<Tombstone>, Failure> {
    let mut all = Vec::new();
    for archive in &view.archives {
        let bytes = documents.get(&archive.target).map_or(&[][..], |bytes| bytes);
        let read = archive.read(bytes).map_err(|error| Failure::broken("reading an archive of retractions", error))?;
        all.extend(read);
    }
    all.extend(view.tombstones.iter().cloned());
    Ok(all)
}

struct Parser<'a> {
    view: &'a View,
    documents: &'a BTreeMap<TargetName, Bytes>,
    before: Option<&'a Served>,
}

impl<'a> Parser<'a> {
    fn document<T: DeserializeOwned + Default + 'a>(
        &self,
        name: &str,
        known: impl Fn(&'a Served) -> &'a Arc<T>,
    ) -> Result<Arc<T>, Failure> {
        match self.unchanged(name) {
            Some(before) => Ok(known(before).clone()),
            None => Ok(Arc::new(self.parse(name)?.unwrap_or_default())),
        }
    }

    fn endpoints(&self, name: &TargetName) -> Result<(SiteName, Arc<EndpointRows>, Arc<EndpointIndex>), Failure> {
        let site = name.as_str().strip_prefix(ENDPOINTS_PREFIX).and_then(|site| site.parse::<SiteName>().ok());
        if let (Some(before), Some(site)) = (self.unchanged(name.as_str()), site)
            && let (Some(rows), Some(index)) = (before.endpoints.get(&site), before.endpoint_index.get(&site))
        {
            return Ok((site, rows.clone(), index.clone()));
        }
        let rows: EndpointRows = self
            .parse(name.as_str())?
            .ok_or_else(|| Failure::broken("reading the signed documents", format!("{name} is not listed")))?;
        let index = rows.endpoints.iter().enumerate().map(|(idx, row)| (row.endpoint, idx)).collect();
        Ok((rows.site.clone(), Arc::new(rows), Arc::new(index)))
    }

    /// The state before, when it had the same document.
    fn unchanged(&self, name: &str) -> Option<&'a Served> {
        let (now, then) = (self.view.document(name)?, self.before?.view.document(name)?);
        if now == then { self.before } else { None }
    }

    fn parse<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let target = name.parse::<TargetName>().map_err(|error| Failure::broken("naming a document", error))?;
        let (Some(reference), Some(bytes)) = (self.view.document(name), self.documents.get(&target)) else {
            return Ok(None);
        };
        let parsed = read_document(reference, bytes);
        parsed.map(Some).map_err(|error| Failure::broken("reading the signed documents", error))
    }
}
