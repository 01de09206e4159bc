//! Adds sites and changes their limits: records, topology, limits and endpoint list in one signed commit.

use crate::authorize::Principal;
use crate::clock;
use crate::draft::Draft;
use crate::operations::fleet_documents::{write_endpoints, write_sites};
use crate::operations::{Failure, audited};
use crate::state::App;
use sluice_api::admin::{NewSite, NewSiteLimits, Schedule, Site};
use sluice_api::problem::ProblemType;
use sluice_model::{EndpointState, RingName, SCHEDULE_WINDOWS_MAX, SiteName, SiteSchedule, WindowCap};
use sluice_pacing::{WanCalendar, check_zone};
use sluice_repo_store::sites::{self, SiteRecord};
use sluice_repo_store::{Reads, audit, schedules};

/// Networks of one site at most: a large campus has some hundred.
const BOUNDARIES_MAX: usize = 1_000;
/// Sites at most: each has a document in the fleet role, which lists at most 1,500 targets.
const SITES_MAX: usize = 1_000;

/// Adds a site. Devices can be enrolled into it once this has answered.
pub async fn add(app: &App, principal: &Principal, new: NewSite) -> Result<Site, Failure> {
    if new.boundaries.is_empty() || new.boundaries.len() > BOUNDARIES_MAX {
        let detail = format!("a site needs 1 to {BOUNDARIES_MAX} networks; this one has {}", new.boundaries.len());
        return Err(Failure::refused(ProblemType::Invalid, detail));
    }
    let who = principal.person.clone();
    let record = app
        .authority
        .change(move |draft, tx| {
            check_rings(draft, &new.limits)?;
            let known = sites::list(tx)?;
            check_free(&known, &new)?;
            let record = SiteRecord {
                name: new.name,
                boundaries: new.boundaries.iter().map(|network| network.trunc()).collect(),
                wan_bytes_per_sec: new.limits.wan_bytes_per_sec,
                serve_bytes_per_sec: new.limits.serve_bytes_per_sec,
                plain_rings: new.limits.plain_rings,
                added_at: draft.now(),
            };
            sites::put(tx, &record)?;
            write_sites(draft, tx)?;
            write_endpoints(draft, tx, &record.name)?;
            audit::append(tx, audited::done(who, "site.add", &record.name, describe(&record)))?;
            Ok(record)
        })
        .await?;
    Ok(to_api(app, record))
}

/// Replaces the limits of a site. Nodes follow when they have the new metadata.
pub async fn set_limits(app: &App, principal: &Principal, site: SiteName, new: NewSiteLimits) -> Result<Site, Failure> {
    let who = principal.person.clone();
    let record = app
        .authority
        .change(move |draft, tx| {
            check_rings(draft, &new)?;
            let mut record = find(tx, &site)?;
            let before = record.clone();
            record.wan_bytes_per_sec = new.wan_bytes_per_sec;
            record.serve_bytes_per_sec = new.serve_bytes_per_sec;
            record.plain_rings = new.plain_rings;
            if record != before {
                sites::put(tx, &record)?;
                write_sites(draft, tx)?;
                audit::append(tx, audited::done(who, "site.limits", &site, describe(&record)))?;
            }
            Ok(record)
        })
        .await?;
    Ok(to_api(app, record))
}

/// Replaces the schedule of a site; one without windows removes it.
pub async fn set_schedule(app: &App, principal: &Principal, site: SiteName, new: Schedule) -> Result<Site, Failure> {
    if new.windows.len() > SCHEDULE_WINDOWS_MAX {
        let detail =
            format!("a schedule has at most {SCHEDULE_WINDOWS_MAX} windows; this one has {}", new.windows.len());
        return Err(Failure::refused(ProblemType::Invalid, detail));
    }
    check_zone(&new.zone).map_err(|error| Failure::refused(ProblemType::Invalid, error.to_string()))?;
    let schedule = SiteSchedule { zone: new.zone, windows: new.windows };
    let who = principal.person.clone();
    let record = app
        .authority
        .change(move |draft, tx| {
            let record = find(tx, &site)?;
            let new = Some(schedule).filter(|schedule| !schedule.windows.is_empty());
            if schedules::get(tx, &site)? != new {
                schedules::put(tx, &site, new.as_ref())?;
                write_sites(draft, tx)?;
                audit::append(tx, audited::done(who, "site.schedule", &site, describe_schedule(new.as_ref())))?;
            }
            Ok(record)
        })
        .await?;
    Ok(to_api(app, record))
}

/// Every site with what its link carried.
pub async fn list(app: &App) -> Result<Vec<Site>, Failure> {
    let records = app.store.look(|tx| Ok::<_, Failure>(sites::list(tx)?)).await?;
    Ok(records.into_iter().map(|record| to_api(app, record)).collect())
}

/// The site, or the problem that says which there are.
pub fn find(tx: &impl Reads, site: &SiteName) -> Result<SiteRecord, Failure> {
    if let Some(record) = sites::get(tx, site)? {
        return Ok(record);
    }
    let known: Vec<String> = sites::list(tx)?.into_iter().map(|site| site.name.to_string()).collect();
    let known = if known.is_empty() { "no site yet; `sluice site add` adds one".into() } else { known.join(", ") };
    Err(Failure::refused(ProblemType::NotFound, format!("there is no site {site}; there is {known}")))
}

/// Refuses a ring that the repository does not have.
pub fn check_ring(draft: &Draft, ring: &RingName) -> Result<(), Failure> {
    let rings = &draft.served().view.rings;
    if rings.contains(ring) {
        return Ok(());
    }
    let known = rings.iter().map(RingName::as_str).collect::<Vec<_>>().join(", ");
    Err(Failure::refused(ProblemType::Invalid, format!("there is no ring {ring}; the rings are {known}")))
}

fn check_rings(draft: &Draft, limits: &NewSiteLimits) -> Result<(), Failure> {
    limits.plain_rings.iter().flatten().try_for_each(|ring| check_ring(draft, ring))
}

fn check_free(known: &[SiteRecord], new: &NewSite) -> Result<(), Failure> {
    if known.iter().any(|site| site.name == new.name) {
        let detail =
            format!("site {} exists already; change its limits with PUT /v1/sites/{}/limits", new.name, new.name);
        return Err(Failure::refused(ProblemType::Conflict, detail));
    }
    if known.len() >= SITES_MAX {
        return Err(Failure::refused(ProblemType::Full, format!("there are {SITES_MAX} sites already")));
    }
    Ok(())
}

fn describe(site: &SiteRecord) -> String {
    let networks = site.boundaries.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let cap = |rate: Option<sluice_model::ByteRate>| rate.map_or("no cap".into(), |rate| rate.to_string());
    format!("networks {networks}; WAN {}, serving {}", cap(site.wan_bytes_per_sec), cap(site.serve_bytes_per_sec))
}

fn describe_schedule(schedule: Option<&SiteSchedule>) -> String {
    let Some(schedule) = schedule else { return "no windows: the cap holds at all times".into() };
    let windows: Vec<String> = schedule.windows.iter().map(ToString::to_string).collect();
    format!("{}: {}", schedule.zone, windows.join("; "))
}

fn to_api(app: &App, record: SiteRecord) -> Site {
    let served = app.served();
    let counts = app.sites.of(Some(&record.name)).counts();
    let active = |rows: &sluice_model::EndpointRows| {
        rows.endpoints.iter().filter(|row| row.state == EndpointState::Active).count() as u64
    };
    let schedule = served.limits.schedules.get(&record.name);
    let now = WanCalendar::new(record.wan_bytes_per_sec, schedule).at(clock::timestamp());
    Site {
        schedule: schedule.map(|schedule| Schedule { zone: schedule.zone.clone(), windows: schedule.windows.clone() }),
        wan_now: Some(match now.bytes_per_sec {
            _ if now.is_closed => WindowCap::Closed,
            Some(rate) => WindowCap::Rate(rate),
            None => WindowCap::Uncapped,
        }),
        nodes: served.roster.nodes_of(&record.name).count() as u64,
        endpoints: served.endpoints.get(&record.name).map_or(0, |rows| active(rows)),
        name: record.name,
        boundaries: record.boundaries,
        wan_bytes_per_sec: record.wan_bytes_per_sec,
        serve_bytes_per_sec: record.serve_bytes_per_sec,
        origin_bytes: counts.origin_bytes,
        distinct_bytes: counts.distinct_bytes,
        metadata_bytes: counts.metadata_bytes,
        wan_peak_bytes_per_sec: counts.wan_peak_bytes_per_sec,
    }
}
