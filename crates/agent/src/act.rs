//! Carries a decision out and says what came of it. Makes no choices of its own.

use crate::clock;
use crate::download::{FetchError, Fetcher, Sources};
use crate::memory::{self, Memories};
use crate::pass::{Agent, Done, PassError, Situation, chain};
use crate::report::Outcome;
use crate::transaction::{Applied, Transaction, debs};
use sluice_compliance::{FailureClass, OutcomeKind};
use sluice_model::{PackageName, PatchName, PatchRef, ReleasedArtifact, Sha256};
use sluice_rollout::{Attempt, Decision, Installed, PatchDecision, PatchSet, Purpose, Retracted};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A download that took longer is followed by a fresh look before anything is installed.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The failed download in a row that is reported, and every so many after it: nothing was touched by any of them.
const DOWNLOADS_FAILED_REPORTED: u32 = 3;
const DOWNLOADS_FAILED_AGAIN: u32 = 20;

impl Agent {
    pub(crate) async fn act(
        &mut self,
        situation: &Situation,
        decision: &PatchDecision,
        done: &mut Done,
    ) -> Result<(), PassError> {
        let installed = |memories: &Memories| Some(memories.get(&decision.name)?.installed.as_ref()?.patch.clone());
        let had = installed(&self.memories);
        match &decision.decision {
            Decision::Install { set } => self.install(situation, set, done).await?,
            Decision::Rollback { from, to } => self.roll_back(situation, from, to, done).await?,
            Decision::UpToDate { set } => self.note_up_to_date(situation, set)?,
            Decision::InstalledRetracted { from } => self.note_stuck(situation, from)?,
            Decision::Blocked { .. } | Decision::NotNow { .. } => {}
        }
        self.note_blocked(situation, decision, had.as_ref())
    }

    async fn install(&mut self, situation: &Situation, set: &PatchSet, done: &mut Done) -> Result<(), PassError> {
        let began = clock::now();
        let mut sources = Sources::default();
        tracing::info!(patch = %set.patch, bytes = set.length(), "installing");
        let files = match self.obtain(situation, set, Purpose::Ordinary, &mut sources).await {
            Ok(files) => files,
            Err(FetchError::Stopped | FetchError::Held) => return Ok(()),
            Err(error) => return self.fetch_failed(situation, set, &error, OutcomeKind::Failed, &set.patch, done),
        };
        let is_old = clock::now().saturating_duration_since(began) >= LOOK_AGAIN_AFTER;
        if self.hold().is_some() || (is_old && !self.is_still_due(set).await?) {
            tracing::info!(patch = %set.patch, "no longer to be installed; left alone");
            return Ok(());
        }
        let applied = self.apply(situation, set, &files, &[], Purpose::Ordinary).await?;
        done.attempts += 1;
        let kind = if applied.failure.is_none() { OutcomeKind::Installed } else { OutcomeKind::Failed };
        if applied.failure.is_some() {
            done.failures += 1;
        }
        let outcome = outcome_of(kind, &set.patch, set, &applied, &sources, began);
        self.remember(situation, set, &applied);
        self.conclude(situation, outcome)
    }

    async fn roll_back(
        &mut self,
        situation: &Situation,
        from: &Retracted,
        to: &PatchSet,
        done: &mut Done,
    ) -> Result<(), PassError> {
        let began = clock::now();
        let mut sources = Sources::default();
        tracing::warn!(%from, to = %to.patch, "rolling back");
        let files = match self.obtain(situation, to, Purpose::Rollback, &mut sources).await {
            Ok(files) => files,
            Err(FetchError::Stopped | FetchError::Held) => return Ok(()),
            Err(error) => {
                return self.fetch_failed(situation, to, &error, OutcomeKind::RollbackFailed, &from.patch, done);
            }
        };
        let leftovers = self.leftovers(&from.patch.name, to);
        let applied = self.apply(situation, to, &files, &leftovers, Purpose::Rollback).await?;
        done.attempts += 1;
        let is_back = applied.failure.is_none();
        if !is_back {
            done.failures += 1;
        }
        let kind = if is_back { OutcomeKind::RolledBack } else { OutcomeKind::RollbackFailed };
        let mut outcome = outcome_of(kind, &from.patch, to, &applied, &sources, began);
        outcome.sha256 = self.installed_hashes(&from.patch);
        outcome.detail = format!("{from}\n{}", outcome.detail);
        let memory = self.memories.entry(from.patch.name.clone()).or_default();
        memory.reported_serials.insert(from.serial);
        self.remember(situation, to, &applied);
        if is_back {
            // The version that is in place again has its own word, so that both patches are known.
            let mut again = outcome_of(OutcomeKind::Installed, &to.patch, to, &applied, &Sources::default(), began);
            again.detail = format!("in place again after {} was retracted", from.patch);
            self.report(outcome, situation)?;
            return self.conclude(situation, again);
        }
        self.conclude(situation, outcome)
    }

    /// Whether metadata that is fresh now still leads to the same installation: it may have been retracted or suspended
    /// meanwhile.
    async fn is_still_due(&mut self, set: &PatchSet) -> Result<bool, PassError> {
        if let Err(error) = self.refresh().await {
            tracing::debug!(error = %chain(&error), "no fresh look before the installation");
        }
        let situation = self.situation().await?;
        let is_it =
            |decision: &PatchDecision| matches!(&decision.decision, Decision::Install { set: due } if due == set);
        Ok(situation.decisions.iter().any(is_it))
    }

    async fn obtain(
        &self,
        situation: &Situation,
        set: &PatchSet,
        purpose: Purpose,
        sources: &mut Sources,
    ) -> Result<Vec<PathBuf>, FetchError> {
        let nodes = self.links.borrow().in_order(self.last_good);
        let data = Some(self.folder.path());
        let fetcher = Fetcher { nodes: &nodes, shelf: &self.shelf, purpose, data, stop: &self.stop };
        let mut files = Vec::new();
        for artifact in &set.artifacts {
            debug_assert!(situation.tombstones.of_sha256(&artifact.sha256).is_none());
            files.push(fetcher.obtain(artifact, sources).await?);
        }
        Ok(files)
    }

    async fn apply(
        &self,
        situation: &Situation,
        set: &PatchSet,
        files: &[PathBuf],
        leftovers: &[PackageName],
        purpose: Purpose,
    ) -> Result<Applied, PassError> {
        let nodes = self.links.borrow().in_order(self.last_good);
        // Once dpkg was started, even a stop waits for the way back.
        let never = tokio_util::sync::CancellationToken::new();
        let fetcher = Fetcher { nodes: &nodes, shelf: &self.shelf, purpose, data: None, stop: &never };
        let ways_back: Vec<ReleasedArtifact> = situation
            .offers
            .patches
            .values()
            .flat_map(|offers| offers.live())
            .flat_map(|set| set.artifacts.iter().cloned())
            .collect();
        let transaction =
            Transaction { dpkg: &self.dpkg, store: &self.store, fetcher: &fetcher, ways_back: &ways_back };
        Ok(transaction.apply(set, files, leftovers).await?)
    }

    /// Nothing was touched: the machine is as it was.
    fn fetch_failed(
        &mut self,
        situation: &Situation,
        set: &PatchSet,
        error: &FetchError,
        kind: OutcomeKind,
        reported_as: &PatchRef,
        done: &mut Done,
    ) -> Result<(), PassError> {
        done.attempts += 1;
        done.failures += 1;
        tracing::warn!(patch = %set.patch, error = %chain(error), "cannot be fetched");
        let class = error.class();
        let failures = self.remember_failure(situation, set, class);
        let is_told = class != FailureClass::Download
            || failures == DOWNLOADS_FAILED_REPORTED
            || failures.is_multiple_of(DOWNLOADS_FAILED_AGAIN);
        if !is_told {
            return Ok(memory::save(&self.store, &mut self.memories, &situation.offers)?);
        }
        let mut outcome = Outcome::of(kind, Some(reported_as.clone()));
        outcome.sha256 = set.sha256();
        outcome.class = Some(class);
        outcome.detail = chain(error);
        outcome.before = situation.snapshot.versions(debs(set).map(|deb| &deb.package));
        outcome.after = outcome.before.clone();
        self.conclude(situation, outcome)
    }

    /// First the journal, then the memory, then word to the delivery.
    fn conclude(&mut self, situation: &Situation, outcome: Outcome) -> Result<(), PassError> {
        self.report(outcome, situation)?;
        memory::save(&self.store, &mut self.memories, &situation.offers)?;
        memory::note_attempt(&self.store, None)?;
        self.journaled.notify_one();
        Ok(())
    }

    fn remember(&mut self, situation: &Situation, set: &PatchSet, applied: &Applied) {
        match applied.failure {
            Some(class) => {
                self.remember_failure(situation, set, class);
            }
            None => self.remember_installed(situation, set, applied.added.clone()),
        }
    }

    fn remember_installed(&mut self, situation: &Situation, set: &PatchSet, added: Vec<PackageName>) {
        let memory = self.memories.entry(set.patch.name.clone()).or_default();
        memory.failed = None;
        memory.installed = Some(Installed {
            patch: set.patch.clone(),
            sha256: set.sha256(),
            packages: debs(set).map(|deb| (deb.package.clone(), deb.version.clone())).collect(),
            added,
            at: situation.now,
        });
    }

    /// How many failures in a row this is.
    fn remember_failure(&mut self, situation: &Situation, set: &PatchSet, class: FailureClass) -> u32 {
        let memory = self.memories.entry(set.patch.name.clone()).or_default();
        let before = memory.failed.as_ref().filter(|attempt| attempt.patch == set.patch);
        let failures = before.map_or(0, |attempt| attempt.failures).saturating_add(1);
        memory.failed = Some(Attempt {
            patch: set.patch.clone(),
            failures,
            at: self.trust.now().unwrap_or(situation.now),
            class: class_text(class).to_owned(),
        });
        failures
    }

    /// The offered version is there: said once, also when other hands put it there.
    fn note_up_to_date(&mut self, situation: &Situation, set: &PatchSet) -> Result<(), PassError> {
        let memory = self.memories.get(&set.patch.name);
        let is_known = memory
            .and_then(|memory| memory.installed.as_ref())
            .is_some_and(|installed| installed.patch == set.patch && installed.sha256 == set.sha256());
        if is_known {
            return Ok(());
        }
        self.remember_installed(situation, set, Vec::new());
        if self.reporter.last_says_installed(&set.patch)? {
            // The agent was killed between journal and memory.
            memory::save(&self.store, &mut self.memories, &situation.offers)?;
            return Ok(memory::note_attempt(&self.store, None)?);
        }
        let mut outcome = Outcome::of(OutcomeKind::Installed, Some(set.patch.clone()));
        outcome.sha256 = set.sha256();
        outcome.detail = "found installed".to_owned();
        outcome.before = situation.snapshot.versions(debs(set).map(|deb| &deb.package));
        outcome.after = outcome.before.clone();
        self.conclude(situation, outcome)
    }

    /// A retracted version is installed and there is no way back: said once.
    fn note_stuck(&mut self, situation: &Situation, from: &Retracted) -> Result<(), PassError> {
        let memory = self.memories.entry(from.patch.name.clone()).or_default();
        if !memory.reported_serials.insert(from.serial) {
            return Ok(());
        }
        let packages: Vec<PackageName> = memory
            .installed
            .iter()
            .flat_map(|installed| installed.packages.iter().map(|(package, _)| package.clone()))
            .collect();
        let mut outcome = Outcome::of(OutcomeKind::RollbackFailed, Some(from.patch.clone()));
        outcome.sha256 = self.installed_hashes(&from.patch);
        outcome.detail = format!("{from}; there is no earlier version to go back to");
        outcome.before = situation.snapshot.versions(packages.iter());
        outcome.after = outcome.before.clone();
        tracing::warn!(%from, "is installed and cannot be rolled back");
        self.conclude(situation, outcome)
    }

    /// A retracted version that was here or was tried here, and is not installed: said once.
    fn note_blocked(
        &mut self,
        situation: &Situation,
        decision: &PatchDecision,
        had: Option<&PatchRef>,
    ) -> Result<(), PassError> {
        if matches!(decision.decision, Decision::Rollback { .. } | Decision::InstalledRetracted { .. }) {
            return Ok(());
        }
        let is_removed = matches!(decision.decision, Decision::Blocked { .. });
        for retracted in &decision.blocked {
            let Some(memory) = self.memories.get_mut(&decision.name) else { continue };
            let was_tried = memory.failed.as_ref().is_some_and(|attempt| attempt.patch == retracted.patch);
            let is_here = memory.installed.as_ref().is_some_and(|installed| installed.patch == retracted.patch);
            let was_here = had == Some(&retracted.patch) && (is_removed || !is_here);
            if !(was_tried || was_here) || !memory.reported_serials.insert(retracted.serial) {
                continue;
            }
            memory.installed.take_if(|installed| installed.patch == retracted.patch);
            memory.failed.take_if(|attempt| attempt.patch == retracted.patch);
            let mut outcome = Outcome::of(OutcomeKind::Blocked, Some(retracted.patch.clone()));
            outcome.detail = retracted.to_string();
            self.conclude(situation, outcome)?;
        }
        Ok(())
    }

    /// Packages that the installed version brought along and the version to go back to does not have.
    fn leftovers(&self, name: &PatchName, to: &PatchSet) -> Vec<PackageName> {
        let stays: BTreeSet<&PackageName> = debs(to).map(|deb| &deb.package).collect();
        let installed = self.memories.get(name).and_then(|memory| memory.installed.as_ref());
        let added = installed.map(|installed| installed.added.clone()).unwrap_or_default();
        added.into_iter().filter(|package| !stays.contains(package)).collect()
    }

    fn installed_hashes(&self, patch: &PatchRef) -> Vec<Sha256> {
        let installed = self.memories.get(&patch.name).and_then(|memory| memory.installed.as_ref());
        installed.map(|installed| installed.sha256.clone()).unwrap_or_default()
    }
}

fn outcome_of(
    kind: OutcomeKind,
    patch: &PatchRef,
    set: &PatchSet,
    applied: &Applied,
    sources: &Sources,
    began: Instant,
) -> Outcome {
    let millis = clock::now().saturating_duration_since(began).as_millis();
    Outcome {
        kind,
        patch: Some(patch.clone()),
        sha256: set.sha256(),
        class: applied.failure,
        detail: applied.words.clone(),
        before: applied.before.clone(),
        after: applied.after.clone(),
        sources: sources.to_report(),
        duration_ms: u64::try_from(millis).unwrap_or(u64::MAX),
    }
}

/// The class as reports write it.
fn class_text(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Dependency => "dependency",
        FailureClass::PackageManager => "package_manager",
        FailureClass::Verification => "verification",
        FailureClass::Download => sluice_rollout::decide::CLASS_DOWNLOAD,
        FailureClass::Disk => "disk",
        FailureClass::Unproven => "unproven",
    }
}
