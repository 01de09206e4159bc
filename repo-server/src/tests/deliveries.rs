//! Thousands of deliveries of outcome reports, dropped, doubled, reordered, tampered with and cloned by a seeded generator,
//! against the real server: signature check, merge, store, restarts. Whatever came in whatever order, the store ends in
//! the one right state, which [`oracle`] works out from the machines themselves. proves: G4, I2, I3.

mod oracle;
mod plan;

use super::devices::key;
use super::world::World;
use oracle::{Delivered, Expected};
use plan::{Fate, Machine, Plan, Rng};
use sluice_api::device::SignedAcknowledgement;
use sluice_compliance::{ComplianceState, SILENCE_MAX, state};
use sluice_compliance_store::{OutcomeFilter, Tally};
use sluice_identity::DeviceKey;
use sluice_model::dsse::DsseEnvelope;
use sluice_model::{EndpointId, EndpointState};
use sluice_repo_store::members::{self, EndpointRecord};
use std::collections::BTreeMap;

/// The node that carries everything.
const NODE: u8 = 255;
/// Deliveries of one seed, about: machines are added until the plan has as many.
const DELIVERIES_PER_SEED: usize = 2_500;
/// Every run; with `SLUICE_TEST_FULL=1`.
const SEEDS: u64 = 4;
const SEEDS_FULL: u64 = 40;
/// Enough for a test about the test.
const SOME_DELIVERIES: usize = 600;
/// Times that an honest machine sends again what is not acknowledged: 0.3 to this power is never.
const RESENDINGS_MAX: usize = 60;

/// The state that a seed ends in, in words, and how many deliveries led there.
struct Run {
    digest: String,
    deliveries: usize,
}

struct Fleet {
    world: World,
    node: DeviceKey,
    delivered: BTreeMap<EndpointId, Delivered>,
    acknowledged: BTreeMap<EndpointId, u64>,
    verdicts: String,
    deliveries: usize,
}

/// What is broken on purpose, to see that the check finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Every other batch never reaches the server, and nobody sends it again.
    Lost,
    /// The store forgets what one machine said.
    Forgotten,
}

async fn run(seed: u64, deliveries: usize, fault: Fault) -> Run {
    let mut rng = Rng(seed);
    let plan = Plan::make(&mut rng, deliveries);
    let world = World::new().await;
    world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    let node = world.enrolled_node(NODE).await;
    enrol_all(&world, &plan);
    let (verdicts, delivered, acknowledged) = (String::new(), BTreeMap::new(), BTreeMap::new());
    let mut fleet = Fleet { world, node, delivered, acknowledged, verdicts, deliveries: 0 };
    let restarts = [rng.below(plan.batches.len()), rng.below(plan.batches.len())];
    for (at, batch) in plan.batches.iter().enumerate() {
        if restarts.contains(&at) {
            fleet.world = fleet.world.reopen().await;
        }
        let reports: Vec<DsseEnvelope> = batch.iter().map(|delivery| delivery.envelope.clone()).collect();
        let is_lost = fault == Fault::Lost && at % 2 == 1;
        let refused = if is_lost { (0..batch.len()).collect() } else { fleet.hand_over(&reports).await };
        for (index, delivery) in batch.iter().enumerate() {
            match &delivery.genuine {
                Some(report) => fleet.delivered.entry(report.endpoint).or_default().note(report),
                None => assert!(refused.contains(&index), "seed {seed}: a tampered report was taken: {delivery:?}"),
            }
        }
    }
    let honest = plan.machines.iter().filter(|machine| machine.fate == Fate::Honest);
    for machine in honest.filter(|_| fault != Fault::Lost) {
        fleet.send_again(&mut rng, machine).await;
    }
    if fault == Fault::Forgotten {
        let known = plan.machines.iter().find(|machine| fleet.delivered.contains_key(&machine.id())).unwrap();
        fleet.world.app.compliance.forget(known.id()).await.unwrap();
    }
    Run { digest: fleet.check(seed, &plan).await, deliveries: fleet.deliveries }
}

/// As if each had enrolled; only what the intake of reports asks for.
fn enrol_all(world: &World, plan: &Plan) {
    let record = |machine: &Machine| EndpointRecord {
        id: machine.id(),
        key: key(machine.seed).public(),
        site: "lyon".parse().unwrap(),
        ring: machine.ring().parse().unwrap(),
        name: format!("machine-{}", machine.seed),
        state: EndpointState::Active,
        enrolled_at: crate::clock::timestamp(),
    };
    let records: Vec<EndpointRecord> = plan.machines.iter().map(record).collect();
    let put = |tx: &sluice_repo_store::WriteTx| records.iter().try_for_each(|one| members::put_endpoint(tx, one));
    world.app.store.write(put).unwrap();
}

impl Fleet {
    /// Hands a batch over; answers the indexes that were refused.
    async fn hand_over(&mut self, reports: &[DsseEnvelope]) -> Vec<usize> {
        self.deliveries += reports.len();
        let answer = self.world.hand_over(&self.node, reports).await;
        let receipt: sluice_api::device::ReportReceipt = serde_json::from_slice(&answer.expect_ok().body).unwrap();
        assert_eq!(receipt.stored as usize + receipt.refused.len(), reports.len(), "each report has one answer");
        for SignedAcknowledgement { endpoint, seq, .. } in receipt.acknowledgements {
            let known = self.acknowledged.insert(endpoint, seq).unwrap_or(0);
            assert!(seq >= known, "what was acknowledged is never taken back");
        }
        let refused: Vec<usize> = receipt.refused.iter().map(|refused| refused.index).collect();
        self.verdicts += &format!("{refused:?}");
        refused
    }

    /// As the agent does: what is not acknowledged goes again, oldest first, over a link that loses three in ten.
    async fn send_again(&mut self, rng: &mut Rng, machine: &Machine) {
        for _ in 0..RESENDINGS_MAX {
            let done = self.acknowledged.get(&machine.id()).copied().unwrap_or(0);
            let waiting = &machine.reports[usize::try_from(done).unwrap()..];
            if waiting.is_empty() {
                return;
            }
            let arriving: Vec<_> = waiting.iter().take(100).filter(|_| !rng.one_in(10, 3)).cloned().collect();
            for report in &arriving {
                self.delivered.entry(report.endpoint).or_default().note(report);
            }
            let envelopes: Vec<DsseEnvelope> = arriving.into_iter().map(|report| report.envelope).collect();
            self.hand_over(&envelopes).await;
        }
        panic!("{} of {} reports acknowledged", self.acknowledged[&machine.id()], machine.reports.len());
    }

    /// Compares everything that the store says with what must be so.
    async fn check(&self, seed: u64, plan: &Plan) -> String {
        let store = &self.world.app.compliance;
        let mut tally = Tally::default();
        let mut digest = self.verdicts.clone();
        for machine in &plan.machines {
            let id = machine.id();
            let expected = self.delivered.get(&id).map(Delivered::expected).unwrap_or_default();
            let told = format!("seed {seed}, {machine:?}: {expected:?}");
            let acknowledged = store.acknowledged(&id, 1).unwrap().map(|ack| ack.seq);
            assert_eq!(acknowledged, expected.acknowledged(), "{told}");
            assert_eq!(
                self.acknowledged.get(&id).copied().filter(|_| expected.broken.is_none()),
                acknowledged,
                "{told}"
            );
            let heard = store.heard(&id).unwrap();
            assert_eq!(
                heard.as_ref().and_then(|heard| heard.broken),
                expected.broken.filter(|_| heard.is_some()),
                "{told}"
            );
            assert_eq!(heard.is_some(), expected.is_heard, "{told}");
            let counted = self.counted(&id);
            match expected.broken {
                None => assert_eq!(counted, (1..=expected.prefix).collect::<Vec<_>>(), "each counts once: {told}"),
                Some(_) => assert_eq!(counted, (1..=counted.len() as u64).collect::<Vec<_>>(), "{told}"),
            }
            self.check_states(machine, &expected, &told);
            expected.count(machine, &mut tally);
            digest += &format!("{id} {expected:?} {counted:?}\n");
        }
        let quarantined = store.quarantined().unwrap();
        let quarantined: BTreeMap<_, _> = quarantined.into_iter().map(|one| (one.endpoint, one.broken)).collect();
        let expected = self.delivered.iter().filter_map(|(id, delivered)| Some((*id, delivered.expected().broken?)));
        assert_eq!(quarantined, expected.collect(), "seed {seed}");
        assert_eq!(store.tally(crate::clock::timestamp(), SILENCE_MAX).unwrap(), tally, "seed {seed}");
        digest + &format!("{quarantined:?} {tally:?}")
    }

    /// The states of an endpoint that is believed are those of the machine after the last report that counts.
    fn check_states(&self, machine: &Machine, expected: &Expected, told: &str) {
        if expected.broken.is_some() {
            return;
        }
        let truth = machine.states_after(expected.prefix);
        let pairs = self.world.app.compliance.pairs(&machine.id()).unwrap();
        let found: BTreeMap<String, ComplianceState> =
            pairs.iter().map(|pair| (pair.patch.to_string(), state(Some(pair.standing), false, true))).collect();
        assert_eq!(found, truth, "{told}");
    }

    fn counted(&self, id: &EndpointId) -> Vec<u64> {
        let filter = OutcomeFilter { endpoint: Some(*id), limit: 1_000, ..OutcomeFilter::default() };
        let page = self.world.app.compliance.outcomes(&filter).unwrap();
        page.outcomes.iter().map(|outcome| outcome.report.seq).collect()
    }
}

#[tokio::test]
async fn mixed_deliveries_end_in_the_one_right_state_for_every_seed() {
    let seeds = if std::env::var_os("SLUICE_TEST_FULL").is_some() { SEEDS_FULL } else { SEEDS };
    let mut deliveries = 0;
    for seed in 1..=seeds {
        deliveries += run(seed, DELIVERIES_PER_SEED, Fault::None).await.deliveries;
    }
    println!("{deliveries} mixed deliveries over {seeds} seeds");
    assert!(deliveries as u64 >= seeds * DELIVERIES_PER_SEED as u64, "{deliveries} deliveries");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_store_twice_and_another_seed_another() {
    let run = async |seed| run(seed, SOME_DELIVERIES, Fault::None).await.digest;
    let (first, second, other) = (run(77).await, run(77).await, run(78).await);
    assert_eq!(first, second);
    assert_ne!(first, other);
}

#[tokio::test]
#[should_panic(expected = "machine")]
async fn deliveries_that_are_lost_without_a_trace_are_found() {
    run(79, SOME_DELIVERIES, Fault::Lost).await;
}

#[tokio::test]
#[should_panic(expected = "machine")]
async fn a_machine_that_the_store_forgot_is_found() {
    run(79, SOME_DELIVERIES, Fault::Forgotten).await;
}
