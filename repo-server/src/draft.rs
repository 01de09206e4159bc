//! A change of the signed state that is not signed yet: what operations read and edit inside an authority's change.

use crate::operations::Failure;
use crate::proposals::{Proposal, Proposals};
use crate::served::{BANS, ENDPOINTS_PREFIX, LIMITS, REVOKED, ROSTER, SUSPENSIONS, Served, TOPOLOGY};
use bytes::Bytes;
use serde::Serialize;
use sluice_api::problem::ProblemType;
use sluice_apt_view::{AptDocument, document_name};
use sluice_metadata::{DraftFile, Keyring, RoleName, TargetEntry, TargetsPlan, Terms, Writer, fold, plans};
use sluice_model::limits::DOCUMENT_BYTES_MAX;
use sluice_model::{
    Bans, EndpointRows, Limits, Reinstatement, ReleasedArtifact, Revoked, RingName, Roster, Sha256, SiteName,
    Suspensions, TargetName, Timestamp, Tombstone, Topology,
};
use std::collections::BTreeMap;
use std::sync::Arc;

mod takeover;

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
    /// The change that ends a restore; no other is signed before it.
    pub(crate) adopts: bool,
    /// Files that nodes showed and this change went on from.
    pub(crate) taken_over: Vec<String>,
    keyring: Arc<Keyring>,
    /// What waits for approvers' signatures.
    pub(crate) proposals: Proposals,
}

impl Draft {
    pub(crate) fn new(
        served: Arc<Served>,
        writer: Writer,
        now: Timestamp,
        keyring: Arc<Keyring>,
        proposals: Proposals,
    ) -> Self {
        let documents = BTreeMap::new();
        Self {
            now,
            served,
            writer,
            documents,
            changed: false,
            renew: false,
            adopts: false,
            taken_over: Vec::new(),
            keyring,
            proposals,
        }
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

    /// Replaces the banned members.
    pub fn set_bans(&mut self, bans: &Bans) -> Result<(), Failure> {
        self.set_document(RoleName::fleet(), BANS, bans)
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

    /// What targets says, in force before this change.
    pub fn targets_plan(&self) -> Result<TargetsPlan, Failure> {
        let plans = plans(self.writer.trusted());
        plans.map(|(_, targets)| targets).map_err(|error| Failure::broken("reading root and targets", error))
    }

    /// Who signs the release role of a ring.
    pub fn release_terms(&self, ring: &RingName) -> Result<Terms, Failure> {
        let plan = self.targets_plan()?;
        let row = plan.delegation(&RoleName::release(ring));
        row.map(|row| row.terms.clone()).ok_or_else(|| Failure::broken("reading targets", format!("no ring {ring}")))
    }

    /// Whether this server's keys are enough to publish into a ring. Where they are not, what is set is a proposal that
    /// waits for an approver's signature, and what is served stays.
    pub fn signs_alone(&self, ring: &RingName) -> Result<bool, Failure> {
        let role = RoleName::release(ring);
        // Not a ring that an operation could know: its own check says so better.
        if self.writer.entries(&role).is_none() {
            return Ok(true);
        }
        Ok(self.keyring.reaches(&role, &self.release_terms(ring)?))
    }

    /// The keys of this server.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// What the release role of a ring lists, or will list once an approver signed what is proposed; `None` when there
    /// is no such ring.
    pub fn release(&self, ring: &RingName) -> Option<&BTreeMap<TargetName, TargetEntry>> {
        match self.proposals.get(ring) {
            Some(proposal) => Some(&proposal.entries),
            None => self.live_release(ring),
        }
    }

    /// What the release role of a ring lists, without what is proposed.
    pub fn live_release(&self, ring: &RingName) -> Option<&BTreeMap<TargetName, TargetEntry>> {
        self.writer.entries(&RoleName::release(ring))
    }

    /// Replaces what the release role of a ring lists, or what is proposed that it should.
    pub fn set_release(&mut self, ring: &RingName, rows: BTreeMap<TargetName, TargetEntry>) -> Result<(), Failure> {
        let role = RoleName::release(ring);
        if self.signs_alone(ring)? {
            return self.set_entries(&role, rows);
        }
        if self.live_release(ring) == Some(&rows) {
            self.proposals.remove(ring);
            return Ok(());
        }
        let changing = |error| Failure::broken("changing the metadata", error);
        self.writer.clone().set_entries(&role, rows.clone()).map_err(changing)?;
        let file = self.writer.draft_role(&role, rows.clone(), self.now).map_err(changing)?;
        let patches = self.proposals.get(ring).map(|known| known.patches.clone()).unwrap_or_default();
        self.proposals.set(ring.clone(), Proposal::new(file, rows, patches));
        Ok(())
    }

    /// Takes a file that people signed into this change.
    pub fn give(&mut self, file: DraftFile) -> Result<(), Failure> {
        let given = self.writer.give(file);
        given.map_err(|error| Failure::refused(ProblemType::Conflict, error.to_string()))?;
        self.changed = true;
        Ok(())
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

    /// Adds a tombstone; its JSON is the target's bytes. The oldest are folded into an archive when there are too many.
    pub fn add_tombstone(&mut self, tombstone: &Tombstone) -> Result<(), Failure> {
        let role = RoleName::retractions();
        if let Some(folded) = self.writer.entries(&role).and_then(fold) {
            self.set_entries(&role, folded.entries)?;
            self.documents.insert(folded.target, Bytes::from(folded.bytes));
        }
        let name = format!("retractions/{}", tombstone.serial);
        let custom = serde_json::json!({ "tombstone": tombstone });
        self.set_document_with(role, &name, tombstone, Some(custom))
    }

    /// Suspensions as they are in this change.
    pub fn suspensions(&self) -> Result<Suspensions, Failure> {
        self.document(SUSPENSIONS, &self.served.suspensions)
    }

    /// Replaces the suspensions.
    pub fn set_suspensions(&mut self, suspensions: &Suspensions) -> Result<(), Failure> {
        self.set_document(RoleName::policy(), SUSPENSIONS, suspensions)
    }

    /// Replaces the index document of a ring.
    pub fn set_apt_document(&mut self, document: &AptDocument) -> Result<(), Failure> {
        self.set_document(RoleName::policy(), document_name(&document.ring).as_str(), document)
    }

    /// Adds a reinstatement to what a ring lists or is proposed to list; its JSON is the target's bytes.
    pub fn add_reinstatement(&mut self, ring: &RingName, reinstatement: &Reinstatement) -> Result<(), Failure> {
        let name = format!("patches/{ring}/reinstated-{}", reinstatement.serial);
        let name: TargetName = name.parse().map_err(|error| Failure::broken("naming a document", error))?;
        let bytes = serde_json::to_vec(reinstatement).map_err(|error| Failure::broken("writing a document", error))?;
        let custom = serde_json::json!({ "reinstatement": reinstatement });
        let entry = TargetEntry { length: bytes.len() as u64, sha256: sha256_of(&bytes), custom: Some(custom) };
        let mut rows = self.release(ring).cloned().unwrap_or_default();
        rows.insert(name.clone(), entry);
        self.set_release(ring, rows)?;
        self.documents.insert(name, Bytes::from(bytes));
        Ok(())
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
