//! What must be so, worked out from the set of reports that arrived, without the code under test.

use super::plan::{Machine, Report};
use sluice_compliance::{Broken, ComplianceState, Standing};
use sluice_compliance_store::Tally;
use sluice_model::{PatchRef, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Genuine reports of one endpoint that arrived, by number: hash, predecessor, patch.
#[derive(Debug, Default)]
pub struct Delivered(BTreeMap<u64, BTreeMap<Sha256, (Sha256, Option<PatchRef>)>>);

/// What the store must say of an endpoint.
#[derive(Debug, Default)]
pub struct Expected {
    /// Reports that count, when the chain is whole.
    pub prefix: u64,
    pub broken: Option<Broken>,
    /// The first report arrived.
    pub is_heard: bool,
    /// Something waits behind a gap.
    has_more: bool,
    /// Patches that a broken chain spoke of.
    in_doubt: BTreeSet<PatchRef>,
}

impl Delivered {
    pub fn note(&mut self, report: &Report) {
        self.0.entry(report.seq).or_default().insert(report.hash, (report.previous, report.patch.clone()));
    }

    pub fn expected(&self) -> Expected {
        let twice = self.0.iter().find(|(_, variants)| variants.len() > 1).map(|(seq, _)| *seq);
        let mut prefix = 0;
        let mut head = Sha256::from_bytes([0; 32]);
        let mut broken = twice.map(|seq| Broken::Cloned { seq });
        for seq in 1.. {
            if twice == Some(seq) {
                break;
            }
            let Some((hash, (previous, _))) = self.0.get(&seq).and_then(|variants| variants.first_key_value()) else {
                break;
            };
            if *previous != head {
                broken = Some(Broken::Altered { seq });
                break;
            }
            (prefix, head) = (seq, *hash);
        }
        let has_more = self.0.keys().any(|seq| *seq > prefix);
        let mut expected =
            Expected { prefix, broken, is_heard: self.0.contains_key(&1), has_more, in_doubt: BTreeSet::new() };
        if let Some(broken) = broken {
            // What waits behind a gap below the break may still count.
            let speaks = self.0.iter().filter(|(seq, _)| **seq <= prefix || **seq >= broken.seq());
            let patches = speaks.flat_map(|(_, variants)| variants.values().filter_map(|(_, patch)| patch.clone()));
            expected.in_doubt = patches.collect();
        }
        expected
    }
}

impl Expected {
    pub fn acknowledged(&self) -> Option<u64> {
        (self.broken.is_none() && (self.prefix > 0 || self.has_more)).then_some(self.prefix)
    }

    /// Adds the endpoint to the counts.
    pub fn count(&self, machine: &Machine, tally: &mut Tally) {
        let (site, ring) = ("lyon".parse().unwrap(), machine.ring().parse().unwrap());
        if !self.is_heard {
            return;
        }
        if self.broken.is_some() {
            for patch in &self.in_doubt {
                let key = (machine.ring().parse().unwrap(), patch.clone(), "lyon".parse().unwrap());
                *tally.doubtful.entry(key).or_default() += 1;
            }
            return;
        }
        *tally.known.entry((site, ring)).or_default() += 1;
        for (patch, state) in machine.states_after(self.prefix) {
            let standing = match state {
                ComplianceState::Installed => Standing::Installed,
                ComplianceState::Failed => Standing::Failed,
                ComplianceState::RolledBack => Standing::RolledBack,
                _ => Standing::Replaced,
            };
            let key = (machine.ring().parse().unwrap(), patch.parse().unwrap(), "lyon".parse().unwrap(), standing);
            *tally.pairs.entry(key).or_default() += 1;
        }
    }
}
