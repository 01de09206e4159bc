//! One pass: look at the signed metadata, decide for each patch name, act, report.

use crate::clock;
use crate::delivery::withheld;
use crate::documents::{Documents, DocumentsError, Fleet};
use crate::dpkg::{Dpkg, DpkgError, Snapshot};
use crate::enrolment::Enrolment;
use crate::folder::{DataFolder, replace_file};
use crate::memory::{self, Memories};
use crate::nodes::{Links, Source};
use crate::report::{Outcome, Reporter};
use crate::restate;
use crate::shelf::Shelf;
use crate::transaction::TransactionError;
use crate::trust::{Taking, Trust, TrustError};
use serde::{Deserialize, Serialize};
use sluice_api_client::RepositoryClient;
use sluice_compliance::{AttemptNote, OutcomeKind};
use sluice_identity::DeviceKey;
use sluice_metadata::View;
use sluice_model::{MemberKey, PatchName, RingName, SiteName, Timestamp};
use sluice_rollout::{Decision, Facts, Offers, PatchDecision, RetryPolicy, Tombstones, decide};
use sluice_settings::AgentSettings;
use sluice_state_store::{StateError, StateStore, hold};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Failures double the wait for the next try up to this.
const RETRY_MOST: Duration = Duration::from_secs(24 * 3600);
/// Where the time of the last report is kept.
const LAST_REPORT: &str = "last-report-at";
/// Since when the hold was set that was reported last; 0: none.
const REPORTED_HOLD: &str = "reported-hold";
/// The stored explanation is rewritten at least this often.
const EXPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Sources whose last complaint is remembered: more than a site has nodes.
const COMPLAINTS_MAX: usize = 64;

/// Why a pass came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// No verified metadata yet, and none to be had.
    #[error("no source of metadata answered, and nothing verified is here yet")]
    NoMetadata(#[source] Option<Box<TrustError>>),
    /// Documents.
    #[error(transparent)]
    Documents(#[from] DocumentsError),
    /// dpkg.
    #[error(transparent)]
    Dpkg(#[from] DpkgError),
    /// The store.
    #[error(transparent)]
    State(#[from] StateError),
    /// A transaction.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// A folder of ours.
    #[error("cannot write into the data folder")]
    Folder(#[from] std::io::Error),
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Installs and rollbacks tried.
    pub attempts: u32,
    /// Of those, failed.
    pub failures: u32,
    /// Nobody gave newer or equal metadata: the pass ran on what was verified before.
    pub is_offline: bool,
}

/// What `explain` prints, kept on disk while the agent runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// When it was true.
    pub as_of: Timestamp,
    /// Our site.
    pub site: SiteName,
    /// Our ring by the signed list.
    pub ring: Option<RingName>,
    /// Age of the metadata, in words.
    pub metadata: String,
    /// One line a patch name.
    pub lines: Vec<String>,
}

/// The acting half of the program. One task owns it.
pub struct Agent {
    pub(crate) key: DeviceKey,
    pub(crate) store: StateStore,
    pub(crate) shelf: Shelf,
    pub(crate) dpkg: Dpkg,
    pub(crate) trust: Trust,
    pub(crate) reporter: Reporter,
    pub(crate) memories: Memories,
    pub(crate) links: watch::Sender<Arc<Links>>,
    pub(crate) last_good: Option<MemberKey>,
    pub(crate) stop: CancellationToken,
    pub(crate) journaled: Arc<Notify>,
    pub(crate) enrolment: Enrolment,
    retry: RetryPolicy,
    heartbeat: Duration,
    repository: Option<Arc<RepositoryClient>>,
    pub(crate) folder: DataFolder,
    /// What the nodes said when none of them served because somebody holds them.
    held_by_node: Option<String>,
    explained: Option<Explanation>,
    /// The last complaint about each source, so that none is said twice in a row.
    complained: BTreeMap<String, String>,
}

/// Everything about one moment that decisions rest on.
pub(crate) struct Situation {
    pub(crate) ring: Option<RingName>,
    pub(crate) offers: Offers,
    pub(crate) tombstones: Arc<Tombstones>,
    pub(crate) snapshot: Snapshot,
    pub(crate) now: Timestamp,
    pub(crate) decisions: Vec<PatchDecision>,
}

/// What wiring hands in.
pub struct Parts {
    /// Device key.
    pub key: DeviceKey,
    /// Store.
    pub store: StateStore,
    /// Folder.
    pub folder: DataFolder,
    /// dpkg.
    pub dpkg: Dpkg,
    /// Metadata.
    pub trust: Trust,
    /// Where we belong.
    pub enrolment: Enrolment,
    /// Settings.
    pub settings: AgentSettings,
    /// Tells the delivery whom to talk to.
    pub links: watch::Sender<Arc<Links>>,
    /// Tells the delivery that there is something.
    pub journaled: Arc<Notify>,
    /// Stops downloads and the loop.
    pub stop: CancellationToken,
}

impl Agent {
    /// Takes up what is stored.
    pub fn new(parts: Parts) -> Result<Self, StateError> {
        let Parts { key, store, folder, dpkg, trust, enrolment, settings, links, journaled, stop } = parts;
        let poll = &settings.poll;
        Ok(Self {
            shelf: Shelf::new(folder.downloads(), folder.retained()),
            reporter: Reporter::new(store.clone(), key.clone(), enrolment.epoch),
            memories: memory::load(&store)?,
            retry: RetryPolicy { first: Duration::from_secs(poll.retry_secs), most: RETRY_MOST },
            heartbeat: Duration::from_secs(poll.heartbeat_secs),
            repository: RepositoryClient::new(&enrolment.repository).ok().map(Arc::new),
            held_by_node: None,
            folder,
            explained: None,
            complained: BTreeMap::new(),
            last_good: None,
            key,
            store,
            dpkg,
            trust,
            links,
            stop,
            journaled,
            enrolment,
        })
    }

    /// One pass. Stops between two steps when told to; dpkg is always waited for.
    pub async fn pass(&mut self) -> Result<Done, PassError> {
        let mut done = Done { is_offline: !self.refresh().await?, ..Done::default() };
        let mut acted = BTreeSet::new();
        let mut situation = self.situation().await?;
        while let Some(decision) = next_action(&situation.decisions, &acted).filter(|_| !self.stop.is_cancelled()) {
            let decision = decision.clone();
            acted.insert(decision.name.clone());
            self.act(&situation, &decision, &mut done).await?;
            situation = self.situation().await?;
        }
        self.settle(&situation)?;
        Ok(done)
    }

    /// What stands in the stored metadata and with dpkg now, without asking anybody.
    pub(crate) async fn look(&mut self) -> Result<Explanation, PassError> {
        self.repository = None;
        self.links.send_replace(Arc::new(Links::default()));
        self.situation().await?;
        Ok(self.explained.clone().expect("a situation is always explained"))
    }

    /// Asks each source in turn until one gives valid metadata; `false` when none did and stored metadata is acted on.
    ///
    /// When nobody has metadata within its lease, what an expired one forbids is taken all the same: an endpoint that
    /// slept through a retraction goes back in the outage too.
    pub(crate) async fn refresh(&mut self) -> Result<bool, PassError> {
        let mut last = None;
        let mut expired = Vec::new();
        self.held_by_node = None;
        for source in self.sources() {
            match self.trust.refresh(&source, Taking::Whole).await {
                Ok(is_newer) => {
                    if is_newer {
                        tracing::debug!(source = source.name(), version = self.trust.timestamp_version(), "metadata");
                    }
                    if let Source::Node(node) = &source {
                        self.last_good = Some(node.key);
                        self.held_by_node = None;
                    }
                    self.complained.remove(source.name());
                    return Ok(true);
                }
                Err(error) => {
                    self.complain(source.name(), &error);
                    if let Some(hold) = error.hold() {
                        self.held_by_node = Some(hold.to_owned());
                    }
                    if error.is_expired() {
                        expired.push(source);
                    }
                    last = Some(Box::new(error));
                }
            }
        }
        for source in expired {
            match self.trust.refresh(&source, Taking::Forbids).await {
                Ok(true) => tracing::warn!(source = source.name(), "took what expired metadata forbids"),
                Ok(false) => {}
                Err(error) => self.complain(source.name(), &error),
            }
        }
        if self.trust.view().is_none() { Err(PassError::NoMetadata(last)) } else { Ok(false) }
    }

    /// The nodes, the last good one first, then the repository.
    fn sources(&self) -> Vec<Source> {
        let nodes = self.links.borrow().in_order(self.last_good);
        let repository = self.repository.iter().cloned().map(Source::Repository);
        nodes.into_iter().map(|node| Source::Node(Box::new(node))).chain(repository).collect()
    }

    /// Says it once, not at every poll.
    fn complain(&mut self, source: &str, error: &TrustError) {
        let text = chain(error);
        if self.complained.get(source) == Some(&text) {
            tracing::debug!(source, error = text, "metadata was not taken");
            return;
        }
        tracing::warn!(source, error = text, "metadata was not taken; what was verified before stays");
        if self.complained.len() >= COMPLAINTS_MAX {
            self.complained.clear();
        }
        self.complained.insert(source.to_owned(), text);
    }

    /// Reads the signed documents and the package manager, and decides.
    pub(crate) async fn situation(&mut self) -> Result<Situation, PassError> {
        let view = self.trust.view().ok_or(PassError::NoMetadata(None))?;
        let fleet = self.fleet(&view).await?;
        let snapshot = self.dpkg.snapshot().await?;
        let ring = fleet.row.map(|row| row.ring);
        let reinstated = ring.as_ref().and_then(|ring| view.reinstatements.get(ring));
        let serials = reinstated.into_iter().flatten().map(|reinstatement| reinstatement.serial);
        let tombstones = Arc::new(self.trust.tombstones().lifting(serials));
        let hold = self.hold();
        let rows = ring.as_ref().and_then(|ring| view.releases.get(ring));
        let offers = rows.map(|rows| Offers::of(rows, &tombstones)).unwrap_or_default();
        let now = self.trust.now().unwrap_or_else(clock::timestamp);
        let decisions = decide(&Facts {
            offers: &offers,
            tombstones: &tombstones,
            packages: &snapshot.installed(),
            architecture: Some(&snapshot.architecture),
            memory: &self.memories,
            suspensions: &fleet.suspensions,
            hold: hold.as_deref(),
            freshness: self.trust.freshness_in(ring.as_ref()),
            retry: self.retry,
            now,
        });
        let situation = Situation { ring, offers, tombstones, snapshot, now, decisions };
        self.explain(&situation)?;
        Ok(situation)
    }

    /// Why nothing may be changed here: a hold that somebody set at this machine, or at every node that answered.
    pub(crate) fn hold(&self) -> Option<String> {
        let here = hold::read(self.folder.path()).map(|hold| hold.reason);
        here.or_else(|| self.held_by_node.clone())
    }

    /// Roster and our row; the roster moves the links.
    async fn fleet(&self, view: &View) -> Result<Fleet, PassError> {
        let sources = self.sources();
        let documents = Documents { store: &self.store, view, sources: &sources };
        let fleet = documents.fleet(&self.enrolment.site, &self.key.endpoint_id()).await?;
        let old = self.links.borrow().clone();
        let links = Links::of(&fleet.roster, &self.enrolment.site, &self.key, &old);
        if !links.is_same_as(&old) {
            tracing::info!(site = %self.enrolment.site, nodes = links.nodes.len(), "the signed roster names our nodes");
            self.links.send_replace(Arc::new(links));
        }
        Ok(fleet)
    }

    /// Writes the explanation where `explain` finds it.
    fn explain(&mut self, situation: &Situation) -> Result<(), PassError> {
        let explanation = Explanation {
            as_of: clock::timestamp(),
            site: self.enrolment.site.clone(),
            ring: situation.ring.clone(),
            metadata: self.trust.freshness().to_string(),
            lines: lines(situation, &self.enrolment.site),
        };
        let is_due = self
            .explained
            .as_ref()
            .is_none_or(|old| old.lines != explanation.lines || explanation.as_of.since(old.as_of) >= EXPLAIN_EVERY);
        if is_due {
            if self.explained.as_ref().is_none_or(|old| old.lines != explanation.lines) {
                for line in &explanation.lines {
                    tracing::info!("{line}");
                }
            }
            let bytes = serde_json::to_vec_pretty(&explanation).expect("an explanation is JSON");
            replace_file(&self.folder.explanation(), &bytes)?;
            self.explained = Some(explanation);
        }
        Ok(())
    }

    /// The end of a pass: memories stored, files that nobody needs deleted, a sign of life where one is due.
    fn settle(&mut self, situation: &Situation) -> Result<(), PassError> {
        self.shelf.prune(&self.wanted(situation))?;
        self.report_hold(situation)?;
        for outcome in restate::due(&self.store, &self.memories, &situation.snapshot)? {
            self.report(outcome, situation)?;
            self.journaled.notify_one();
        }
        tokio::task::block_in_place(|| restate::note_said(&self.store))?;
        let last = self.store.get_u64(LAST_REPORT)?;
        let is_due = last.is_none_or(|last| clock::timestamp().since(Timestamp::from_millis(last)) >= self.heartbeat);
        if (is_due || withheld::is_unsaid(&self.store)?) && situation.ring.is_some() {
            self.report(Outcome::of(OutcomeKind::Heartbeat, None), situation)?;
            self.journaled.notify_one();
        }
        Ok(())
    }

    /// A hold at this machine is reported once when it is set and once when it is lifted.
    fn report_hold(&self, situation: &Situation) -> Result<(), PassError> {
        let hold = hold::read(self.folder.path());
        let now = hold.as_ref().map_or(0, |hold| hold.since.as_millis().max(1));
        if self.store.get_u64(REPORTED_HOLD)?.unwrap_or(0) == now || situation.ring.is_none() {
            return Ok(());
        }
        let mut outcome = Outcome::of(OutcomeKind::Heartbeat, None);
        outcome.detail = match &hold {
            Some(hold) => format!("held at this machine since {}: {}", hold.since, hold.reason),
            None => "the hold at this machine was lifted".to_owned(),
        };
        self.report(outcome, situation)?;
        tokio::task::block_in_place(|| self.store.put_u64(REPORTED_HOLD, now))?;
        self.journaled.notify_one();
        Ok(())
    }

    /// Artifacts that may be needed again: offered, to go back to, installed; never a retracted one.
    fn wanted(&self, situation: &Situation) -> HashSet<sluice_model::Sha256> {
        let offers = situation.offers.patches.values();
        let sets = offers.flat_map(|offers| offers.offered.iter().chain(&offers.previous));
        let installed = self.memories.values().filter_map(|memory| memory.installed.as_ref());
        sets.flat_map(sluice_rollout::PatchSet::sha256)
            .chain(installed.flat_map(|installed| installed.sha256.clone()))
            .filter(|sha256| situation.tombstones.of_sha256(sha256).is_none())
            .collect()
    }

    /// Puts an outcome into the journal, and remembers that something was said. The delivery is told by the caller,
    /// once memory is stored too.
    pub(crate) fn report(&self, outcome: Outcome, situation: &Situation) -> Result<(), StateError> {
        let attempt = self.attempt_of(&outcome);
        tokio::task::block_in_place(|| {
            let version = self.trust.timestamp_version();
            self.reporter.append(outcome, attempt, situation.ring.as_ref(), version)?;
            self.store.put_u64(LAST_REPORT, clock::timestamp().as_millis())
        })
    }
}

impl Agent {
    /// Of a failed attempt: how often in a row, as memory counts it, so that the repository counts the same.
    fn attempt_of(&self, outcome: &Outcome) -> Option<AttemptNote> {
        let (name, _) = (&outcome.patch.as_ref()?.name, outcome.class?);
        let failed = self.memories.get(name)?.failed.as_ref()?;
        Some(AttemptNote { patch: failed.patch.clone(), failures: failed.failures, at: failed.at })
    }
}

/// What `explain` says in one moment.
fn lines(situation: &Situation, site: &SiteName) -> Vec<String> {
    match &situation.ring {
        None => vec![format!("this endpoint is not in the signed list of site {site}: nothing is offered to it")],
        Some(ring) if situation.decisions.is_empty() => vec![format!("ring {ring} offers nothing")],
        Some(_) => situation.decisions.iter().map(ToString::to_string).collect(),
    }
}

/// Rollbacks come before installs; each name once a pass.
fn next_action<'a>(decisions: &'a [PatchDecision], acted: &BTreeSet<PatchName>) -> Option<&'a PatchDecision> {
    let open = || decisions.iter().filter(|decision| !acted.contains(&decision.name));
    let is_rollback = |decision: &&PatchDecision| matches!(decision.decision, Decision::Rollback { .. });
    open().find(is_rollback).or_else(|| open().next())
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
