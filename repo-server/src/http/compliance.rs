//! `/v1/compliance/...`: the same rows as JSON or, for `Accept: text/csv`, as CSV.

use super::{Route, route};
use crate::authorize::Action;
use crate::http::csv_table::CsvTable;
use crate::http::extract::Search;
use crate::operations::Failure;
use crate::operations::compliance::{self, PairFilter};
use crate::state::Shared;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sluice_api::admin::{
    ComplianceByEndpoint, ComplianceByPatch, ComplianceBySite, ComplianceCounts, PackageState, Source,
};
use sluice_api::problem::Problem;
use sluice_model::{EndpointId, PatchRef, SiteName};
use utoipa_axum::routes;

const COUNT_COLUMNS: [&str; 7] =
    ["endpoints", "installed", "missing", "failed", "installed_retracted", "rolled_back", "unknown"];

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Action::Look, routes!(by_patch)),
        route(Action::Look, routes!(by_site)),
        route(Action::Look, routes!(by_endpoint)),
    ]
}

/// Endpoints by compliance state, for each patch in each ring.
#[utoipa::path(
    get, path = "/v1/compliance/patches", tag = "compliance",
    responses((status = 200, body = ComplianceByPatch, description = "`Accept: text/csv` gives CSV"))
)]
async fn by_patch(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Failure> {
    let answer = compliance::by_patch(&app).await?;
    let columns = ["as_of", "patch", "ring", "severity", "state"].into_iter().chain(COUNT_COLUMNS);
    answer_as(&headers, &answer, columns, |table, answer| {
        for row in &answer.rows {
            let head = [&answer.as_of as &dyn ToString, &row.patch, &row.ring, &row.severity, &row.state];
            table.row(head.into_iter().map(|cell| cell.to_string()).chain(counts(&row.counts)));
        }
    })
}

/// Endpoint and patch pairs by compliance state, for each site.
#[utoipa::path(
    get, path = "/v1/compliance/sites", tag = "compliance",
    responses((status = 200, body = ComplianceBySite, description = "`Accept: text/csv` gives CSV"))
)]
async fn by_site(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Failure> {
    let answer = compliance::by_site(&app).await?;
    answer_as(&headers, &answer, ["as_of", "site"].into_iter().chain(COUNT_COLUMNS), |table, answer| {
        for row in &answer.rows {
            table.row([answer.as_of.to_string(), row.site.to_string()].into_iter().chain(counts(&row.counts)));
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    endpoint: Option<EndpointId>,
    patch: Option<PatchRef>,
    site: Option<SiteName>,
}

/// Pair by pair: the rows behind the counts.
#[utoipa::path(
    get, path = "/v1/compliance/endpoints", tag = "compliance",
    params(
        ("endpoint" = Option<String>, Query, description = "Id of an endpoint"),
        ("patch" = Option<String>, Query, description = "NAME/VERSION"),
        ("site" = Option<String>, Query)
    ),
    responses(
        (status = 200, body = ComplianceByEndpoint, description = "`Accept: text/csv` gives CSV"),
        (status = 413, description = "More rows than one answer holds; narrow it down", body = Problem),
        (status = 422, body = Problem)
    )
)]
async fn by_endpoint(
    State(app): State<Shared>,
    headers: HeaderMap,
    Search(query): Search<Query>,
) -> Result<Response, Failure> {
    let filter = PairFilter { endpoint: query.endpoint, patch: query.patch, site: query.site };
    let answer = compliance::by_endpoint(&app, filter).await?;
    let columns = [
        "as_of", "endpoint", "name", "site", "ring", "patch", "state", "class", "before", "after", "sources",
        "seconds", "at",
    ];
    answer_as(&headers, &answer, columns.into_iter(), |table, answer| {
        for row in &answer.rows {
            table.row([
                answer.as_of.to_string(),
                row.endpoint.to_string(),
                row.name.clone(),
                row.site.to_string(),
                row.ring.to_string(),
                row.patch.to_string(),
                row.state.clone(),
                row.class.clone().unwrap_or_default(),
                packages(&row.before),
                packages(&row.after),
                sources(&row.sources),
                format!("{}.{:03}", row.duration_ms / 1_000, row.duration_ms % 1_000),
                row.at.map(|at| at.to_string()).unwrap_or_default(),
            ]);
        }
    })
}

fn answer_as<'a, T: Serialize>(
    headers: &HeaderMap,
    answer: &T,
    columns: impl Iterator<Item = &'a str>,
    fill: impl FnOnce(&mut CsvTable, &T),
) -> Result<Response, Failure> {
    if !wants_csv(headers) {
        return Ok(axum::Json(answer).into_response());
    }
    let mut table = CsvTable::new(columns);
    fill(&mut table, answer);
    Ok(table.into_response())
}

/// Whether CSV stands before JSON in what the client accepts.
fn wants_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let types = accept.split(',').filter_map(|one| one.split(';').next()).map(str::trim);
    types.into_iter().find(|one| matches!(*one, "text/csv" | "application/json" | "*/*")) == Some("text/csv")
}

fn counts(counts: &ComplianceCounts) -> [String; 7] {
    [
        counts.endpoints,
        counts.installed,
        counts.missing,
        counts.failed,
        counts.installed_retracted,
        counts.rolled_back,
        counts.unknown,
    ]
    .map(|count| count.to_string())
}

/// `name=version`, with `-` for a package that is not installed.
fn packages(packages: &[PackageState]) -> String {
    let one = |package: &PackageState| format!("{}={}", package.package, package.version.as_deref().unwrap_or("-"));
    packages.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// `node=bytes`, the node by the first eight characters of its key.
fn sources(sources: &[Source]) -> String {
    sources.iter().map(|source| format!("{}={}", source.node.short(), source.bytes)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_sent_to_who_names_it_before_json() {
        let headers = |accept: &'static str| HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
        for accept in ["text/csv", "text/csv;q=1, application/json", "text/html, text/csv, */*"] {
            assert!(wants_csv(&headers(accept)), "{accept}");
        }
        for accept in ["", "*/*", "application/json, text/csv", "text/html"] {
            assert!(!wants_csv(&headers(accept)), "{accept}");
        }
        assert!(!wants_csv(&HeaderMap::new()));
    }
}
