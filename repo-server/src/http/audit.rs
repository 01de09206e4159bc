//! `/v1/audit`: lines for people, and the whole log for those who verify it elsewhere.

use super::{Route, route};
use crate::authorize::{Action, Principal};
use crate::http::extract::Search;
use crate::operations::{Failure, audit_export};
use crate::state::Shared;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::IntoResponse;
use serde::Deserialize;
use sluice_api::admin::{AuditEntries, AuditEntry};
use sluice_api::problem::{Problem, ProblemType};
use sluice_repo_store::audit::{self, AuditLine};
use utoipa_axum::routes;

/// Lines of one page unless said otherwise, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

pub(super) fn routes() -> Vec<Route> {
    vec![route(Action::Audit, routes!(list)), route(Action::Audit, routes!(export))]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

/// A page of what was done or refused, oldest first. Places of the log between them are of signed metadata files.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit",
    params(
        ("after" = Option<u64>, Query, description = "`next` of the page before"),
        ("limit" = Option<usize>, Query, description = "1 to 1,000; 100 unless said otherwise")
    ),
    responses((status = 200, body = AuditEntries), (status = 422, body = Problem))
)]
async fn list(State(app): State<Shared>, Search(query): Search<Query>) -> Result<axum::Json<AuditEntries>, Failure> {
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Failure::refused(ProblemType::Invalid, format!("limit must be 1 to {LIMIT_MAX}")));
    }
    let mut lines = app.store.look(move |tx| Ok::<_, Failure>(audit::list(tx, query.after, limit + 1)?)).await?;
    let next = (lines.len() > limit).then(|| lines[limit - 1].seq);
    lines.truncate(limit);
    Ok(axum::Json(AuditEntries { entries: lines.into_iter().map(entry).collect(), next }))
}

fn entry(line: AuditLine) -> AuditEntry {
    AuditEntry {
        seq: line.seq,
        at: line.at,
        who: line.act.who,
        action: line.act.action,
        subject: line.act.subject,
        result: if line.act.done { "done" } else { "refused" }.to_owned(),
        detail: line.act.detail,
        hash: line.hash.to_hex(),
    }
}

/// The whole log with its signed heads, for `sluice audit verify`. A new timestamp is signed over it first.
#[utoipa::path(
    get, path = "/v1/audit/export", tag = "audit",
    responses((status = 200, description = "One line for each entry", content_type = "text/plain"))
)]
async fn export(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<impl IntoResponse, Failure> {
    let lines = audit_export::run(&app, &principal).await?;
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"audit.log\""),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(lines)))
}
