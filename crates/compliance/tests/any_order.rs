//! Any order and any repetition of the same set of reports ends in the same facts, acknowledgement and standing.
#![allow(clippy::unwrap_used)]

use proptest::collection::SizeRange;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use sluice_compliance::{Chain, Fact, Link, Order, OutcomeKind, PackageVersion, Standing, Verdict, standings};
use sluice_model::{PatchVersion, Sha256};
use std::collections::BTreeMap;

/// What a report of the test says: which version, and what came of it.
type Body = (u8, OutcomeKind);
type Reports = Vec<(Link, Body)>;

fn hash(n: u64) -> Sha256 {
    let mut bytes = [1; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Sha256::from_bytes(bytes)
}

/// An honest endpoint's chain.
fn chain_of(bodies: &[Body]) -> Vec<(Link, Body)> {
    let mut previous = Sha256::from_bytes([0; 32]);
    let mut reports = Vec::new();
    for (seq, body) in (1..).zip(bodies) {
        let link = Link { seq, previous, hash: hash(seq) };
        previous = link.hash;
        reports.push((link, *body));
    }
    reports
}

/// A receiver: the chain, the hashes that count, and the last fact of each version.
#[derive(Default, PartialEq, Debug)]
struct Receiver {
    chain: Chain<Body>,
    hashes: BTreeMap<u64, Sha256>,
    facts: BTreeMap<PatchVersion, Fact>,
    counted: Vec<u64>,
}

impl Receiver {
    fn take(&mut self, (link, body): (Link, Body)) -> Verdict {
        let merged = self.chain.merge(link, body, |seq| self.hashes.get(&seq).copied());
        for (link, (version, outcome)) in merged.counted {
            self.hashes.insert(link.seq, link.hash);
            self.counted.push(link.seq);
            let version: PatchVersion = version.to_string().parse().unwrap();
            let after = vec![PackageVersion { package: "data".into(), version: Some(version.to_string()) }];
            self.facts.insert(version, Fact { order: Order { epoch: 1, seq: link.seq }, outcome, after });
        }
        merged.verdict
    }

    fn standings(&self) -> Vec<(PatchVersion, Standing)> {
        standings(&self.facts.clone().into_iter().collect::<Vec<_>>())
    }
}

fn after(reports: &[(Link, Body)]) -> Receiver {
    let mut receiver = Receiver::default();
    for report in reports {
        receiver.take(*report);
    }
    receiver
}

fn bodies(count: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Body>> {
    let outcome = prop::sample::select(vec![
        OutcomeKind::Installed,
        OutcomeKind::Failed,
        OutcomeKind::RolledBack,
        OutcomeKind::RollbackFailed,
        OutcomeKind::Blocked,
    ]);
    prop::collection::vec((0u8..4, outcome), count)
}

/// Every report at least once, some twice, in any order.
fn delivery(reports: Reports) -> impl Strategy<Value = (Reports, Reports)> {
    let again = prop::sample::subsequence(reports.clone(), 0..=reports.len());
    again.prop_flat_map(move |again| {
        let all: Vec<_> = reports.iter().chain(&again).copied().collect();
        (Just(reports.clone()), Just(all).prop_shuffle())
    })
}

proptest! {
    // proves: I2
    #[test]
    fn any_permutation_with_any_duplicates_gives_one_state(
        (in_order, shuffled) in bodies(1..12).prop_flat_map(|bodies| delivery(chain_of(&bodies)))
    ) {
        let (expected, found) = (after(&in_order), after(&shuffled));
        prop_assert_eq!(expected.standings(), found.standings());
        prop_assert_eq!(&expected, &found);
        prop_assert_eq!(found.chain.acknowledged(), Some(in_order.len() as u64));
        prop_assert_eq!(found.counted, (1..=in_order.len() as u64).collect::<Vec<_>>(), "each counts once");
    }

    #[test]
    fn any_subset_acknowledges_exactly_its_prefix_without_a_gap(
        (some, shuffled) in bodies(1..12)
            .prop_flat_map(|bodies| { let all = chain_of(&bodies); let n = all.len(); prop::sample::subsequence(all, 0..=n) })
            .prop_flat_map(delivery)
    ) {
        let prefix = some.iter().zip(1..).take_while(|((link, _), seq)| link.seq == *seq).count() as u64;
        let found = after(&shuffled);
        prop_assert_eq!(found.chain.acknowledged().unwrap_or(0), prefix);
        prop_assert_eq!(&after(&some), &found);
    }

    // proves: G4
    #[test]
    fn a_second_device_with_the_same_key_is_found_in_any_order(
        (mut reports, at, seed) in (bodies(2..10), any::<prop::sample::Index>(), any::<u64>())
            .prop_map(|(bodies, at, seed)| (chain_of(&bodies), at, seed)),
        flip in any::<bool>(),
    ) {
        let victim = reports[at.index(reports.len())];
        let mut clone = victim;
        clone.0.hash = hash(seed | 1 << 40);
        if flip && clone.0.seq > 1 {
            clone.0.previous = hash(seed | 1 << 41);
        }
        reports.push(clone);
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        for _ in 0..8 {
            let order = Just(reports.clone()).prop_shuffle().new_tree(&mut runner).unwrap().current();
            let found = after(&order);
            prop_assert!(found.chain.broken.is_some());
            prop_assert_eq!(found.chain.acknowledged(), None);
        }
    }

    // proves: G4
    #[test]
    fn two_devices_that_part_are_found_at_the_same_place_whatever_arrives_in_whatever_order(
        (mine, others, forked_at) in (bodies(2..9), bodies(1..6), any::<prop::sample::Index>()),
        lost in any::<u64>(),
    ) {
        let mine = chain_of(&mine);
        let forked_at = forked_at.index(mine.len());
        let mut previous = mine.get(forked_at.wrapping_sub(1)).map_or(Sha256::from_bytes([0; 32]), |(link, _)| link.hash);
        let mut reports = mine;
        for (seq, body) in (forked_at as u64 + 1..).zip(others) {
            let link = Link { seq, previous, hash: hash(seq | 1 << 40) };
            previous = link.hash;
            reports.push((link, body));
        }
        let mut at = 0;
        reports.retain(|_| { at += 1; lost >> at & 7 != 0 });
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let broken = after(&reports).chain.broken;
        for _ in 0..12 {
            let order = Just(reports.clone()).prop_shuffle().new_tree(&mut runner).unwrap().current();
            prop_assert_eq!(after(&order).chain.broken, broken);
        }
    }
}
