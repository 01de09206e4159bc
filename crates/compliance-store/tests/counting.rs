//! Reports count once, in their order, and the counters are the number of pairs.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use sluice_compliance::{Broken, OutcomeKind, SILENCE_MAX, Standing, Verdict, WithheldBy};
use sluice_compliance_store::{ComplianceStore, NewOutcome, OutcomeFilter, Tally};
use sluice_model::{EndpointId, MemberKey, Timestamp};
use std::time::Duration;
use support::{NOW, Running, hash, report};

const ALL: OutcomeFilter = OutcomeFilter { endpoint: None, patch: None, site: None, after: 0, limit: 1_000 };

/// What the counters must say, from the pairs themselves.
fn count_by_hand(store: &ComplianceStore, now: Timestamp) -> Tally {
    let mut tally = Tally::default();
    for (endpoint, heard) in store.all_heard().unwrap() {
        if heard.broken.is_some() || !sluice_compliance::is_heard(Some(heard.at), now, SILENCE_MAX) {
            for pair in store.pairs(&endpoint).unwrap() {
                *tally.doubtful.entry((heard.ring.clone(), pair.patch, heard.site.clone())).or_default() += 1;
            }
            continue;
        }
        *tally.known.entry((heard.site.clone(), heard.ring.clone())).or_default() += 1;
        for pair in store.pairs(&endpoint).unwrap() {
            let key = (heard.ring.clone(), pair.patch, heard.site.clone(), pair.standing);
            *tally.pairs.entry(key).or_default() += 1;
        }
    }
    tally
}

fn installed(store: &ComplianceStore, now: Timestamp) -> u64 {
    let tally = store.tally(now, SILENCE_MAX).unwrap();
    tally.pairs.iter().filter(|((.., standing), _)| *standing == Standing::Installed).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn a_doubled_and_a_reordered_report_count_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(&dir.path().join("c.redb"));
    let (one, two) = (report(1, 1, "1", OutcomeKind::Failed), report(1, 2, "1", OutcomeKind::Installed));
    let first = running.store.ingest(vec![two.clone()]).await.unwrap();
    assert_eq!(first.verdicts, [Verdict::Gap { missing: 1 }]);
    assert_eq!(first.acknowledged[0].seq, 0, "nothing is acknowledged, and that is said");
    assert_eq!(installed(&running.store, NOW), 0, "a report beyond a gap does not count yet");
    let second = running.store.ingest(vec![one.clone(), two.clone(), one]).await.unwrap();
    assert_eq!(second.verdicts, [Verdict::Late, Verdict::Duplicate, Verdict::Duplicate]);
    assert_eq!(second.acknowledged[0].seq, 2);
    assert_eq!(installed(&running.store, NOW), 1);
    running.close().await;

    let running = Running::open(&dir.path().join("c.redb"));
    let third = running.store.ingest(vec![two]).await.unwrap();
    assert_eq!((third.verdicts[0], third.acknowledged[0].seq), (Verdict::Duplicate, 2));
    assert_eq!(installed(&running.store, NOW), 1);
    assert_eq!(running.store.outcomes(&ALL).unwrap().outcomes.len(), 2);
    running.close().await;
}

#[tokio::test]
async fn a_silent_endpoint_is_in_no_count_until_it_is_heard_again() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(&dir.path().join("c.redb"));
    running.store.ingest(vec![report(1, 1, "1", OutcomeKind::Installed)]).await.unwrap();
    let later = NOW.plus(SILENCE_MAX + Duration::from_secs(1));
    assert_eq!(installed(&running.store, NOW), 1);
    let tally = running.store.tally(later, SILENCE_MAX).unwrap();
    assert!(tally.known.is_empty() && tally.pairs.is_empty());
    assert_eq!(tally.doubtful.values().sum::<u64>(), 1);
    let heartbeat = NewOutcome { received_at: later, ..report(1, 2, "", OutcomeKind::Heartbeat) };
    running.store.ingest(vec![heartbeat]).await.unwrap();
    assert_eq!(installed(&running.store, later), 1);
    running.close().await;
}

#[tokio::test]
async fn a_cloned_device_leaves_every_count_with_its_evidence_kept_and_is_acknowledged_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(&dir.path().join("c.redb"));
    running.store.ingest(vec![report(1, 1, "1", OutcomeKind::Installed)]).await.unwrap();
    let mut other = report(1, 1, "2", OutcomeKind::Installed);
    other.hash = hash(9, 9);
    let found = running.store.ingest(vec![other.clone(), report(1, 2, "2", OutcomeKind::Installed)]).await.unwrap();
    let broken = Broken::Cloned { seq: 1 };
    assert_eq!(found.verdicts, [Verdict::Breaks(broken), Verdict::Quarantined(broken)]);
    assert!(found.acknowledged.is_empty());
    let tally = running.store.tally(NOW, SILENCE_MAX).unwrap();
    assert!(tally.known.is_empty() && tally.pairs.is_empty());
    assert_eq!(tally.doubtful.values().sum::<u64>(), 2, "what either device spoke of is in doubt");
    let quarantined = running.store.quarantined().unwrap();
    assert_eq!((quarantined.len(), &quarantined[0].payload), (1, &other.payload));
    assert_eq!(running.store.heard(&other.report.endpoint).unwrap().unwrap().broken, Some(broken));
    running.close().await;
}

#[tokio::test]
async fn an_endpoint_that_enrolled_anew_begins_with_nothing_believed_and_counts_again() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(&dir.path().join("c.redb"));
    let mut other = report(1, 1, "2", OutcomeKind::Failed);
    other.hash = hash(9, 9);
    running.store.ingest(vec![report(1, 1, "1", OutcomeKind::Installed), other]).await.unwrap();
    let doubtful = running.store.tally(NOW, SILENCE_MAX).unwrap().doubtful;
    assert_eq!(doubtful.len(), 2, "both patches of which the key spoke are in doubt: {doubtful:?}");
    for version in ["3", "4"] {
        let mut anew = report(1, 1, version, OutcomeKind::Installed);
        anew.report.epoch = if version == "3" { 2 } else { 3 };
        anew.payload = serde_json::to_vec(&anew.report).unwrap();
        let found = running.store.ingest(vec![anew]).await.unwrap();
        assert_eq!((found.verdicts[0], found.acknowledged[0].seq), (Verdict::New, 1));
        let tally = running.store.tally(NOW, SILENCE_MAX).unwrap();
        assert_eq!(tally, count_by_hand(&running.store, NOW));
        let patches: Vec<String> = tally.pairs.keys().map(|(_, patch, ..)| patch.to_string()).collect();
        assert_eq!((patches, tally.doubtful.len()), (vec![format!("data/{version}")], 0));
    }
    running.close().await;
}

#[tokio::test]
async fn what_an_endpoint_says_of_a_node_is_kept_once_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(&dir.path().join("c.redb"));
    let node = |byte: u8| MemberKey::from_bytes([byte; 32]);
    let says = |seq: u64, words: Vec<(u8, u64)>| {
        let mut new = report(1, seq, "", OutcomeKind::Heartbeat);
        let word = |(byte, reports)| WithheldBy { node: node(byte), reports, at: NOW };
        new.report.withheld = words.into_iter().map(word).collect();
        new.payload = serde_json::to_vec(&new.report).unwrap();
        new
    };
    running.store.ingest(vec![says(1, vec![(7, 2)]), says(1, vec![(7, 2)]), says(2, vec![(7, 5)])]).await.unwrap();
    let found = running.store.withheld(NOW).unwrap();
    assert_eq!((found.len(), found[&node(7)][0].1.reports), (1, 5));
    assert!(running.store.withheld(NOW.plus(Duration::from_secs(1))).unwrap().is_empty());
    for seq in 3..8 {
        let words = (0..16).map(|idx| (u8::try_from(seq * 16 + idx).unwrap(), 1)).collect();
        running.store.ingest(vec![says(seq, words)]).await.unwrap();
    }
    assert_eq!(running.store.withheld(NOW).unwrap().len(), 16);
    running.store.forget(EndpointId::from_bytes([1; 32])).await.unwrap();
    assert!(running.store.withheld(NOW).unwrap().is_empty());
    running.close().await;
}

#[tokio::test]
async fn a_revoked_endpoint_leaves_the_counts_and_its_reports_stay() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(&dir.path().join("c.redb"));
    running.store.ingest(vec![report(1, 1, "1", OutcomeKind::Installed)]).await.unwrap();
    running.store.forget(EndpointId::from_bytes([1; 32])).await.unwrap();
    assert_eq!(running.store.tally(NOW, SILENCE_MAX).unwrap(), Tally::default());
    assert_eq!(running.store.outcomes(&ALL).unwrap().outcomes.len(), 1);
    running.close().await;
}

#[tokio::test]
async fn pages_follow_each_other_and_filters_combine() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(&dir.path().join("c.redb"));
    for endpoint in 1..=4 {
        let reports =
            vec![report(endpoint, 1, "1", OutcomeKind::Installed), report(endpoint, 2, "2", OutcomeKind::Installed)];
        running.store.ingest(reports).await.unwrap();
    }
    let store = &running.store;
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let page = store.outcomes(&OutcomeFilter { after, limit: 3, ..ALL }).unwrap();
        seen.extend(page.outcomes.iter().map(|outcome| outcome.position));
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen, (1..=8).collect::<Vec<_>>());
    let of = |filter: OutcomeFilter| store.outcomes(&filter).unwrap().outcomes.len();
    assert_eq!(of(OutcomeFilter { endpoint: Some(EndpointId::from_bytes([2; 32])), ..ALL }), 2);
    assert_eq!(of(OutcomeFilter { patch: Some("data/2".parse().unwrap()), ..ALL }), 4);
    let lyon = Some("lyon".parse().unwrap());
    assert_eq!(of(OutcomeFilter { patch: Some("data/2".parse().unwrap()), site: lyon.clone(), ..ALL }), 2);
    let brno_endpoint = Some(EndpointId::from_bytes([1; 32]));
    assert_eq!(of(OutcomeFilter { endpoint: brno_endpoint, site: lyon, ..ALL }), 0);
    running.close().await;
}

#[tokio::test]
async fn a_store_that_stops_answers_what_was_handed_over_and_refuses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(&dir.path().join("c.redb"));
    let store = running.store.clone();
    running.close().await;
    assert!(store.ingest(vec![report(1, 1, "1", OutcomeKind::Installed)]).await.is_err());
}

fn any_report() -> impl Strategy<Value = (u8, u64, &'static str, OutcomeKind)> {
    let outcome = prop::sample::select(vec![
        OutcomeKind::Installed,
        OutcomeKind::Failed,
        OutcomeKind::RolledBack,
        OutcomeKind::RollbackFailed,
        OutcomeKind::Blocked,
        OutcomeKind::Heartbeat,
    ]);
    (1u8..5, 1u64..7, prop::sample::select(vec!["1", "2", "3"]), outcome)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    // proves: I2, I3
    #[test]
    fn the_counters_are_the_number_of_pairs_whatever_came_in_whatever_order(
        reports in prop::collection::vec(any_report(), 1..60),
        batch in 1usize..9,
        silent in 0u8..3,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let running = Running::open(&dir.path().join("c.redb"));
            for group in reports.chunks(batch) {
                let group = group.iter().map(|(endpoint, seq, version, outcome)| {
                    let mut new = report(*endpoint, *seq, version, *outcome);
                    // Some endpoints reported long ago, some have moved to another ring.
                    if *endpoint <= silent {
                        new.received_at = Timestamp::from_millis(NOW.as_millis() - 90_000_000);
                    }
                    if seq.is_multiple_of(5) {
                        new.ring = "validation".parse().unwrap();
                    }
                    new
                });
                running.store.ingest(group.collect()).await.unwrap();
                assert_eq!(running.store.tally(NOW, SILENCE_MAX).unwrap(), count_by_hand(&running.store, NOW));
            }
            running.close().await;
        });
    }

    #[test]
    fn the_same_reports_in_another_order_and_twice_end_in_the_same_store(
        (first, second) in prop::collection::vec(any_report(), 1..24).prop_flat_map(|all| {
            // One body for each number, as an honest endpoint sends.
            let mut unique = std::collections::BTreeMap::new();
            for one in all { unique.entry((one.0, one.1)).or_insert(one); }
            let all: Vec<_> = unique.into_values().collect();
            let twice: Vec<_> = all.iter().chain(&all).copied().collect();
            (Just(all), Just(twice).prop_shuffle())
        })
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut results = Vec::new();
            for reports in [first, second] {
                let dir = tempfile::tempdir().unwrap();
                let running = Running::open(&dir.path().join("c.redb"));
                for (endpoint, seq, version, outcome) in reports {
                    running.store.ingest(vec![report(endpoint, seq, version, outcome)]).await.unwrap();
                }
                let standings = |endpoint: u8| {
                    let id = EndpointId::from_bytes([endpoint; 32]);
                    let pairs = running.store.pairs(&id).unwrap();
                    let standings: Vec<_> = pairs.into_iter().map(|pair| (pair.patch, pair.standing)).collect();
                    (standings, running.store.acknowledged(&id, 1).unwrap())
                };
                let state: Vec<_> = (1..5).map(standings).collect();
                results.push((state, running.store.tally(NOW, SILENCE_MAX).unwrap()));
                running.close().await;
            }
            assert_eq!(results[0], results[1]);
        });
    }
}
