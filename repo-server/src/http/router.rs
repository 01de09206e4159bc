//! Assembles the two routers: plain HTTP for people and foreign clients, and the one behind device TLS.

use crate::http::{admin, apt, authority, content, device, health, log, openapi, request, status, tuf};
use crate::operations::Failure;
use crate::state::Shared;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use sluice_api::problem::ProblemType;
use utoipa_axum::router::OpenApiRouter;

/// The router of the plain HTTP listener.
pub fn public_router(app: &Shared) -> Router {
    let mut admin = OpenApiRouter::new();
    for route in admin::routes() {
        admin = admin.routes(route.guarded(app));
    }
    let (admin, _) = admin.split_for_parts();
    let router = admin
        .merge(super::uploads::discovery())
        .merge(tuf::routes())
        .merge(log::routes())
        .merge(content::routes())
        .merge(health::routes())
        .merge(authority::routes())
        .merge(apt::routes())
        .merge(status::public_routes())
        .route("/openapi.json", get(|| async { axum::Json(openapi()) }));
    finish(router, app)
}

/// The router of the device listener: devices know the caller by its TLS key.
pub fn device_router(app: &Shared) -> Router {
    finish(device::routes().merge(tuf::routes()).merge(log::routes()), app)
}

fn finish(router: Router<Shared>, app: &Shared) -> Router {
    router
        .fallback(|| async {
            Failure::refused(ProblemType::NotFound, "there is nothing at this path; see /openapi.json")
        })
        .method_not_allowed_fallback(|| async {
            Failure::refused(ProblemType::MethodNotAllowed, "the Allow header names the methods of this path")
        })
        .layer(from_fn_with_state(app.clone(), request::surround))
        .with_state(app.clone())
}

/// Every documented operation of the admin API with the action that it declares.
#[cfg(test)]
pub fn admin_actions() -> Vec<(String, String, crate::authorize::Action)> {
    let mut actions = Vec::new();
    for route in admin::routes() {
        let action = route.action;
        let document = OpenApiRouter::new().routes(route.handlers).into_openapi();
        let document = serde_json::to_value(document).expect("an OpenAPI document is JSON");
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for method in item.as_object().into_iter().flatten().map(|(method, _)| method.to_uppercase()) {
                actions.push((method, path.clone(), action));
            }
        }
    }
    actions
}
