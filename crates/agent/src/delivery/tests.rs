//! Acknowledgements: which are believed, and what a lower one brings back.

use super::*;
use crate::report::{Outcome, Reporter};
use sluice_compliance::OutcomeKind;
use sluice_identity::DeviceKey;
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(120);

struct Endpoint {
    key: DeviceKey,
    origin: DeviceKey,
    store: StateStore,
    delivery: Delivery,
    links: Links,
    _dir: TempDir,
}

/// An endpoint with so many heartbeats in its journal.
fn endpoint(reports: u64) -> Endpoint {
    let dir = tempfile::tempdir().unwrap();
    let store = StateStore::open(dir.path().join("state.redb")).unwrap();
    let (key, origin) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    let reporter = Reporter::new(store.clone(), key.clone(), 1);
    for _ in 0..reports {
        reporter.append(Outcome::of(OutcomeKind::Heartbeat, None), None, None, 1).unwrap();
    }
    let links = Links { origins: vec![origin.public()], ..Links::default() };
    let delivery = Delivery::new(store.clone(), key.endpoint_id(), 1, WITHIN);
    Endpoint { key, origin, store, delivery, links, _dir: dir }
}

fn signed(endpoint: EndpointId, (seq, at): (u64, u64), origin: &DeviceKey) -> SignedAcknowledgement {
    let (signer, at) = (origin.public(), Timestamp::from_millis(at));
    let mut ack = SignedAcknowledgement { endpoint, epoch: 1, seq, at, signer, signature: String::new() };
    ack.signature = hex::encode(origin.signer().sign_purpose(ACK_PURPOSE, &ack.signed_bytes()));
    ack
}

impl Endpoint {
    fn ack(&self, seq: u64, at: u64) -> SignedAcknowledgement {
        signed(self.key.endpoint_id(), (seq, at), &self.origin)
    }

    fn accept(&mut self, ack: &SignedAcknowledgement) -> u64 {
        self.delivery.accept(ack, &self.links, self.key.public()).unwrap()
    }

    fn waiting(&self) -> Vec<u64> {
        self.store.journal_unacknowledged(100).unwrap().iter().map(|entry| entry.seq).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_signature_of_a_known_origin_over_our_own_chain_takes_reports_out_of_the_journal() {
    let mut endpoint = endpoint(3);
    let stranger = DeviceKey::generate().unwrap();
    let me = endpoint.key.endpoint_id();
    let mut altered = endpoint.ack(2, 1);
    altered.seq = 3;
    let mut newer = endpoint.ack(3, 1);
    newer.at = Timestamp::from_millis(2);
    let foreign = signed(stranger.endpoint_id(), (3, 1), &endpoint.origin);
    for refused in [signed(me, (3, 1), &stranger), foreign, altered, newer] {
        assert_eq!(endpoint.accept(&refused), 0, "{refused:?}");
    }
    assert_eq!(endpoint.waiting(), [1, 2, 3]);
    assert_eq!(endpoint.accept(&endpoint.ack(2, 1)), 2);
    assert_eq!(endpoint.accept(&endpoint.ack(2, 1)), 0);
    assert_eq!(endpoint.waiting(), [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_word_with_a_lower_number_brings_back_what_the_repository_lost_and_an_older_word_does_not() {
    let mut endpoint = endpoint(5);
    assert_eq!(endpoint.accept(&endpoint.ack(5, 100)), 5);
    assert_eq!(endpoint.accept(&endpoint.ack(2, 50)), 0);
    assert_eq!(endpoint.waiting(), Vec::<u64>::new(), "a node repeated an old word");
    endpoint.accept(&endpoint.ack(2, 200));
    assert_eq!(endpoint.waiting(), [3, 4, 5]);
    endpoint.accept(&endpoint.ack(2, 200));
    assert_eq!(endpoint.accept(&endpoint.ack(5, 300)), 3);
    endpoint.accept(&endpoint.ack(0, 400));
    assert_eq!(endpoint.waiting(), [1, 2, 3, 4, 5], "the repository has nothing at all");
    endpoint.accept(&endpoint.ack(5, 350));
    assert_eq!(endpoint.waiting(), Vec::<u64>::new(), "a word that came late is still true of what it covers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_withheld_is_said_once_remembered_across_restarts_and_avoided() {
    let endpoint = endpoint(0);
    let node = MemberKey::from_bytes([7; 32]);
    let reporter = Reporter::new(endpoint.store.clone(), endpoint.key.clone(), 1);
    assert!(!withheld::is_unsaid(&endpoint.store).unwrap());
    withheld::note(&endpoint.store, node, 2).unwrap();
    withheld::note(&endpoint.store, node, 3).unwrap();
    assert!(withheld::is_unsaid(&endpoint.store).unwrap());
    assert!(withheld::suspects(&endpoint.store).unwrap().contains(&node));
    for _ in 0..2 {
        reporter.append(Outcome::of(OutcomeKind::Heartbeat, None), None, None, 1).unwrap();
        assert!(!withheld::is_unsaid(&endpoint.store).unwrap());
    }
    let newest = &endpoint.store.journal_latest(1).unwrap()[0];
    let payload = sluice_metadata::dsse::verify(
        &newest.envelope,
        endpoint.key.public().as_bytes(),
        sluice_model::dsse::OUTCOME_REPORT_TYPE,
    );
    let report = sluice_compliance::OutcomeReport::from_payload(&payload.unwrap()).unwrap();
    assert_eq!(report.withheld.iter().map(|one| (one.node, one.reports)).collect::<Vec<_>>(), [(node, 5)]);
}
