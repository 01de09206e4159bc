//! Who may have which bytes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixture;

use fixture::{ring, row, tombstone};
use sluice_model::{
    ArtifactId, ReleasedArtifact, RingName, Sha256, Suspension, SuspensionScope, SuspensionSubject, Suspensions,
    Timestamp, Tombstone,
};
use sluice_rollout::{Catalogue, Freshness, InForce, Purpose, Reinstated, Verdict, WantedContent};
use std::collections::BTreeMap;
use std::time::Duration;

const FRESH: Freshness = Freshness::Fresh { age: Duration::from_secs(1) };
const EXPIRED: Freshness = Freshness::Expired { since: Duration::from_secs(1) };

fn releases(rows: &[ReleasedArtifact]) -> BTreeMap<RingName, Vec<ReleasedArtifact>> {
    let mut releases: BTreeMap<RingName, Vec<ReleasedArtifact>> = BTreeMap::new();
    for row in rows {
        releases.entry(row.ring.clone()).or_default().push(row.clone());
    }
    releases
}

fn catalogue(rows: &[ReleasedArtifact], tombstones: &[Tombstone]) -> Catalogue {
    Catalogue::new(&releases(rows), tombstones)
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

#[test]
fn after_the_lease_what_was_approved_later_than_the_retracted_version_is_not_served_either() {
    let rows = [row("pilot", "jq", "1.6", 1, 6), row("pilot", "jq", "1.8", 3, 8)];
    let mut retracted = tombstone(1, "jq/1.7", &[7]);
    retracted.approved.insert(ring("pilot"), 2);
    let catalogue = catalogue(&rows, &[retracted]);
    let judge = |hash| catalogue.judge(sha256(hash), &[ring("pilot")], EXPIRED, Purpose::Rollback);
    assert!(matches!(judge(6), Verdict::Serve(_)));
    assert_eq!(judge(8), Verdict::LeaseExpired(EXPIRED));
    assert!(catalogue.is_rollback_target(sha256(6)) && !catalogue.is_rollback_target(sha256(8)));
}

#[test]
fn a_reinstatement_lifts_its_tombstone_in_its_own_ring_only() {
    let rows = releases(&[row("pilot", "jq", "1.7", 1, 7), row("production", "jq", "1.7", 1, 7)]);
    let reinstated = Reinstated::from([(ring("pilot"), [1].into())]);
    let catalogue = Catalogue::of(&rows, &[tombstone(1, "jq/1.7", &[7])], &reinstated, InForce::default());
    let judge = |name: &str| catalogue.judge(sha256(7), &[ring(name)], FRESH, Purpose::Ordinary);
    assert!(matches!(judge("pilot"), Verdict::Serve(row) if row.ring == ring("pilot")));
    assert!(matches!(judge("production"), Verdict::Retracted(_)));
    assert_eq!(catalogue.tombstone(sha256(7)), None, "its bytes are needed again");
    let again = [tombstone(1, "jq/1.7", &[7]), tombstone(2, "copy/1", &[7])];
    let catalogue = Catalogue::of(&rows, &again, &reinstated, InForce::default());
    let verdict = catalogue.judge(sha256(7), &[ring("pilot")], FRESH, Purpose::Ordinary);
    assert!(matches!(verdict, Verdict::Retracted(_)), "another tombstone names the same content");
}

#[test]
fn what_is_suspended_is_not_served_stays_known_and_goes_on_when_it_is_lifted() {
    let rows = releases(&[row("pilot", "jq", "1.7", 1, 7), row("pilot", "vim", "9", 2, 9)]);
    let suspension = Suspension {
        id: 1,
        subject: SuspensionSubject::Patch { name: "jq".parse().unwrap(), versions: Default::default() },
        scope: SuspensionScope::Fleet,
        reason: "looks bad".into(),
        by: "rita".parse().unwrap(),
        at: Timestamp::from_millis(1),
    };
    let all = Suspensions { schema: 1, suspensions: vec![suspension], id_max: 1 };
    let stopped = Catalogue::of(&rows, &[], &Reinstated::new(), InForce::fleet_wide(&all));
    let judge = |hash, purpose| stopped.judge(sha256(hash), &[ring("pilot")], FRESH, purpose);
    for purpose in [Purpose::Ordinary, Purpose::Rollback] {
        assert!(matches!(judge(7, purpose), Verdict::Suspended(suspension) if suspension.id == 1));
    }
    assert!(matches!(judge(9, Purpose::Ordinary), Verdict::Serve(_)));
    assert!(stopped.live_rows(blake3(7)).is_empty());
    assert_eq!((stopped.live_artifacts().count(), stopped.kept_artifacts().count()), (1, 2));
}
