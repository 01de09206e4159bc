//! `/tuf/log/`: what shows a witness that the audit log was only ever added to, or where it says itself that a restore
//! left a gap. On both listeners.

use crate::http::extract::Search;
use crate::operations::Failure;
use crate::state::Shared;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Deserialize;
use sluice_api::audit::{LOG_CONSISTENCY_PATH, LOG_GAP_PATH, LogConsistency, LogGap};
use sluice_api::problem::ProblemType;
use sluice_repo_store::audit;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route(LOG_CONSISTENCY_PATH, get(consistency)).route(LOG_GAP_PATH, get(gap))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sizes {
    from: u64,
    to: u64,
}

/// Public: hashes tell nothing but that they fit. Costs some dozen reads of nodes, whatever the sizes.
async fn consistency(
    State(app): State<Shared>,
    Search(sizes): Search<Sizes>,
) -> Result<axum::Json<LogConsistency>, Failure> {
    let Sizes { from, to } = sizes;
    let hashes = app.store.look(move |tx| Ok::<_, Failure>(audit::consistency(tx, from, to)?)).await?;
    let hashes = hashes.ok_or_else(|| {
        let detail =
            format!("the audit log never had {to} entries, or {from} are more; ask for sizes that were signed");
        Failure::refused(ProblemType::NotFound, detail)
    })?;
    Ok(axum::Json(LogConsistency { hashes }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    seen: u64,
    to: u64,
}

/// Public as the proofs: that the server was restored is no secret.
async fn gap(State(app): State<Shared>, Search(asked): Search<Seen>) -> Result<axum::Json<LogGap>, Failure> {
    let Seen { seen, to } = asked;
    let mark = app.store.look(move |tx| Ok::<_, Failure>(audit::gap_mark(tx, seen, to)?)).await?;
    let audit::GapMark { seq, leaf, proof: hashes } = mark.ok_or_else(|| {
        let detail = format!("no entry among the first {to} says that the entries up to {seen} were lost by a restore");
        Failure::refused(ProblemType::NotFound, detail)
    })?;
    Ok(axum::Json(LogGap { seq, leaf, hashes }))
}
