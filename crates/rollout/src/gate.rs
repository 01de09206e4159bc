//! Which client may have which artifact.
//!
//! A client has rings: an agent the one of its row in `fleet/endpoints-<site>`, a plain client those that the policy
//! gives to its network. It may have what a live release role of one of them lists, as long as the lease on the metadata
//! has not run out. What a tombstone names nobody may have, whatever any role lists.

use crate::lease::Freshness;
use crate::offer::{Offers, Tombstones};
use sluice_model::{ArtifactId, ReleasedArtifact, RingName, Sha256, Tombstone};
use std::collections::{BTreeMap, HashMap, HashSet};

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
    /// The lease has run out, or no time can be trusted (503).
    LeaseExpired(Freshness),
    /// No live release role lists it (404).
    NotListed,
}

/// What the verified metadata of one moment lists, by content. Built once per metadata change, asked per request.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Rows of the same content, one a ring.
    by_sha256: HashMap<Sha256, Vec<ReleasedArtifact>>,
    by_blake3: HashMap<ArtifactId, Sha256>,
    rollback_targets: HashSet<Sha256>,
    tombstones: Tombstones,
}

impl Catalogue {
    /// Of `View::releases` and every tombstone ever seen. O(rows).
    pub fn new(releases: &BTreeMap<RingName, Vec<ReleasedArtifact>>, tombstones: &[Tombstone]) -> Self {
        let mut catalogue = Self { tombstones: Tombstones::new(tombstones), ..Self::default() };
        for rows in releases.values() {
            for row in rows {
                catalogue.by_blake3.insert(row.custom.blake3, row.sha256);
                catalogue.by_sha256.entry(row.sha256).or_default().push(row.clone());
            }
            for offers in Offers::of(rows, &catalogue.tombstones).patches.values() {
                if let Some(target) = offers.offered.as_ref().filter(|_| !offers.retracted.is_empty()) {
                    catalogue.rollback_targets.extend(target.sha256());
                }
            }
        }
        catalogue
    }

    /// May a client with these rings have this content now? Retraction is told before anything else; then the lease.
    pub fn judge(
        &self,
        wanted: WantedContent,
        rings: &[RingName],
        freshness: Freshness,
        purpose: Purpose,
    ) -> Verdict<'_> {
        if let Some(tombstone) = self.tombstone(wanted) {
            return Verdict::Retracted(tombstone);
        }
        let rows = self.rows(wanted);
        let is_rollback =
            purpose == Purpose::Rollback && rows.first().is_some_and(|row| self.rollback_targets.contains(&row.sha256));
        if !freshness.is_within_lease() && !is_rollback {
            return Verdict::LeaseExpired(freshness);
        }
        if rows.is_empty() {
            return Verdict::NotListed;
        }
        match rows.iter().find(|row| rings.contains(&row.ring)) {
            Some(row) => Verdict::Serve(row),
            None => Verdict::RingClosed { rings: rows.iter().map(|row| &row.ring).collect() },
        }
    }

    /// Every row that lists this content, whatever its ring; empty when a tombstone names it.
    pub fn live_rows(&self, wanted: WantedContent) -> &[ReleasedArtifact] {
        if self.tombstone(wanted).is_some() { &[] } else { self.rows(wanted) }
    }

    /// The tombstone that names this content, by the hash asked for or by the other one.
    pub fn tombstone(&self, wanted: WantedContent) -> Option<&Tombstone> {
        let asked = match wanted {
            WantedContent::Sha256(sha256) => self.tombstones.of_sha256(&sha256),
            WantedContent::Blake3(blake3) => self.tombstones.of_blake3(&blake3),
        };
        asked.or_else(|| {
            self.rows(wanted).iter().find_map(|row| {
                self.tombstones.of_sha256(&row.sha256).or_else(|| self.tombstones.of_blake3(&row.custom.blake3))
            })
        })
    }

    /// Every tombstone.
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// Every artifact that some ring lists and no tombstone names, once each.
    pub fn live_artifacts(&self) -> impl Iterator<Item = &ReleasedArtifact> {
        self.by_sha256.values().filter_map(|rows| rows.first()).filter(|row| {
            self.tombstones.of_sha256(&row.sha256).is_none() && self.tombstones.of_blake3(&row.custom.blake3).is_none()
        })
    }

    fn rows(&self, wanted: WantedContent) -> &[ReleasedArtifact] {
        let sha256 = match wanted {
            WantedContent::Sha256(sha256) => Some(sha256),
            WantedContent::Blake3(blake3) => self.by_blake3.get(&blake3).copied(),
        };
        sha256.and_then(|sha256| self.by_sha256.get(&sha256)).map_or(&[], Vec::as_slice)
    }
}
