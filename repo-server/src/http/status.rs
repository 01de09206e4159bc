//! `/v1/whoami`, `/v1/status`, and what a device asks before it can verify anything: `/device/v1/bootstrap`.

use super::{Route, route};
use crate::authorize::{Action, Principal};
use crate::operations::Failure;
use crate::state::{App, Shared};
use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use sluice_api::admin::{Status, WhoAmI};
use sluice_model::{MemberKind, Sha256};
use sluice_repo_store::patches;
use utoipa_axum::routes;

pub(super) fn routes() -> Vec<Route> {
    vec![route(Action::Look, routes!(who_am_i)), route(Action::Look, routes!(status))]
}

/// Public: nothing here is believed without a check against the hash in the device's token.
pub(super) fn public_routes() -> Router<Shared> {
    Router::new().route("/device/v1/bootstrap", get(bootstrap))
}

/// Whose token this is.
#[utoipa::path(get, path = "/v1/whoami", tag = "status", responses((status = 200, body = WhoAmI)))]
async fn who_am_i(State(app): State<Shared>, Extension(principal): Extension<Principal>) -> axum::Json<WhoAmI> {
    let served = app.served();
    axum::Json(WhoAmI {
        person: principal.person,
        roles: principal.roles,
        scope: principal.scope.to_string(),
        token: principal.token,
        expires_at: principal.expires_at,
        repository: served.view.repo_id.clone(),
        profile: served.view.profile.as_str().to_owned(),
    })
}

/// The repository at a glance.
#[utoipa::path(get, path = "/v1/status", tag = "status", responses((status = 200, body = Status)))]
async fn status(State(app): State<Shared>) -> Result<axum::Json<Status>, Failure> {
    let served = app.served();
    let nodes = served.roster.members.iter().filter(|member| member.kind == MemberKind::Node);
    let connected = nodes.clone().filter(|member| app.overlay_links.is_up(&member.key)).count();
    Ok(axum::Json(Status {
        repository: served.view.repo_id.clone(),
        profile: served.view.profile.as_str().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        timestamp_version: served.view.timestamp_version,
        issued_at: served.view.issued_at,
        lease_until: served.view.lease_until,
        patches: app.store.read(patches::count)?,
        retractions: served.tombstones.len() as u64,
        sites: served.topology.sites.len() as u64,
        nodes: nodes.count() as u64,
        nodes_connected: connected as u64,
        endpoints: served.endpoints.values().map(|rows| rows.endpoints.len() as u64).sum(),
        root_sha256: root_sha256(&app)?,
    }))
}

async fn bootstrap(State(app): State<Shared>) -> Result<axum::Json<serde_json::Value>, Failure> {
    let served = app.served();
    let key = app.device_key.public();
    let addresses = served.roster.member(&key).map(|member| member.addresses.device.clone()).unwrap_or_default();
    Ok(axum::Json(serde_json::json!({
        "root_sha256": root_sha256(&app)?,
        "origin_key": key,
        "device_addresses": addresses,
    })))
}

/// SHA-256 of the first root: what enrolment tokens name, whatever roots follow.
pub fn root_sha256(app: &App) -> Result<Sha256, Failure> {
    app.root_sha256().ok_or_else(|| Failure::broken("reading the first root", "1.root.json is not stored"))
}
