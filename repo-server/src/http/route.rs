//! A route of the admin API: it cannot be written without the action that it is authorised by.

use crate::authorize::{Action, Resource, authorize};
use crate::http::authenticate::{Remote, authenticate};
use crate::operations::audited;
use crate::state::Shared;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::UtoipaMethodRouter;

/// A handler with its path, documentation and action.
pub struct Route {
    pub(super) action: Action,
    pub(super) handlers: UtoipaMethodRouter<Shared>,
}

/// `route(Action::Look, routes!(list))`: the caller is authenticated and authorised before the handler runs; the
/// handler gets him as `Extension<Principal>`.
pub fn route(action: Action, handlers: UtoipaMethodRouter<Shared>) -> Route {
    Route { action, handlers }
}

impl Route {
    /// The handlers behind their guard.
    pub(super) fn guarded(self, app: &Shared) -> UtoipaMethodRouter<Shared> {
        let (schemas, paths, handlers) = self.handlers;
        (schemas, paths, handlers.route_layer(from_fn_with_state((app.clone(), self.action), guard)))
    }
}

async fn guard(State((app, action)): State<(Shared, Action)>, mut request: Request, next: Next) -> Response {
    let remote = request.extensions().get::<Remote>().copied();
    let principal = match authenticate(&app, request.headers(), remote) {
        Ok(principal) => principal,
        Err(failure) => {
            // No token at all is a mistake; a token that is not taken may be somebody's try.
            if request.headers().contains_key(AUTHORIZATION) {
                let from = remote.map_or_else(|| "unknown address".into(), |Remote(address)| address.ip().to_string());
                let subject = format!("{} {}", request.method(), request.uri().path());
                audited::refused(&app, &from, "authenticate", &subject, &failure.to_string()).await;
            }
            return failure.into_response();
        }
    };
    if let Err(failure) = authorize(&principal, action, Resource::Repository) {
        let subject = format!("{} {}", request.method(), request.uri().path());
        audited::refused(&app, principal.person.as_str(), "access", &subject, &failure.to_string()).await;
        return failure.into_response();
    }
    request.extensions_mut().insert(principal);
    next.run(request).await
}
