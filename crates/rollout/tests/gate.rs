//! Who may have which bytes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixture;

use fixture::{ring, row, tombstone};
use sluice_model::{ArtifactId, ReleasedArtifact, RingName, Sha256, Tombstone};
use sluice_rollout::{Catalogue, Freshness, Purpose, Verdict, WantedContent};
use std::collections::BTreeMap;
use std::time::Duration;

const FRESH: Freshness = Freshness::Fresh { age: Duration::from_secs(1) };
const EXPIRED: Freshness = Freshness::Expired { since: Duration::from_secs(1) };

fn catalogue(rows: &[ReleasedArtifact], tombstones: &[Tombstone]) -> Catalogue {
    let mut releases: BTreeMap<RingName, Vec<ReleasedArtifact>> = BTreeMap::new();
    for row in rows {
        releases.entry(row.ring.clone()).or_default().push(row.clone());
    }
    Catalogue::new(&releases, tombstones)
}

fn sha256(hash: u8) -> WantedContent {
    WantedContent::Sha256(Sha256::from_bytes([hash; 32]))
}

fn blake3(hash: u8) -> WantedContent {
    WantedContent::Blake3(ArtifactId::from_bytes([hash; 32]))
}

#[test]
fn a_client_gets_what_its_ring_lists_and_is_told_that_another_ring_has_it() {
    let catalogue = catalogue(&[row("pilot", "jq", "1.7", 1, 7)], &[]);
    let judge = |wanted, name: &str| catalogue.judge(wanted, &[ring(name)], FRESH, Purpose::Ordinary);
    for wanted in [sha256(7), blake3(7)] {
        assert!(matches!(judge(wanted, "pilot"), Verdict::Serve(row) if row.ring == ring("pilot")));
        assert!(matches!(judge(wanted, "production"), Verdict::RingClosed { rings } if rings == [&ring("pilot")]));
    }
    assert_eq!(judge(sha256(8), "pilot"), Verdict::NotListed);
    assert_eq!(judge(blake3(8), "pilot"), Verdict::NotListed);
}

#[test]
fn content_in_two_rings_is_served_to_both() {
    let catalogue = catalogue(&[row("pilot", "jq", "1.7", 1, 7), row("production", "jq", "1.7", 4, 7)], &[]);
    for name in ["pilot", "production"] {
        let verdict = catalogue.judge(sha256(7), &[ring(name)], FRESH, Purpose::Ordinary);
        assert!(matches!(verdict, Verdict::Serve(row) if row.ring == ring(name)));
    }
    assert!(matches!(catalogue.judge(sha256(7), &[], FRESH, Purpose::Ordinary), Verdict::RingClosed { .. }));
    assert_eq!(catalogue.live_artifacts().count(), 1);
}

#[test]
fn a_tombstone_wins_over_every_ring_by_either_hash_and_whatever_the_lease() {
    let catalogue = catalogue(&[row("pilot", "jq", "1.7", 1, 7)], &[tombstone(1, "jq/1.7", &[7])]);
    for freshness in [FRESH, EXPIRED] {
        for wanted in [sha256(7), blake3(7)] {
            let verdict = catalogue.judge(wanted, &[ring("pilot")], freshness, Purpose::Rollback);
            assert!(matches!(verdict, Verdict::Retracted(tombstone) if tombstone.serial == 1));
        }
    }
    assert!(catalogue.live_rows(sha256(7)).is_empty());
    assert_eq!(catalogue.live_artifacts().count(), 0);
}

#[test]
fn a_retracted_hash_that_no_role_lists_any_more_is_still_told_as_retracted() {
    let catalogue = catalogue(&[], &[tombstone(3, "jq/1.7", &[7])]);
    let verdict = catalogue.judge(blake3(7), &[ring("pilot")], FRESH, Purpose::Ordinary);
    assert!(matches!(verdict, Verdict::Retracted(tombstone) if tombstone.serial == 3));
}

#[test]
fn after_the_lease_nothing_is_served_but_the_way_back_from_a_retraction() {
    let rows = [row("pilot", "jq", "1.6", 1, 6), row("pilot", "vim", "9", 2, 9)];
    let catalogue = catalogue(&rows, &[tombstone(1, "jq/1.7", &[7])]);
    let judge = |wanted, purpose| catalogue.judge(wanted, &[ring("pilot")], EXPIRED, purpose);
    assert_eq!(judge(sha256(6), Purpose::Ordinary), Verdict::LeaseExpired(EXPIRED));
    assert!(matches!(judge(sha256(6), Purpose::Rollback), Verdict::Serve(_)));
    assert_eq!(judge(sha256(9), Purpose::Rollback), Verdict::LeaseExpired(EXPIRED));
    assert_eq!(judge(sha256(1), Purpose::Rollback), Verdict::LeaseExpired(EXPIRED));
    let closed = catalogue.judge(sha256(6), &[ring("production")], EXPIRED, Purpose::Rollback);
    assert!(matches!(closed, Verdict::RingClosed { .. }));
    assert_eq!(
        catalogue.judge(sha256(6), &[ring("pilot")], Freshness::ClockBehind, Purpose::Ordinary),
        Verdict::LeaseExpired(Freshness::ClockBehind)
    );
}
