//! `/v1/sites` and `/v1/rings`.

use super::{Route, narrow_route, route};
use crate::authorize::{Action, Principal, Resource, authorize};
use crate::http::extract::{Json, Params};
use crate::operations::{Failure, calendar, sites};
use crate::state::Shared;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use sluice_api::admin::{NewSite, NewSiteLimits, Ring, Rings, Schedule, Site, Sites};
use sluice_api::problem::Problem;
use sluice_model::{EndpointState, SiteName};
use std::collections::BTreeSet;
use utoipa_axum::routes;

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Action::Look, routes!(list)),
        route(Action::Administer, routes!(add)),
        narrow_route(Action::Administer, routes!(set_limits)),
        narrow_route(Action::Administer, routes!(set_schedule)),
        route(Action::Look, routes!(rings)),
    ]
}

/// Every site, with what its link carried since this server started.
#[utoipa::path(get, path = "/v1/sites", tag = "sites", responses((status = 200, body = Sites)))]
async fn list(State(app): State<Shared>) -> Result<axum::Json<Sites>, Failure> {
    Ok(axum::Json(Sites { sites: sites::list(&app).await? }))
}

/// Adds a site with its networks and limits.
#[utoipa::path(
    post, path = "/v1/sites", tag = "sites", request_body = NewSite,
    responses(
        (status = 201, description = "Signed and served", body = Site),
        (status = 409, description = "The name is taken", body = Problem),
        (status = 422, body = Problem), (status = 507, body = Problem)
    )
)]
async fn add(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Json(new): Json<NewSite>,
) -> Result<(StatusCode, axum::Json<Site>), Failure> {
    Ok((StatusCode::CREATED, axum::Json(sites::add(&app, &principal, new).await?)))
}

/// Replaces the limits of a site: what is left out is no cap.
#[utoipa::path(
    put, path = "/v1/sites/{site}/limits", tag = "sites",
    params(("site" = String, Path)), request_body = NewSiteLimits,
    responses(
        (status = 200, description = "Signed and served; nodes follow at once", body = Site),
        (status = 404, body = Problem), (status = 422, body = Problem)
    )
)]
async fn set_limits(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(site): Params<SiteName>,
    Json(new): Json<NewSiteLimits>,
) -> Result<axum::Json<Site>, Failure> {
    authorize(&principal, Action::Administer, Resource::Reach { site: Some(&site), ring: None })?;
    Ok(axum::Json(sites::set_limits(&app, &principal, site, new).await?))
}

/// Replaces when the WAN link of a site may be used otherwise than its cap says; without windows the cap holds at all times.
#[utoipa::path(
    put, path = "/v1/sites/{site}/schedule", tag = "sites",
    params(("site" = String, Path)), request_body = Schedule,
    responses(
        (status = 200, description = "Signed and served; nodes follow at once", body = Site),
        (status = 404, body = Problem), (status = 422, body = Problem)
    )
)]
async fn set_schedule(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(site): Params<SiteName>,
    Json(new): Json<Schedule>,
) -> Result<axum::Json<Site>, Failure> {
    authorize(&principal, Action::Administer, Resource::Reach { site: Some(&site), ring: None })?;
    Ok(axum::Json(sites::set_schedule(&app, &principal, site, new).await?))
}

/// Every ring in lifecycle order.
#[utoipa::path(get, path = "/v1/rings", tag = "rings", responses((status = 200, body = Rings)))]
async fn rings(State(app): State<Shared>) -> axum::Json<Rings> {
    let served = app.served();
    let thresholds = calendar::ring_thresholds(&served);
    let rings = served.view.rings.iter().map(|ring| {
        let rows = served.view.releases.get(ring).into_iter().flatten();
        let live: BTreeSet<_> = rows
            .filter(|row| served.retracted_by(&row.sha256).is_none())
            .map(|row| (&row.custom.patch, &row.custom.patch_version))
            .collect();
        let endpoints = served.endpoints.values().flat_map(|rows| &rows.endpoints);
        Ring {
            name: ring.clone(),
            patches: live.len() as u64,
            endpoints: endpoints.filter(|row| row.ring == *ring && row.state == EndpointState::Active).count() as u64,
            threshold: thresholds.get(ring).copied().unwrap_or(1),
        }
    });
    axum::Json(Rings { rings: rings.collect() })
}
