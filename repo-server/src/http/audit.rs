//! `/v1/audit`.

use super::{Route, route};
use crate::authorize::Action;
use crate::http::extract::Search;
use crate::operations::Failure;
use crate::state::Shared;
use axum::extract::State;
use serde::Deserialize;
use sluice_api::admin::{AuditEntries, AuditEntry};
use sluice_api::problem::{Problem, ProblemType};
use sluice_repo_store::audit::{self, AuditLine};
use utoipa_axum::routes;

/// Lines of one page unless said otherwise, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

pub(super) fn routes() -> Vec<Route> {
    vec![route(Action::Audit, routes!(list))]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

/// A page of audit lines, oldest first.
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
        who: line.who,
        action: line.action,
        subject: line.subject,
        result: if line.done { "done" } else { "refused" }.to_owned(),
        detail: line.detail,
        hash: hex::encode(line.hash),
    }
}
