//! Compliance as people see it: by patch and ring, by site, and pair by pair.
//!
//! All three views are about the same pairs: every active endpoint with each patch that its ring offers, and with each
//! retracted patch of which it ever said a word. Counts come from counters, rows from facts; they add up.

use crate::clock;
use crate::operations::Failure;
use crate::served::Served;
use crate::state::App;
use sluice_api::admin::{
    ComplianceByEndpoint, ComplianceByPatch, ComplianceBySite, ComplianceCounts, EndpointCompliance, PackageState,
    PatchCompliance, SiteCompliance, Source,
};
use sluice_api::problem::ProblemType;
use sluice_compliance::{ComplianceState, Counts, OutcomeKind, Standing, is_heard, state};
use sluice_compliance_store::{ComplianceStore, Heard, Outcome, StoreError, Tally};
use sluice_model::{EndpointId, EndpointState, PatchRef, RingName, Severity, SiteName, Timestamp};
use sluice_repo_store::members::{self, EndpointRecord};
use sluice_repo_store::patches::{self, PatchRecord};
use sluice_rollout::Offers;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Rows of one drill-down: at 500 bytes a row 25 MB. Beyond it the caller narrows.
const ROWS_MAX: usize = 50_000;

/// A patch that is counted in a ring.
struct Counted {
    ring: RingName,
    patch: PatchRef,
    severity: Severity,
    is_retracted: bool,
}

/// Everything that the views are made of, at one moment.
struct Picture {
    as_of: Timestamp,
    counted: Vec<Counted>,
    /// Active endpoints by ring and site.
    endpoints: BTreeMap<(RingName, SiteName), u64>,
    tally: Tally,
}

/// By patch and ring.
pub async fn by_patch(app: &App) -> Result<ComplianceByPatch, Failure> {
    let picture = picture(app).await?;
    let row = |counted: &Counted| {
        let counts = picture.sites_of(&counted.ring).map(|site| picture.counts(counted, site));
        PatchCompliance {
            patch: counted.patch.clone(),
            ring: counted.ring.clone(),
            severity: counted.severity,
            state: if counted.is_retracted { "retracted" } else { "released" }.into(),
            counts: to_api(&sum(counts)),
        }
    };
    Ok(ComplianceByPatch { as_of: picture.as_of, rows: picture.counted.iter().map(row).collect() })
}

/// By site.
pub async fn by_site(app: &App) -> Result<ComplianceBySite, Failure> {
    let picture = picture(app).await?;
    let row = |site: &SiteName| {
        let counts = picture.counted.iter().map(|counted| picture.counts(counted, site));
        SiteCompliance { site: site.clone(), counts: to_api(&sum(counts)) }
    };
    let sites = app.served().topology.clone();
    Ok(ComplianceBySite { as_of: picture.as_of, rows: sites.sites.iter().map(|site| row(&site.name)).collect() })
}

/// Which rows of the drill-down are wanted; every part that is given must match.
#[derive(Clone, Debug, Default)]
pub struct PairFilter {
    /// Of this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Of this patch.
    pub patch: Option<PatchRef>,
    /// Of endpoints of this site.
    pub site: Option<SiteName>,
}

/// Pair by pair, by site, endpoint name and patch.
pub async fn by_endpoint(app: &App, filter: PairFilter) -> Result<ComplianceByEndpoint, Failure> {
    let as_of = clock::timestamp();
    let counted = counted(app, &app.served()).await?;
    let mut endpoints = app.store.look(|tx| Ok::<_, Failure>(members::endpoints(tx)?)).await?;
    endpoints.retain(|endpoint| {
        endpoint.state == EndpointState::Active
            && filter.endpoint.is_none_or(|id| endpoint.id == id)
            && filter.site.as_ref().is_none_or(|site| endpoint.site == *site)
    });
    endpoints.sort_by(|a, b| (&a.site, &a.name, a.id).cmp(&(&b.site, &b.name, b.id)));
    let wanted = move |counted: &Counted| filter.patch.as_ref().is_none_or(|patch| counted.patch == *patch);
    let silence_max = silence_max(app);
    let rows = read(app, move |store| {
        let heard = store.all_heard()?;
        let mut rows = Vec::new();
        for endpoint in &endpoints {
            let is_known = is_known(heard.get(&endpoint.id), as_of, silence_max);
            let facts = Facts::of(store, endpoint, is_known)?;
            for counted in counted.iter().filter(|counted| counted.ring == endpoint.ring && wanted(counted)) {
                rows.extend(facts.row(store, endpoint, counted)?);
            }
            if rows.len() > ROWS_MAX {
                return Ok(None);
            }
        }
        Ok(Some(rows))
    });
    match rows.await? {
        Some(rows) => Ok(ComplianceByEndpoint { as_of, rows }),
        None => {
            let detail = format!("more than {ROWS_MAX} rows; narrow it down with site, patch or endpoint");
            Err(Failure::refused(ProblemType::TooLarge, detail))
        }
    }
}

/// What endpoints said of a retracted patch.
#[derive(Clone, Debug, Default)]
pub struct Exposure {
    /// Their last word is that it is installed.
    pub installed: Vec<EndpointId>,
    /// They rolled it back.
    pub rolled_back: Vec<EndpointId>,
}

/// What endpoints said of these patches; patches of which nobody spoke are left out.
pub async fn exposure(app: &App, patches: Vec<PatchRef>) -> Result<BTreeMap<PatchRef, Exposure>, Failure> {
    let pairs = read(app, move |store| store.endpoints_of(&patches)).await?;
    let exposure = |pairs: Vec<(EndpointId, Standing)>| {
        let of = |wanted: &[Standing]| {
            pairs.iter().filter(|(_, standing)| wanted.contains(standing)).map(|(endpoint, _)| *endpoint).collect()
        };
        Exposure {
            installed: of(&[Standing::Installed, Standing::RollbackFailed]),
            rolled_back: of(&[Standing::RolledBack]),
        }
    };
    Ok(pairs.into_iter().map(|(patch, pairs)| (patch, exposure(pairs))).collect())
}

async fn picture(app: &App) -> Result<Picture, Failure> {
    let as_of = clock::timestamp();
    let served = app.served();
    let mut endpoints = BTreeMap::new();
    for (site, rows) in &served.endpoints {
        for row in rows.endpoints.iter().filter(|row| row.state == EndpointState::Active) {
            *endpoints.entry((row.ring.clone(), site.clone())).or_default() += 1;
        }
    }
    let counted = counted(app, &served).await?;
    let tally = {
        let silence_max = silence_max(app);
        read(app, move |store| store.tally(as_of, silence_max)).await?
    };
    Ok(Picture { as_of, counted, endpoints, tally })
}

/// Patches that are counted, by ring in lifecycle order: what the ring offers, and what was retracted from it.
async fn counted(app: &App, served: &Served) -> Result<Vec<Counted>, Failure> {
    let records = app.store.look(|tx| Ok::<_, Failure>(patches::list(tx)?)).await?;
    let records: HashMap<&PatchRef, &PatchRecord> = records.iter().map(|record| (&record.patch, record)).collect();
    let mut counted = Vec::new();
    for ring in &served.view.rings {
        let rows = served.view.releases.get(ring).map_or(&[][..], Vec::as_slice);
        for offers in Offers::of(rows, &served.tombstones_in(ring)).patches.into_values() {
            if let Some(set) = offers.offered {
                let severity = set.artifacts.first().map_or(Severity::Low, |artifact| artifact.custom.severity);
                counted.push(Counted { ring: ring.clone(), patch: set.patch, severity, is_retracted: false });
            }
        }
        let mut retracted: Vec<&PatchRecord> = records
            .values()
            .filter(|record| record.retraction.is_some())
            .filter(|record| record.approvals.iter().any(|approval| approval.ring == *ring))
            .copied()
            .collect();
        retracted.sort_by(|a, b| a.patch.cmp(&b.patch));
        counted.extend(retracted.into_iter().map(|record| Counted {
            ring: ring.clone(),
            patch: record.patch.clone(),
            severity: record.severity,
            is_retracted: true,
        }));
    }
    Ok(counted)
}

impl Picture {
    fn sites_of<'a>(&'a self, ring: &'a RingName) -> impl Iterator<Item = &'a SiteName> {
        self.endpoints.keys().filter(move |(of, _)| of == ring).map(|(_, site)| site)
    }

    /// Pairs of one patch at one site, by state.
    fn counts(&self, counted: &Counted, site: &SiteName) -> Counts {
        let mut counts = Counts::default();
        for standing in Standing::ALL {
            let key = (counted.ring.clone(), counted.patch.clone(), site.clone(), standing);
            let pairs = self.tally.pairs.get(&key).copied().unwrap_or(0);
            counts.add(state(Some(standing), counted.is_retracted, true), pairs);
        }
        if counted.is_retracted {
            let key = (counted.ring.clone(), counted.patch.clone(), site.clone());
            counts.add(ComplianceState::Unknown, self.tally.doubtful.get(&key).copied().unwrap_or(0));
            return counts;
        }
        let endpoints = self.endpoints.get(&(counted.ring.clone(), site.clone())).copied().unwrap_or(0);
        let known = self.tally.known.get(&(site.clone(), counted.ring.clone())).copied().unwrap_or(0);
        let said_nothing = known.saturating_sub(counts.pairs);
        counts.add(state(None, false, true), said_nothing);
        counts.add(ComplianceState::Unknown, endpoints.saturating_sub(known));
        counts
    }
}

fn sum(all: impl Iterator<Item = Counts>) -> Counts {
    all.fold(Counts::default(), |mut sum, counts| {
        sum.merge(&counts);
        sum
    })
}

fn to_api(counts: &Counts) -> ComplianceCounts {
    ComplianceCounts {
        endpoints: counts.pairs,
        installed: counts.installed,
        missing: counts.missing,
        failed: counts.failed,
        installed_retracted: counts.installed_retracted,
        rolled_back: counts.rolled_back,
        unknown: counts.unknown,
    }
}

/// What one endpoint said, by patch.
struct Facts {
    known: bool,
    by_patch: BTreeMap<PatchRef, (Standing, u64)>,
}

impl Facts {
    fn of(store: &ComplianceStore, endpoint: &EndpointRecord, known: bool) -> Result<Self, StoreError> {
        let pairs = store.pairs(&endpoint.id)?;
        let by_patch = pairs.into_iter().map(|pair| (pair.patch, (pair.standing, pair.position))).collect();
        Ok(Self { known, by_patch })
    }

    fn row(
        &self,
        store: &ComplianceStore,
        endpoint: &EndpointRecord,
        counted: &Counted,
    ) -> Result<Option<EndpointCompliance>, StoreError> {
        let fact = self.by_patch.get(&counted.patch);
        if counted.is_retracted && fact.is_none() {
            return Ok(None);
        }
        let outcome = fact.map(|(_, position)| store.outcome(*position)).transpose()?.flatten();
        let state = state(fact.map(|(standing, _)| *standing), counted.is_retracted, self.known);
        Ok(Some(row(endpoint, counted, state, outcome)))
    }
}

fn row(
    endpoint: &EndpointRecord,
    counted: &Counted,
    state: ComplianceState,
    outcome: Option<Outcome>,
) -> EndpointCompliance {
    let at = outcome.as_ref().map(|outcome| outcome.received_at);
    let report = outcome.map(|outcome| outcome.report);
    let class = report.as_ref().and_then(|report| report.class).map(|class| name_of(&class));
    let packages =
        |of: Option<&Vec<sluice_compliance::PackageVersion>>| of.into_iter().flatten().map(package).collect();
    EndpointCompliance {
        endpoint: endpoint.id,
        name: endpoint.name.clone(),
        site: endpoint.site.clone(),
        ring: endpoint.ring.clone(),
        patch: counted.patch.clone(),
        state: state.as_str().to_owned(),
        class,
        before: packages(report.as_ref().map(|report| &report.before)),
        after: packages(report.as_ref().map(|report| &report.after)),
        sources: report.iter().flat_map(|report| &report.sources).map(source).collect(),
        duration_ms: report.as_ref().map_or(0, |report| report.duration_ms),
        at,
    }
}

/// How long an endpoint may be silent before nothing is known of it.
pub fn silence_max(app: &App) -> Duration {
    Duration::from_secs(app.settings.reports.silence_secs)
}

/// Whether what the endpoint said is believed at `now`: its chain is whole, and it was heard lately.
pub fn is_known(heard: Option<&Heard>, now: Timestamp, silence_max: Duration) -> bool {
    heard.is_some_and(|heard| heard.broken.is_none() && is_heard(Some(heard.at), now, silence_max))
}

/// A package in its API form.
pub fn package(package: &sluice_compliance::PackageVersion) -> PackageState {
    PackageState { package: package.package.clone(), version: package.version.clone() }
}

/// A source in its API form.
pub fn source(source: &sluice_compliance::ByteSource) -> Source {
    Source { node: source.node, bytes: source.bytes }
}

/// The API name of an outcome or a failure class: the one that its JSON has.
pub fn name_of<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// Whether an outcome is a failed attempt.
pub fn is_failure(outcome: OutcomeKind) -> bool {
    matches!(outcome, OutcomeKind::Failed | OutcomeKind::RollbackFailed)
}

/// Reads the compliance store on the blocking pool.
pub async fn read<T: Send + 'static>(
    app: &App,
    look: impl FnOnce(&ComplianceStore) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    let store = app.compliance.clone();
    let read = tokio::task::spawn_blocking(move || look(&store)).await;
    let read = read.map_err(|error| Failure::broken("reading reports", error))?;
    read.map_err(|error| failure(Arc::new(error)))
}

/// The failure of the compliance store.
pub fn failure(error: Arc<StoreError>) -> Failure {
    if error.is_full() {
        return Failure::refused(ProblemType::Full, "the repo server's disk is full; free space on it and try again");
    }
    if matches!(*error, StoreError::Stopped) {
        return Failure::refused(ProblemType::NotReady, "the repo server is stopping; try again");
    }
    Failure::broken("using the compliance database", error)
}
