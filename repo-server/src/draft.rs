//! A change of the signed state that is not signed yet: what operations read and edit inside an authority's change.

use crate::operations::Failure;
use crate::served::{ENDPOINTS_PREFIX, LIMITS, REVOKED, ROSTER, Served, TOPOLOGY};
use bytes::Bytes;
use serde::Serialize;
use sluice_api::problem::ProblemType;
use sluice_metadata::{RoleName, TargetEntry, Writer};
use sluice_model::limits::DOCUMENT_BYTES_MAX;
use sluice_model::{
    EndpointRows, Limits, ReleasedArtifact, Revoked, RingName, Roster, Sha256, SiteName, TargetName, Timestamp,
    Tombstone, Topology,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state with the changes made so far in this transaction. Dropped without a trace when the operation fails.
pub struct Draft {
    now: Timestamp,
    pub(crate) served: Arc<Served>,
    pub(crate) writer: Writer,
    /// Documents written in this change, by name.
    pub(crate) documents: BTreeMap<TargetName, Bytes>,
    pub(crate) changed: bool,
    /// A new timestamp is wanted although nothing changed.
    pub(crate) renew: bool,
}

impl Draft {
    pub(crate) fn new(served: Arc<Served>, writer: Writer, now: Timestamp) -> Self {
        Self { now, served, writer, documents: BTreeMap::new(), changed: false, renew: false }
    }

    /// The time of this change.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What was served before this change.
    pub fn served(&self) -> &Served {
        &self.served
    }

    /// The roster as it is in this change.
    pub fn roster(&self) -> Result<Roster, Failure> {
        self.document(ROSTER, &self.served.roster)
    }

    /// Replaces the roster.
    pub fn set_roster(&mut self, roster: &Roster) -> Result<(), Failure> {
        self.set_document(RoleName::fleet(), ROSTER, roster)
    }

    /// Revoked keys as they are in this change.
    pub fn revoked(&self) -> Result<Revoked, Failure> {
        self.document(REVOKED, &self.served.revoked)
    }

    /// Replaces the revoked keys.
    pub fn set_revoked(&mut self, revoked: &Revoked) -> Result<(), Failure> {
        self.set_document(RoleName::fleet(), REVOKED, revoked)
    }

    /// The topology as it is in this change.
    pub fn topology(&self) -> Result<Topology, Failure> {
        self.document(TOPOLOGY, &self.served.topology)
    }

    /// Replaces the topology.
    pub fn set_topology(&mut self, topology: &Topology) -> Result<(), Failure> {
        self.set_document(RoleName::fleet(), TOPOLOGY, topology)
    }

    /// The limits as they are in this change.
    pub fn limits(&self) -> Result<Limits, Failure> {
        self.document(LIMITS, &self.served.limits)
    }

    /// Replaces the limits.
    pub fn set_limits(&mut self, limits: &Limits) -> Result<(), Failure> {
        self.set_document(RoleName::policy(), LIMITS, limits)
    }

    /// The endpoints of a site as they are in this change; none for a site that has no document yet.
    pub fn endpoints(&self, site: &SiteName) -> Result<EndpointRows, Failure> {
        let empty = || Arc::new(EndpointRows { schema: 1, site: site.clone(), endpoints: Vec::new() });
        let served = self.served.endpoints.get(site).cloned().unwrap_or_else(empty);
        self.document(&format!("{ENDPOINTS_PREFIX}{site}"), &served)
    }

    /// Replaces the endpoints of a site.
    pub fn set_endpoints(&mut self, rows: &EndpointRows) -> Result<(), Failure> {
        self.set_document(RoleName::fleet(), &format!("{ENDPOINTS_PREFIX}{}", rows.site), rows)
    }

    /// What the release role of a ring lists; `None` when there is no such ring.
    pub fn release(&self, ring: &RingName) -> Option<&BTreeMap<TargetName, TargetEntry>> {
        self.writer.entries(&RoleName::release(ring))
    }

    /// Replaces what the release role of a ring lists.
    pub fn set_release(&mut self, ring: &RingName, rows: BTreeMap<TargetName, TargetEntry>) -> Result<(), Failure> {
        self.set_entries(&RoleName::release(ring), rows)
    }

    /// Adds a row for a released artifact.
    pub fn add_released(&mut self, released: &ReleasedArtifact) -> Result<(), Failure> {
        let mut rows = self.release(&released.ring).cloned().unwrap_or_default();
        let custom = serde_json::json!({ "patch": released.custom });
        rows.insert(
            released.target.clone(),
            TargetEntry { length: released.length, sha256: released.sha256, custom: Some(custom) },
        );
        self.set_release(&released.ring, rows)
    }

    /// Adds a tombstone; its JSON is the target's bytes.
    pub fn add_tombstone(&mut self, tombstone: &Tombstone) -> Result<(), Failure> {
        let name = format!("retractions/{}", tombstone.serial);
        let custom = serde_json::json!({ "tombstone": tombstone });
        self.set_document_with(RoleName::retractions(), &name, tombstone, Some(custom))
    }

    /// Version that each role will have at least: what an enrolled device must never go below.
    pub fn versions(&self) -> Vec<(String, u64)> {
        self.writer.trusted().versions()
    }

    fn document<T: Clone + serde::de::DeserializeOwned>(&self, name: &str, served: &Arc<T>) -> Result<T, Failure> {
        match self.documents.iter().find(|(target, _)| target.as_str() == name) {
            Some((_, bytes)) => serde_json::from_slice(bytes)
                .map_err(|error| Failure::broken("reading a document of this change", error)),
            None => Ok(T::clone(served)),
        }
    }

    fn set_document<T: Serialize>(&mut self, role: RoleName, name: &str, value: &T) -> Result<(), Failure> {
        self.set_document_with(role, name, value, None)
    }

    fn set_document_with<T: Serialize>(
        &mut self,
        role: RoleName,
        name: &str,
        value: &T,
        custom: Option<serde_json::Value>,
    ) -> Result<(), Failure> {
        let name: TargetName = name.parse().map_err(|error| Failure::broken("naming a document", error))?;
        let bytes = serde_json::to_vec(value).map_err(|error| Failure::broken("writing a document", error))?;
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            let detail = format!("{name} would be larger than {DOCUMENT_BYTES_MAX} bytes; split the site in two");
            return Err(Failure::refused(ProblemType::Full, detail));
        }
        let mut entries = self.writer.entries(&role).cloned().unwrap_or_default();
        entries.insert(name.clone(), TargetEntry { length: bytes.len() as u64, sha256: sha256_of(&bytes), custom });
        self.set_entries(&role, entries)?;
        self.documents.insert(name, Bytes::from(bytes));
        Ok(())
    }

    fn set_entries(&mut self, role: &RoleName, entries: BTreeMap<TargetName, TargetEntry>) -> Result<(), Failure> {
        self.writer.set_entries(role, entries).map_err(|error| Failure::broken("changing the metadata", error))?;
        self.changed = true;
        Ok(())
    }
}

/// SHA-256 of a document.
pub fn sha256_of(bytes: &[u8]) -> Sha256 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut out = [0; Sha256::LEN];
    out.copy_from_slice(digest.as_ref());
    Sha256::from_bytes(out)
}
