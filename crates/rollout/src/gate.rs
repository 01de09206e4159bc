//! Which client may have which artifact.
//!
//! A client has rings: an agent the one of its row in `fleet/endpoints-<site>`, a plain client those that the policy
//! gives to its network. It may have what a live release role of one of them lists, as long as the lease on the metadata
//! has not run out. What a tombstone names nobody may have, whatever any role lists, unless the ring's own role holds a
//! reinstatement of that tombstone. What is suspended nobody may have until the suspension is lifted.

use crate::lease::Freshness;
use crate::offer::{Offers, Tombstones};
use crate::suspend::InForce;
use sluice_model::{ArtifactId, ReleasedArtifact, RingName, Sha256, Suspension, Tombstone};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedContent {
    /// By the SHA-256 of the whole artifact.
    Sha256(Sha256),
    /// By the BLAKE3 of the whole artifact.
    Blake3(ArtifactId),
}

/// What a client says it wants the bytes for. Only an agent that proved its key may say [`Purpose::Rollback`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Anything else.
    Ordinary,
    /// To go back from a retracted version: allowed for a rollback target even after the lease.
    Rollback,
}

/// Header in which an agent says [`Purpose::Rollback`].
pub const PURPOSE_HEADER: &str = "sluice-purpose";
/// Value of [`PURPOSE_HEADER`].
pub const PURPOSE_ROLLBACK: &str = "rollback";

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// May be served; the row is of one of the client's rings.
    Serve(&'a ReleasedArtifact),
    /// Listed, by rings that the client does not have (403).
    RingClosed {
        /// The rings that list it.
        rings: Vec<&'a RingName>,
    },
    /// Named by a tombstone (410).
    Retracted(&'a Tombstone),
    /// Stopped by a suspension (423).
    Suspended(&'a Suspension),
    /// The lease has run out, or no time can be trusted (503).
    LeaseExpired(Freshness),
    /// No live release role lists it (404).
    NotListed,
}

/// Reinstated serials by ring.
pub type Reinstated = BTreeMap<RingName, BTreeSet<u64>>;

/// What the verified metadata of one moment lists, by content. Built once per metadata change, asked per request.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Rows of the same content that no tombstone names in their ring, one a ring.
    by_sha256: HashMap<Sha256, Vec<ReleasedArtifact>>,
    by_blake3: HashMap<ArtifactId, Sha256>,
    /// Content that only one of its two hashes is named of, by the other one: to the serial of its tombstone.
    buried: HashMap<Sha256, u64>,
    buried_blake3: HashMap<ArtifactId, u64>,
    /// Ways back from retracted versions.
    rollback_targets: HashSet<(RingName, Sha256)>,
    tombstones: Tombstones,
    suspensions: InForce,
}

impl Catalogue {
    /// Of `View::releases` and every tombstone ever seen, where nothing is suspended or reinstated. O(rows).
    pub fn new(releases: &BTreeMap<RingName, Vec<ReleasedArtifact>>, tombstones: &[Tombstone]) -> Self {
        Self::of(releases, tombstones, &Reinstated::new(), InForce::default())
    }

    /// The same with what rings reinstated and what is suspended here. O(rows).
    pub fn of(
        releases: &BTreeMap<RingName, Vec<ReleasedArtifact>>,
        tombstones: &[Tombstone],
        reinstated: &Reinstated,
        suspensions: InForce,
    ) -> Self {
        let mut catalogue = Self { tombstones: Tombstones::new(tombstones), suspensions, ..Self::default() };
        for (ring, rows) in releases {
            match reinstated.get(ring) {
                Some(serials) => {
                    let tombstones = catalogue.tombstones.lifting(serials.iter().copied());
                    catalogue.take(ring, rows, &tombstones);
                }
                None => {
                    let tombstones = std::mem::take(&mut catalogue.tombstones);
                    catalogue.take(ring, rows, &tombstones);
                    catalogue.tombstones = tombstones;
                }
            }
        }
        catalogue
    }

    fn take(&mut self, ring: &RingName, rows: &[ReleasedArtifact], tombstones: &Tombstones) {
        for row in rows {
            if let Some(tombstone) = tombstones.of_artifact(row) {
                self.buried.entry(row.sha256).or_insert(tombstone.serial);
                self.buried_blake3.entry(row.custom.blake3).or_insert(tombstone.serial);
                continue;
            }
            self.by_blake3.insert(row.custom.blake3, row.sha256);
            self.by_sha256.entry(row.sha256).or_default().push(row.clone());
        }
        for offers in Offers::of(rows, tombstones).patches.values() {
            let targets = offers.retracted.iter().filter_map(|retracted| offers.way_back(retracted));
            self.rollback_targets.extend(targets.flat_map(|set| set.sha256()).map(|sha256| (ring.clone(), sha256)));
        }
    }

    /// May a client with these rings have this content now? Retraction is told before anything else; then suspension,
    /// then the lease.
    pub fn judge(
        &self,
        wanted: WantedContent,
        rings: &[RingName],
        freshness: Freshness,
        purpose: Purpose,
    ) -> Verdict<'_> {
        let rows = self.rows(wanted);
        let row = rows.iter().find(|row| rings.contains(&row.ring));
        if let (None, Some(tombstone)) = (row, self.named(wanted)) {
            return Verdict::Retracted(tombstone);
        }
        if let Some(suspension) = row.and_then(|row| self.suspensions.of_artifact(row)) {
            return Verdict::Suspended(suspension);
        }
        let is_rollback = purpose == Purpose::Rollback
            && rows.iter().any(|row| self.rollback_targets.contains(&(row.ring.clone(), row.sha256)));
        if !freshness.is_within_lease() && !is_rollback {
            return Verdict::LeaseExpired(freshness);
        }
        match row {
            None if rows.is_empty() => Verdict::NotListed,
            None => Verdict::RingClosed { rings: rows.iter().map(|row| &row.ring).collect() },
            // Another ring's way back is no way back of this one.
            Some(row) if !freshness.is_within_lease() && !self.is_way_back(row) => Verdict::LeaseExpired(freshness),
            Some(row) => Verdict::Serve(row),
        }
    }

    fn is_way_back(&self, row: &ReleasedArtifact) -> bool {
        self.rollback_targets.contains(&(row.ring.clone(), row.sha256))
    }

    /// Whether some ring's way back from a retraction needs this content: it moves even after the lease.
    pub fn is_rollback_target(&self, wanted: WantedContent) -> bool {
        self.live_rows(wanted).iter().any(|row| self.is_way_back(row))
    }

    /// Every row that lists this content, whatever its ring; empty when nobody may have it: it is retracted or suspended.
    pub fn live_rows(&self, wanted: WantedContent) -> &[ReleasedArtifact] {
        if self.suspension(wanted).is_some() { &[] } else { self.rows(wanted) }
    }

    /// The suspension that stops this content.
    pub fn suspension(&self, wanted: WantedContent) -> Option<&Suspension> {
        self.rows(wanted).iter().find_map(|row| self.suspensions.of_artifact(row))
    }

    /// Every suspension in force here.
    pub fn suspensions(&self) -> &InForce {
        &self.suspensions
    }

    /// The tombstone that names this content, by the hash asked for or by the other one; `None` while a ring that
    /// reinstated it lists it.
    pub fn tombstone(&self, wanted: WantedContent) -> Option<&Tombstone> {
        if self.rows(wanted).is_empty() { self.named(wanted) } else { None }
    }

    /// The same, whatever a ring lists.
    fn named(&self, wanted: WantedContent) -> Option<&Tombstone> {
        let (asked, buried) = match wanted {
            WantedContent::Sha256(sha256) => (self.tombstones.of_sha256(&sha256), self.buried.get(&sha256)),
            WantedContent::Blake3(blake3) => (self.tombstones.of_blake3(&blake3), self.buried_blake3.get(&blake3)),
        };
        asked.or_else(|| self.tombstones.iter().find(|tombstone| Some(&tombstone.serial) == buried))
    }

    /// Every tombstone.
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// Every artifact that some ring lists and that is neither retracted nor suspended, once each.
    pub fn live_artifacts(&self) -> impl Iterator<Item = &ReleasedArtifact> {
        self.kept_artifacts().filter(|row| self.suspension(WantedContent::Sha256(row.sha256)).is_none())
    }

    /// Every artifact that some ring lists and that is not retracted, once each: suspended ones stay on disk.
    pub fn kept_artifacts(&self) -> impl Iterator<Item = &ReleasedArtifact> {
        self.by_sha256.values().filter_map(|rows| rows.first())
    }

    fn rows(&self, wanted: WantedContent) -> &[ReleasedArtifact] {
        let sha256 = match wanted {
            WantedContent::Sha256(sha256) => Some(sha256),
            WantedContent::Blake3(blake3) => self.by_blake3.get(&blake3).copied(),
        };
        sha256.and_then(|sha256| self.by_sha256.get(&sha256)).map_or(&[], Vec::as_slice)
    }
}
