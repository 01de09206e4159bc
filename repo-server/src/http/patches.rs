//! `/v1/patches`: publish, approve, list, show.

use super::{Route, narrow_route, route};
use crate::authorize::{Action, Principal};
use crate::http::extract::{Json, Params};
use crate::operations::{Failure, approve, publish};
use crate::state::Shared;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use sluice_api::admin::{Artifact, NewApproval, NewPatch, Patch, Patches, RingApproval};
use sluice_api::problem::Problem;
use sluice_model::{PatchName, PatchRef, PatchVersion, RingName};
use sluice_repo_store::patches::{self, PatchRecord};
use sluice_repo_store::{Reads, StoreError, proposals};
use std::collections::BTreeMap;
use utoipa_axum::routes;

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Action::Publish, routes!(publish_patch)),
        route(Action::Look, routes!(list)),
        route(Action::Look, routes!(show)),
        narrow_route(Action::Approve, routes!(approve_patch)),
    ]
}

/// Creates a patch of finished uploads. The same content again is the same patch.
#[utoipa::path(
    post, path = "/v1/patches", tag = "patches", request_body = NewPatch,
    responses(
        (status = 201, description = "Published as a draft; nobody gets it before an approval", body = Patch),
        (status = 409, description = "The version exists with other content, was retracted, or an upload is not complete", body = Problem),
        (status = 422, description = "Wrong digest, not a package, or a value breaks a rule", body = Problem)
    )
)]
async fn publish_patch(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Json(new): Json<NewPatch>,
) -> Result<(StatusCode, axum::Json<Patch>), Failure> {
    let record = publish::run(&app, &principal, new).await?;
    let context = app.store.look(|tx| Ok::<_, Failure>(Context::read(tx, &patches::list(tx)?)?)).await?;
    Ok((StatusCode::CREATED, axum::Json(to_api(record, &context))))
}

/// Every patch, newest first.
#[utoipa::path(get, path = "/v1/patches", tag = "patches", responses((status = 200, body = Patches)))]
async fn list(State(app): State<Shared>) -> Result<axum::Json<Patches>, Failure> {
    let (mut records, context) = records(&app).await?;
    records.sort_by(|a, b| b.published_at.cmp(&a.published_at).then_with(|| a.patch.cmp(&b.patch)));
    Ok(axum::Json(Patches { patches: records.into_iter().map(|record| to_api(record, &context)).collect() }))
}

/// One patch.
#[utoipa::path(
    get, path = "/v1/patches/{name}/{version}", tag = "patches",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = Patch), (status = 404, body = Problem))
)]
async fn show(
    State(app): State<Shared>,
    Params((name, version)): Params<(PatchName, PatchVersion)>,
) -> Result<axum::Json<Patch>, Failure> {
    let wanted = PatchRef { name, version };
    let (records, context) = records(&app).await?;
    let found = records.into_iter().find(|record| record.patch == wanted);
    Ok(axum::Json(to_api(found.ok_or_else(|| approve::no_such_patch(&wanted))?, &context)))
}

/// Approves a patch into a ring. Who published it cannot.
#[utoipa::path(
    post, path = "/v1/patches/{name}/{version}/approvals", tag = "patches",
    params(("name" = String, Path), ("version" = String, Path)), request_body = NewApproval,
    responses(
        (status = 200, description = "Signed and served", body = Patch),
        (status = 403, description = "The publisher cannot approve", body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)
    )
)]
async fn approve_patch(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params((name, version)): Params<(PatchName, PatchVersion)>,
    Json(approval): Json<NewApproval>,
) -> Result<axum::Json<Patch>, Failure> {
    let record = approve::run(&app, &principal, PatchRef { name, version }, approval.ring).await?;
    let (_, context) = records(&app).await?;
    Ok(axum::Json(to_api(record, &context)))
}

/// As the API shows it now.
pub(super) async fn shown(app: &Shared, record: PatchRecord) -> Result<Patch, Failure> {
    let (_, context) = records(app).await?;
    Ok(to_api(record, &context))
}

/// What a patch looks like depends on these, too.
struct Context {
    newest: Newest,
    /// Rings whose approvers have still to sign a patch.
    proposed: Vec<(PatchRef, RingName)>,
}

impl Context {
    fn read(tx: &impl Reads, records: &[PatchRecord]) -> Result<Self, StoreError> {
        let rings = proposals::list(tx)?;
        let proposed = rings
            .into_iter()
            .flat_map(|known| known.patches.into_iter().map(move |proposed| (proposed.patch, known.ring.clone())));
        Ok(Self { newest: newest_by_ring(records), proposed: proposed.collect() })
    }
}

async fn records(app: &Shared) -> Result<(Vec<PatchRecord>, Context), Failure> {
    let both = |tx: &sluice_repo_store::ReadTx| -> Result<_, Failure> {
        let records = patches::list(tx)?;
        let context = Context::read(tx, &records)?;
        Ok((records, context))
    };
    app.store.look(both).await
}

type Newest = BTreeMap<(PatchName, String), u64>;

/// The highest live serial of each patch name in each ring: what that ring offers.
fn newest_by_ring(records: &[PatchRecord]) -> Newest {
    let mut newest = Newest::new();
    for record in records.iter().filter(|record| record.retraction.is_none()) {
        for approval in &record.approvals {
            let serial = newest.entry((record.patch.name.clone(), approval.ring.to_string())).or_default();
            *serial = approval.serial.max(*serial);
        }
    }
    newest
}

fn state_of(record: &PatchRecord, newest: &Newest) -> &'static str {
    let is_offered = |approval: &sluice_repo_store::patches::ApprovalRecord| {
        newest.get(&(record.patch.name.clone(), approval.ring.to_string())) == Some(&approval.serial)
    };
    match record {
        PatchRecord { retraction: Some(_), .. } => "retracted",
        PatchRecord { approvals, .. } if approvals.is_empty() => "draft",
        PatchRecord { approvals, .. } if approvals.iter().any(is_offered) => "released",
        _ => "superseded",
    }
}

fn to_api(record: PatchRecord, context: &Context) -> Patch {
    let state = state_of(&record, &context.newest).to_owned();
    let proposed = context.proposed.iter().filter(|(patch, _)| *patch == record.patch);
    let proposed_into = proposed.map(|(_, ring)| ring.clone()).collect();
    Patch {
        name: record.patch.name,
        version: record.patch.version,
        state,
        severity: record.severity,
        cves: record.cves,
        supersedes: record.supersedes,
        published_by: record.published_by,
        published_at: record.published_at,
        artifacts: record.artifacts.into_iter().map(artifact).collect(),
        approvals: record.approvals.into_iter().map(approval).collect(),
        proposed_into,
        retraction: record.retraction,
    }
}

fn artifact(record: patches::ArtifactRecord) -> Artifact {
    Artifact {
        file_name: record.file_name,
        length: record.length,
        sha256: record.sha256,
        blake3: record.blake3,
        chunks: record.chunk_count,
        package: record.package.to_string(),
        package_version: record.package_version,
        architecture: record.architecture,
    }
}

fn approval(record: patches::ApprovalRecord) -> RingApproval {
    RingApproval { ring: record.ring, by: record.by, at: record.at, release_version: record.release_version }
}
