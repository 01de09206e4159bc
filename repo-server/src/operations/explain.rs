//! Why an endpoint has what it has: the agent's own decision function over what the endpoint reported.
//!
//! The server knows less than the agent: packages and attempts as last reported, and no holds or architecture. Where
//! both know the same, both say the same words.

use crate::clock;
use crate::operations::{Failure, compliance, endpoints, quarantine};
use crate::served::Served;
use crate::state::App;
use sluice_api::admin::Explanation;
use sluice_compliance::{FailureClass, OutcomeKind, OutcomeReport, Standing, is_heard};
use sluice_compliance_store::{ComplianceStore, Heard, Outcome, OutcomeFilter, StoreError};
use sluice_model::{
    EndpointId, EndpointState, PackageName, PatchName, PatchRef, RingName, SiteName, Timestamp, Tombstone,
};
use sluice_repo_store::members::EndpointRecord;
use sluice_rollout::decide::RetryPolicy;
use sluice_rollout::{Attempt, Facts, Freshness, InForce, Installed, Memory, Offers, decide};
use std::collections::BTreeMap;
use std::time::Duration;

/// Reports about one patch that are looked at for failures in a row.
const ATTEMPTS_MAX: usize = 100;

/// Explains one endpoint: a line for each patch name in the agent's words, then what the server knows beside.
pub async fn run(app: &App, id: EndpointId) -> Result<Explanation, Failure> {
    let record = app.store.look(move |tx| endpoints::find(tx, &id)).await?;
    let known = compliance::read(app, move |store| Known::of(store, &id)).await?;
    let now = clock::timestamp();
    let mut lines = decisions(&app.served(), (&record.site, &record.ring), &known, now);
    lines.extend(remarks(&record, &known, now, compliance::silence_max(app)));
    Ok(Explanation { endpoint: record.id, name: record.name, site: record.site, ring: record.ring, lines })
}

/// What the endpoint reported.
#[derive(Default)]
struct Known {
    heard: Option<Heard>,
    /// The last report about each patch that the endpoint spoke of, oldest first, with its standing.
    last: Vec<(Standing, Outcome)>,
    /// Failed attempts in a row, of reports that do not say it themselves.
    failures: BTreeMap<PatchRef, u32>,
}

impl Known {
    fn of(store: &ComplianceStore, id: &EndpointId) -> Result<Self, StoreError> {
        let mut known = Self { heard: store.heard(id)?, ..Self::default() };
        for pair in store.pairs(id)? {
            let Some(outcome) = store.outcome(pair.position)? else { continue };
            if outcome.report.outcome == OutcomeKind::Failed && outcome.report.attempt.is_none() {
                known.failures.insert(pair.patch.clone(), failures_in_a_row(store, id, &pair.patch)?);
            }
            known.last.push((pair.standing, outcome));
        }
        known.last.sort_by_key(|(_, outcome)| outcome.position);
        Ok(known)
    }

    /// Packages as the last report about each of them found them.
    fn packages(&self) -> BTreeMap<PackageName, String> {
        let mut packages = BTreeMap::new();
        for found in self.last.iter().flat_map(|(_, outcome)| &outcome.report.after) {
            let Ok(name) = found.package.parse::<PackageName>() else { continue };
            match &found.version {
                Some(version) => packages.insert(name, version.clone()),
                None => packages.remove(&name),
            };
        }
        packages
    }

    /// What the agent remembers, by the rules by which it remembers: an attempt that succeeded ends the failures of every
    /// version of its name, and what is blocked is forgotten.
    fn memory(&self, tombstones: &[Tombstone]) -> BTreeMap<PatchName, Memory> {
        let mut memory: BTreeMap<PatchName, Memory> = BTreeMap::new();
        for (standing, outcome) in &self.last {
            let report = &outcome.report;
            let Some(patch) = &report.patch else { continue };
            let entry = memory.entry(patch.name.clone()).or_default();
            if matches!(standing, Standing::Installed | Standing::RollbackFailed) {
                entry.installed = Some(installed(patch, report, tombstones));
            }
            match report.outcome {
                OutcomeKind::Installed | OutcomeKind::RolledBack => entry.failed = None,
                OutcomeKind::Blocked => drop(entry.failed.take_if(|attempt| attempt.patch == *patch)),
                OutcomeKind::Failed | OutcomeKind::RollbackFailed => {
                    entry.failed = self.attempt(patch, report).or(entry.failed.take());
                }
                OutcomeKind::Heartbeat => {}
            }
        }
        memory
    }

    /// The attempt that a failure tells of: of a rollback that is the version to go back to. `None` when nothing was
    /// attempted.
    fn attempt(&self, patch: &PatchRef, report: &OutcomeReport) -> Option<Attempt> {
        let class = class_of(Some(report.class?));
        if let Some(note) = &report.attempt {
            return Some(Attempt { patch: note.patch.clone(), failures: note.failures, at: note.at, class });
        }
        let failures = self.failures.get(patch).copied()?;
        Some(Attempt { patch: patch.clone(), failures, at: report.device_time, class })
    }
}

/// The patch as installed. A retracted one goes by what its tombstone names: a report of a rollback that failed names
/// the artifacts that were to replace it.
fn installed(patch: &PatchRef, report: &OutcomeReport, tombstones: &[Tombstone]) -> Installed {
    let tombstone = tombstones.iter().find(|tombstone| tombstone.patch == *patch);
    let sha256 = tombstone.map(|tombstone| tombstone.content.iter().map(|content| content.sha256).collect());
    let packages = report.after.iter().filter_map(|found| Some((found.package.parse().ok()?, found.version.clone()?)));
    Installed {
        patch: patch.clone(),
        sha256: sha256.unwrap_or_else(|| report.sha256.clone()),
        packages: packages.collect(),
        added: Vec::new(),
        at: report.device_time,
    }
}

fn class_of(class: Option<FailureClass>) -> String {
    class.map_or_else(|| "unknown".to_owned(), |class| compliance::name_of(&class))
}

fn failures_in_a_row(store: &ComplianceStore, id: &EndpointId, patch: &PatchRef) -> Result<u32, StoreError> {
    let filter =
        OutcomeFilter { endpoint: Some(*id), patch: Some(patch.clone()), limit: ATTEMPTS_MAX, ..Default::default() };
    let page = store.outcomes(&filter)?;
    let failed = page.outcomes.iter().rev().take_while(|outcome| outcome.report.outcome == OutcomeKind::Failed);
    Ok(u32::try_from(failed.count()).unwrap_or(u32::MAX).max(1))
}

fn decisions(served: &Served, (site, ring): (&SiteName, &RingName), known: &Known, now: Timestamp) -> Vec<String> {
    let tombstones = served.tombstones_in(ring);
    let rows = served.view.releases.get(ring).map_or(&[][..], Vec::as_slice);
    let offers = Offers::of(rows, &tombstones);
    let facts = Facts {
        offers: &offers,
        tombstones: &tombstones,
        packages: &known.packages(),
        architecture: None,
        memory: &known.memory(&served.tombstones),
        suspensions: &InForce::at(&served.suspensions, site),
        hold: None,
        freshness: Freshness::of(served.view.issued_at, served.view.lease_until, Some(now)),
        retry: RetryPolicy::default(),
        now,
    };
    decide(&facts).iter().map(ToString::to_string).collect()
}

fn remarks(record: &EndpointRecord, known: &Known, now: Timestamp, silence_max: Duration) -> Vec<String> {
    let mut lines = Vec::new();
    if record.state == EndpointState::Revoked {
        lines.push("the endpoint is revoked: nothing of it is accepted, and it gets nothing as an agent".to_owned());
    }
    match &known.heard {
        None => lines.push("nothing was reported yet: its compliance state is unknown".to_owned()),
        Some(Heard { broken: Some(broken), .. }) => {
            lines.push(format!("in quarantine, {broken}: its compliance state is unknown"));
            lines.push(format!("to end the quarantine, {}", quarantine::remedy(record)));
        }
        Some(heard) => {
            let ago = now.since(heard.at).as_secs();
            let silent =
                if is_heard(Some(heard.at), now, silence_max) { "" } else { ": its compliance state is unknown" };
            lines.push(format!("last report {ago} s ago{silent}"));
        }
    }
    let failed = known.last.iter().filter(|(_, outcome)| compliance::is_failure(outcome.report.outcome));
    lines.extend(failed.filter_map(|(_, outcome)| failure_line(&outcome.report)));
    lines
}

fn failure_line(report: &OutcomeReport) -> Option<String> {
    let patch = report.patch.as_ref()?;
    let said = report.detail.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no words");
    let said: String = said.chars().filter(|c| !c.is_control()).collect();
    let name = compliance::name_of(&report.outcome).replace('_', " ");
    Some(format!("{patch} {name} ({}): {said}", class_of(report.class)))
}
