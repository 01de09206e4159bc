//! What waits for an approver's signature: for each ring that this server cannot sign alone, the next version of its
//! release role.
//!
//! Invariants
//! - A ring has one proposal, or none when what is served is what is wanted.
//! - A proposal is always the version after the one that is served; when that moves, its signatures are void.

use crate::operations::Failure;
use sluice_metadata::{DraftFile, ReleasePlan, RoleName, TargetEntry, Writer};
use sluice_model::{RingName, TargetName};
use sluice_repo_store::proposals::{self, ProposalRecord, ProposedPatch};
use sluice_repo_store::{Reads, WriteTx};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One ring's.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The TUF file with the signatures so far.
    pub file: DraftFile,
    /// Its rows.
    pub entries: BTreeMap<TargetName, TargetEntry>,
    /// The patches that it adds.
    pub patches: Vec<ProposedPatch>,
}

impl Proposal {
    /// A proposal of these rows. Patches that have no row in it (any more) are left out.
    pub fn new(file: DraftFile, entries: BTreeMap<TargetName, TargetEntry>, mut patches: Vec<ProposedPatch>) -> Self {
        let listed: BTreeSet<(String, String)> = entries.values().filter_map(patch_of).collect();
        patches.retain(|known| listed.contains(&(known.patch.name.to_string(), known.patch.version.to_string())));
        Self { file, entries, patches }
    }
}

/// Name and version of the patch that a row belongs to.
pub fn patch_of(row: &TargetEntry) -> Option<(String, String)> {
    let patch = row.custom.as_ref()?.get("patch")?;
    Some((patch.get("patch")?.as_str()?.to_owned(), patch.get("patch_version")?.as_str()?.to_owned()))
}

/// Every ring's. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Proposals {
    by_ring: BTreeMap<RingName, Arc<Proposal>>,
    changed: BTreeSet<RingName>,
}

impl Proposals {
    /// Those that are stored.
    pub fn load(tx: &impl Reads) -> Result<Self, Failure> {
        let mut by_ring = BTreeMap::new();
        for record in proposals::list(tx)? {
            let broken = |error| Failure::broken("reading a stored proposal", error);
            let file = DraftFile::read(&RoleName::release(&record.ring), &record.file).map_err(broken)?;
            let entries = ReleasePlan::of(&file).map_err(broken)?.entries;
            by_ring.insert(record.ring, Arc::new(Proposal { file, entries, patches: record.patches }));
        }
        Ok(Self { by_ring, changed: BTreeSet::new() })
    }

    /// The one of a ring.
    pub fn get(&self, ring: &RingName) -> Option<&Proposal> {
        self.by_ring.get(ring).map(|proposal| &**proposal)
    }

    /// Replaces the one of a ring.
    pub fn set(&mut self, ring: RingName, proposal: Proposal) {
        self.changed.insert(ring.clone());
        self.by_ring.insert(ring, Arc::new(proposal));
    }

    /// Notes who proposed a patch that the proposal of the ring adds.
    pub fn note(&mut self, ring: &RingName, patch: ProposedPatch) {
        if let Some(proposal) = self.by_ring.get_mut(ring) {
            let proposal = Arc::make_mut(proposal);
            proposal.patches.retain(|known| known.patch != patch.patch);
            proposal.patches.push(patch);
            self.changed.insert(ring.clone());
        }
    }

    /// Drops the one of a ring.
    pub fn remove(&mut self, ring: &RingName) {
        if self.by_ring.remove(ring).is_some() {
            self.changed.insert(ring.clone());
        }
    }

    /// Writes what changed. A proposal that was overtaken by `writer` is drafted anew, without its signatures.
    pub fn store(&mut self, tx: &WriteTx, writer: &Writer) -> Result<(), Failure> {
        let versions: BTreeMap<String, u64> = writer.trusted().versions().into_iter().collect();
        for (ring, proposal) in &mut self.by_ring {
            let version = versions.get(RoleName::release(ring).as_str()).copied().unwrap_or(0) + 1;
            if proposal.file.version() != version {
                let known = Arc::make_mut(proposal);
                let plan = ReleasePlan {
                    role: RoleName::release(ring),
                    version,
                    expires: known.file.expires(),
                    entries: known.entries.clone(),
                };
                known.file = plan.to_draft().map_err(|error| Failure::broken("drafting a proposal anew", error))?;
                self.changed.insert(ring.clone());
            }
        }
        for ring in std::mem::take(&mut self.changed) {
            match self.by_ring.get(&ring) {
                Some(proposal) => {
                    let (file, patches) = (proposal.file.to_bytes(), proposal.patches.clone());
                    proposals::put(tx, &ProposalRecord { ring, file, patches })?;
                }
                None => {
                    proposals::remove(tx, &ring)?;
                }
            }
        }
        Ok(())
    }
}
