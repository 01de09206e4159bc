//! `/v1/outcomes`: every report that counts, in the order in which it came.

use super::{Route, route};
use crate::authorize::Action;
use crate::http::extract::Search;
use crate::operations::{Failure, compliance, endpoints};
use crate::state::Shared;
use axum::extract::State;
use serde::Deserialize;
use sluice_api::admin::{Outcome, Outcomes};
use sluice_api::problem::{Problem, ProblemType};
use sluice_compliance_store::{Outcome as Stored, OutcomeFilter};
use sluice_model::{EndpointId, PatchRef, SiteName};
use sluice_repo_store::members;
use std::collections::HashMap;
use utoipa_axum::routes;

/// Reports of one page unless said otherwise, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

pub(super) fn routes() -> Vec<Route> {
    vec![route(Action::Look, routes!(list))]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    endpoint: Option<EndpointId>,
    patch: Option<PatchRef>,
    site: Option<SiteName>,
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

/// A page of outcome reports, oldest first.
#[utoipa::path(
    get, path = "/v1/outcomes", tag = "outcomes",
    params(
        ("endpoint" = Option<String>, Query, description = "Id of an endpoint"),
        ("patch" = Option<String>, Query, description = "NAME/VERSION"),
        ("site" = Option<String>, Query),
        ("after" = Option<u64>, Query, description = "`next` of the page before"),
        ("limit" = Option<usize>, Query, description = "1 to 1,000; 100 unless said otherwise")
    ),
    responses((status = 200, body = Outcomes), (status = 422, body = Problem))
)]
async fn list(State(app): State<Shared>, Search(query): Search<Query>) -> Result<axum::Json<Outcomes>, Failure> {
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Failure::refused(ProblemType::Invalid, format!("limit must be 1 to {LIMIT_MAX}")));
    }
    let Query { endpoint, patch, site, after, .. } = query;
    let quarantined = match after {
        0 => {
            let site = site.clone();
            endpoints::quarantined(&app, move |record| {
                endpoint.is_none_or(|id| id == record.id) && site.as_ref().is_none_or(|site| *site == record.site)
            })
            .await?
        }
        _ => Vec::new(),
    };
    let filter = OutcomeFilter { endpoint, patch, site, after, limit };
    let page = compliance::read(&app, move |store| store.outcomes(&filter)).await?;
    let ids: Vec<EndpointId> = page.outcomes.iter().map(|outcome| outcome.report.endpoint).collect();
    let names = app.store.look(move |tx| {
        let mut names = HashMap::new();
        for id in ids {
            if let Some(endpoint) = members::endpoint(tx, &id)? {
                names.insert(id, endpoint.name);
            }
        }
        Ok::<_, Failure>(names)
    });
    let names = names.await?;
    let outcomes = page.outcomes.into_iter().map(|outcome| to_api(outcome, &names)).collect();
    Ok(axum::Json(Outcomes { outcomes, next: page.next, quarantined }))
}

fn to_api(stored: Stored, names: &HashMap<EndpointId, String>) -> Outcome {
    let report = stored.report;
    Outcome {
        position: stored.position,
        endpoint: report.endpoint,
        endpoint_name: names.get(&report.endpoint).cloned().unwrap_or_default(),
        site: stored.site,
        ring: stored.ring,
        epoch: report.epoch,
        seq: report.seq,
        patch: report.patch,
        outcome: compliance::name_of(&report.outcome),
        class: report.class.map(|class| compliance::name_of(&class)),
        detail: report.detail,
        before: report.before.iter().map(compliance::package).collect(),
        after: report.after.iter().map(compliance::package).collect(),
        sources: report.sources.iter().map(compliance::source).collect(),
        duration_ms: report.duration_ms,
        device_time: report.device_time,
        received_at: stored.received_at,
    }
}
