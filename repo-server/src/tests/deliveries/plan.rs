//! Machines that install, fail and go back, some of them cloned; their signed reports; and what the way to the server does
//! to them. Everything follows from one seed.

use super::super::devices::{Device, key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sluice_compliance::{ComplianceState, OutcomeKind};
use sluice_metadata::dsse;
use sluice_model::dsse::{DsseEnvelope, DsseSignature, OUTCOME_REPORT_TYPE};
use sluice_model::{EndpointId, PatchRef, Sha256};
use std::collections::BTreeMap;

/// Machines of one plan at most: their keys are made from one byte, and one is the node's.
const MACHINES_MAX: u8 = 200;
/// Versions that machines move between.
const VERSIONS: usize = 5;

/// splitmix64: the test's own dice.
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    /// True `hits` times in `of`.
    pub fn one_in(&mut self, of: usize, hits: usize) -> bool {
        self.below(of) < hits
    }
}

/// What becomes of a machine's reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Whatever is lost is sent again until it is acknowledged.
    Honest,
    /// What is lost stays lost: gaps and cut tails.
    Lossy,
    /// A second machine with the same key goes its own way from some point.
    Cloned,
}

/// A genuine signed report.
#[derive(Clone, Debug)]
pub struct Report {
    pub endpoint: EndpointId,
    pub seq: u64,
    pub hash: Sha256,
    pub previous: Sha256,
    pub patch: Option<PatchRef>,
    pub envelope: DsseEnvelope,
}

/// What a machine did: outcome, version of the patch, version that is installed afterwards (0: none).
type Step = (OutcomeKind, usize, usize);

pub struct Machine {
    pub seed: u8,
    pub fate: Fate,
    steps: Vec<Step>,
    /// In their order; of a clone only the first machine's.
    pub reports: Vec<Report>,
    others: Vec<Report>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "machine {} {:?} {:?}", self.seed, self.fate, self.steps)
    }
}

/// One envelope on its way.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub envelope: DsseEnvelope,
    /// `None`: it was tampered with, and must be refused.
    pub genuine: Option<Report>,
}

pub struct Plan {
    pub machines: Vec<Machine>,
    pub batches: Vec<Vec<Delivery>>,
}

impl Plan {
    /// At least `deliveries` of them.
    pub fn make(rng: &mut Rng, deliveries: usize) -> Self {
        let mut machines = Vec::new();
        let mut on_the_way: Vec<(usize, Delivery)> = Vec::new();
        for seed in 1..=MACHINES_MAX {
            if on_the_way.len() >= deliveries {
                break;
            }
            let machine = Machine::make(rng, seed);
            let begin = rng.below(200);
            for (at, report) in machine.reports.iter().chain(&machine.others).enumerate() {
                send(rng, begin + at * 4, report, &mut on_the_way);
            }
            machines.push(machine);
        }
        on_the_way.sort_by_key(|(at, _)| *at);
        let mut batches = Vec::new();
        let mut left = on_the_way.into_iter().map(|(_, delivery)| delivery).peekable();
        while left.peek().is_some() {
            let length = 1 + rng.below(30);
            batches.push(left.by_ref().take(length).collect());
        }
        Self { machines, batches }
    }
}

/// Lost, once or more than once, early or late, and sometimes with a tampered copy beside it.
fn send(rng: &mut Rng, at: usize, report: &Report, on_the_way: &mut Vec<(usize, Delivery)>) {
    let copies = [0, 1, 1, 1, 1, 2, 2, 3][rng.below(8)];
    for _ in 0..copies {
        let late = if rng.one_in(8, 1) { rng.below(120) } else { rng.below(12) };
        on_the_way.push((at + late, Delivery { envelope: report.envelope.clone(), genuine: Some(report.clone()) }));
    }
    if rng.one_in(4, 1) {
        let envelope = tamper(rng, report);
        on_the_way.push((at + rng.below(30), Delivery { envelope, genuine: None }));
    }
}

fn tamper(rng: &mut Rng, report: &Report) -> DsseEnvelope {
    let mut envelope = report.envelope.clone();
    let mut payload = STANDARD.decode(&envelope.payload).unwrap();
    let stranger = key(254);
    match rng.below(8) {
        0 => {
            let at = rng.below(payload.len());
            payload[at] ^= 1 << rng.below(8);
            envelope.payload = STANDARD.encode(&payload);
        }
        1 => {
            payload.truncate(rng.below(payload.len()));
            envelope.payload = STANDARD.encode(&payload);
        }
        2 => envelope.payload_type = "application/vnd.sluice.other+json".into(),
        3 => {
            let mut signature = STANDARD.decode(&envelope.signatures[0].sig).unwrap();
            signature[rng.below(64)] ^= 1 << rng.below(8);
            envelope.signatures[0].sig = STANDARD.encode(signature);
        }
        4 => envelope.signatures[0].keyid = stranger.endpoint_id().to_hex(),
        5 => {
            let keyid = report.endpoint.to_hex();
            envelope = dsse::sign(stranger.signer(), OUTCOME_REPORT_TYPE, &payload, &keyid);
        }
        6 => envelope.signatures.push(DsseSignature { keyid: "x".into(), sig: String::new() }),
        _ => {
            let text = String::from_utf8(payload).unwrap().replace("\"epoch\":1", "\"epoch\":2");
            let owner = (1..=MACHINES_MAX).map(key).find(|key| key.endpoint_id() == report.endpoint).unwrap();
            // Signed by the device itself, in an epoch in which it never enrolled.
            envelope = dsse::sign(owner.signer(), OUTCOME_REPORT_TYPE, text.as_bytes(), &report.endpoint.to_hex());
        }
    }
    envelope
}

impl Machine {
    fn make(rng: &mut Rng, seed: u8) -> Self {
        let fate = [Fate::Honest, Fate::Honest, Fate::Lossy, Fate::Cloned][rng.below(4)];
        let steps = walk(rng, Vec::new());
        let mut device = Device { key: key(seed), head: 0, previous: Sha256::from_bytes([0; 32]) };
        let reports = write(&mut device, &steps);
        let mut others = Vec::new();
        if fate == Fate::Cloned {
            let parted = rng.below(steps.len());
            let previous =
                reports.get(parted.wrapping_sub(1)).map_or(Sha256::from_bytes([0; 32]), |report| report.hash);
            let mut copy = Device { key: key(seed), head: parted as u64, previous };
            let walked = walk(rng, steps[..parted].to_vec());
            others = write(&mut copy, &walked[parted..]);
        }
        Self { seed, fate, steps, reports, others }
    }

    pub fn id(&self) -> EndpointId {
        key(self.seed).endpoint_id()
    }

    pub fn ring(&self) -> &'static str {
        if self.seed.is_multiple_of(3) { "production" } else { "pilot" }
    }

    /// What is so on the machine after its first `count` steps, by patch: for people, not by the rules of the merge.
    pub fn states_after(&self, count: u64) -> BTreeMap<String, ComplianceState> {
        let steps = &self.steps[..usize::try_from(count).unwrap()];
        let installed = steps.last().map_or(0, |(_, _, after)| *after);
        let mut states = BTreeMap::new();
        for (outcome, version, _) in steps.iter().filter(|(outcome, ..)| *outcome != OutcomeKind::Heartbeat) {
            let state = match outcome {
                OutcomeKind::Failed => ComplianceState::Failed,
                OutcomeKind::RolledBack => ComplianceState::RolledBack,
                _ if *version == installed => ComplianceState::Installed,
                _ => ComplianceState::Missing,
            };
            states.insert(format!("demo/{version}"), state);
        }
        states
    }
}

/// Goes on from `steps`: installs, attempts that fail, returns to a version that was installed, signs of life.
fn walk(rng: &mut Rng, mut steps: Vec<Step>) -> Vec<Step> {
    let length = steps.len() + 20 + rng.below(80);
    while steps.len() < length {
        let installed = steps.last().map_or(0, |(_, _, after)| *after);
        let other = 1 + (installed + rng.below(VERSIONS - 1)) % VERSIONS;
        let was_installed: Vec<usize> = steps
            .iter()
            .filter(|(outcome, version, _)| *outcome == OutcomeKind::Installed && *version != installed)
            .map(|(_, version, _)| *version)
            .collect();
        match rng.below(8) {
            0..=1 => steps.push((OutcomeKind::Heartbeat, 0, installed)),
            2..=3 => steps.push((OutcomeKind::Failed, other, installed)),
            4 if installed > 0 && !was_installed.is_empty() => {
                let to = was_installed[rng.below(was_installed.len())];
                steps.push((OutcomeKind::RolledBack, installed, to));
                steps.push((OutcomeKind::Installed, to, to));
            }
            _ => steps.push((OutcomeKind::Installed, other, other)),
        }
    }
    steps
}

fn write(device: &mut Device, steps: &[Step]) -> Vec<Report> {
    let report = |(outcome, version, after): &Step| {
        let previous = device.previous;
        let patch = format!("demo/{version}");
        let envelope = device.report(*outcome, &patch, &after.to_string());
        Report {
            endpoint: device.key.endpoint_id(),
            seq: device.head,
            hash: device.previous,
            previous,
            patch: (*outcome != OutcomeKind::Heartbeat).then(|| patch.parse().unwrap()),
            envelope,
        }
    };
    steps.iter().map(report).collect()
}
