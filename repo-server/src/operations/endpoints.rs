//! The list of endpoints, and the revocation of one.

use crate::authorize::Principal;
use crate::operations::fleet_documents::{write_endpoints, write_revoked};
use crate::operations::{Failure, audited, compliance};
use crate::state::App;
use sluice_api::admin::Endpoint;
use sluice_api::problem::ProblemType;
use sluice_model::{EndpointId, EndpointState};
use sluice_repo_store::members::{self, EndpointRecord};
use sluice_repo_store::{Reads, audit};

/// Every endpoint, by site, name and id; revoked ones last.
pub async fn list(app: &App) -> Result<Vec<Endpoint>, Failure> {
    let mut records = app.store.look(|tx| Ok::<_, Failure>(members::endpoints(tx)?)).await?;
    let heard = compliance::read(app, |store| store.all_heard()).await?;
    records.sort_by(|a, b| (a.state, &a.site, &a.name, a.id).cmp(&(b.state, &b.site, &b.name, b.id)));
    let endpoint = |record: EndpointRecord| Endpoint {
        last_report_at: heard.get(&record.id).map(|heard| heard.at),
        id: record.id,
        name: record.name,
        site: record.site,
        ring: record.ring,
        state: match record.state {
            EndpointState::Active => "active".into(),
            EndpointState::Revoked => "revoked".into(),
        },
        enrolled_at: record.enrolled_at,
    };
    Ok(records.into_iter().map(endpoint).collect())
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
