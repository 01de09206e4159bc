//! The list of endpoints, and the revocation of one.

use crate::authorize::Principal;
use crate::clock;
use crate::operations::fleet_documents::{write_endpoints, write_revoked};
use crate::operations::{Failure, audited, compliance, quarantine};
use crate::state::App;
use sluice_api::admin::{Endpoint, QuarantinedEndpoint};
use sluice_api::problem::ProblemType;
use sluice_compliance::is_heard;
use sluice_compliance_store::{ChainState, ComplianceStore, Heard, Quarantine, StoreError};
use sluice_model::{EndpointId, EndpointState};
use sluice_repo_store::members::{self, EndpointRecord};
use sluice_repo_store::{Reads, audit};
use std::collections::BTreeMap;

/// Endpoints in quarantine that one answer names: more than anybody reads.
const QUARANTINED_MAX: usize = 100;

/// Every endpoint, by site, name and id; revoked ones last.
pub async fn list(app: &App) -> Result<Vec<Endpoint>, Failure> {
    let mut records = app.store.look(known).await?;
    let reported = compliance::read(app, Reported::of).await?;
    let (now, silence_max) = (clock::timestamp(), compliance::silence_max(app));
    records.sort_by(|(a, _), (b, _)| (a.state, &a.site, &a.name, a.id).cmp(&(b.state, &b.site, &b.name, b.id)));
    let endpoint = |(record, epoch): (EndpointRecord, u32)| {
        let heard = reported.heard.get(&record.id);
        let chain = reported.chains.get(&record.id).filter(|(of, _)| *of == epoch).map(|(_, chain)| *chain);
        let chain = chain.unwrap_or_default();
        let broken = reported.quarantined.get(&(record.id, epoch));
        let broken = broken.filter(|_| record.state == EndpointState::Active);
        Endpoint {
            last_report_at: heard.map(|heard| heard.at),
            is_silent: !is_heard(heard.map(|heard| heard.at), now, silence_max),
            epoch,
            reports: chain.head_seq,
            waiting_reports: chain.held_count,
            state: match record.state {
                EndpointState::Revoked => "revoked".into(),
                EndpointState::Active if broken.is_some() => "quarantined".into(),
                EndpointState::Active => "active".into(),
            },
            quarantine: broken.map(|broken| quarantine::to_api(broken, &record)),
            id: record.id,
            name: record.name,
            site: record.site,
            ring: record.ring,
            enrolled_at: record.enrolled_at,
        }
    };
    Ok(records.into_iter().map(endpoint).collect())
}

/// Every endpoint with the epoch of its newest enrolment.
fn known(tx: &impl Reads) -> Result<Vec<(EndpointRecord, u32)>, Failure> {
    let epochs = members::epochs(tx)?;
    let epoch = |record: EndpointRecord| {
        let epoch = epochs.get(&record.id).copied().unwrap_or(1);
        (record, epoch)
    };
    Ok(members::endpoints(tx)?.into_iter().map(epoch).collect())
}

/// What endpoints said of themselves.
struct Reported {
    heard: BTreeMap<EndpointId, Heard>,
    chains: BTreeMap<EndpointId, (u32, ChainState)>,
    quarantined: BTreeMap<(EndpointId, u32), Quarantine>,
}

impl Reported {
    fn of(store: &ComplianceStore) -> Result<Self, StoreError> {
        let quarantined = store.quarantined()?;
        Ok(Self {
            heard: store.all_heard()?,
            chains: store.chains()?,
            quarantined: quarantined.into_iter().map(|one| ((one.endpoint, one.epoch), one)).collect(),
        })
    }
}

/// Endpoints in quarantine that `wanted` asks for, by name.
pub async fn quarantined(
    app: &App,
    wanted: impl Fn(&EndpointRecord) -> bool,
) -> Result<Vec<QuarantinedEndpoint>, Failure> {
    let found = compliance::read(app, |store| store.quarantined()).await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let records = app.store.look(known).await?;
    let records: BTreeMap<(EndpointId, u32), EndpointRecord> =
        records.into_iter().map(|(record, epoch)| ((record.id, epoch), record)).collect();
    let row = |one: &Quarantine| {
        let record = records.get(&(one.endpoint, one.epoch))?;
        let is_shown = record.state == EndpointState::Active && wanted(record);
        is_shown.then(|| QuarantinedEndpoint {
            endpoint: record.id,
            endpoint_name: record.name.clone(),
            quarantine: quarantine::to_api(one, record),
        })
    };
    let mut rows: Vec<QuarantinedEndpoint> = found.iter().filter_map(row).collect();
    rows.sort_by(|a, b| (&a.endpoint_name, a.endpoint).cmp(&(&b.endpoint_name, b.endpoint)));
    rows.truncate(QUARANTINED_MAX);
    Ok(rows)
}

/// The endpoint, or the problem that there is none.
pub fn find(tx: &impl Reads, id: &EndpointId) -> Result<EndpointRecord, Failure> {
    members::endpoint(tx, id)?.ok_or_else(|| {
        Failure::refused(ProblemType::NotFound, format!("there is no endpoint {id}; `sluice endpoints` lists them"))
    })
}

/// Revokes an endpoint: its reports are refused and its agent's rights end; it leaves every count.
pub async fn revoke(app: &App, principal: &Principal, id: EndpointId) -> Result<(), Failure> {
    let who = principal.person.clone();
    app.authority
        .change(move |draft, tx| {
            let mut endpoint = find(tx, &id)?;
            if endpoint.state == EndpointState::Revoked {
                return Ok(());
            }
            endpoint.state = EndpointState::Revoked;
            members::put_endpoint(tx, &endpoint)?;
            let detail = format!("{} at site {}, ring {}", endpoint.name, endpoint.site, endpoint.ring);
            audit::append(tx, audited::done(who, "endpoint.revoke", id, detail))?;
            write_endpoints(draft, tx, &endpoint.site)?;
            write_revoked(draft, tx, &members::nodes(tx)?)
        })
        .await?;
    app.compliance.forget(id).await.map_err(compliance::failure)
}
