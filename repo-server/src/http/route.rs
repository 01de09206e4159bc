//! A route of the admin API: it cannot be written without the action that it is authorised by.

use crate::authorize::{Action, Principal, Resource, authorize};
use crate::http::authenticate::{Encrypted, Remote, authenticate};
use crate::operations::{Failure, audited};
use crate::quotas::Exhausted;
use crate::state::Shared;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::UtoipaMethodRouter;

/// A handler with its path, documentation and action.
pub struct Route {
    pub(super) action: Action,
    pub(super) handlers: UtoipaMethodRouter<Shared>,
    is_narrow: bool,
}

/// `route(Action::Look, routes!(list))`: the caller is authenticated and authorised before the handler runs; the
/// handler gets him as `Extension<Principal>`.
///
/// A token that is limited to sites or rings is refused here when the action changes something: see [`narrow_route`].
pub fn route(action: Action, handlers: UtoipaMethodRouter<Shared>) -> Route {
    Route { action, handlers, is_narrow: false }
}

/// A route whose operation asks `authorize` again with the site and ring that it touches, so that a token limited to
/// them may come this far.
pub fn narrow_route(action: Action, handlers: UtoipaMethodRouter<Shared>) -> Route {
    Route { action, handlers, is_narrow: true }
}

impl Route {
    /// The handlers behind their guard.
    pub(super) fn guarded(self, app: &Shared) -> UtoipaMethodRouter<Shared> {
        let guarded = Guarded { app: app.clone(), action: self.action, is_narrow: self.is_narrow };
        let (schemas, paths, handlers) = self.handlers;
        (schemas, paths, handlers.route_layer(from_fn_with_state(guarded, guard)))
    }
}

#[derive(Clone)]
struct Guarded {
    app: Shared,
    action: Action,
    is_narrow: bool,
}

impl Guarded {
    /// Roles, and the scope as far as it can be judged without the thing itself: reading is not limited by it.
    fn authorize(&self, principal: &Principal) -> Result<(), Failure> {
        authorize(principal, self.action, Resource::Repository)?;
        if self.is_narrow || self.action.is_personal() {
            return Ok(());
        }
        authorize(principal, self.action, Resource::Reach { site: None, ring: None })
    }
}

async fn guard(State(guarded): State<Guarded>, mut request: Request, next: Next) -> Response {
    let app = &guarded.app;
    let remote = request.extensions().get::<Remote>().copied();
    let encrypted = request.extensions().get::<Encrypted>().copied();
    let principal = match authenticate(app, request.headers(), remote, encrypted) {
        Ok(principal) => principal,
        Err(failure) => {
            // No token at all is a mistake; a token that is not taken may be somebody's try.
            if request.headers().contains_key(AUTHORIZATION) {
                let from = remote.map_or_else(|| "unknown address".into(), |Remote(address)| address.ip().to_string());
                let subject = format!("{} {}", request.method(), request.uri().path());
                if let Some(Err(exhausted)) = remote.map(|Remote(address)| app.quotas.take_stranger(address.ip())) {
                    return too_many(exhausted);
                }
                audited::refused(app, &from, "authenticate", &subject, &failure.to_string()).await;
            }
            return failure.into_response();
        }
    };
    if let Err(exhausted) = app.quotas.take_person(&principal.person) {
        audited::refused(app, principal.person.as_str(), "quota", request.uri().path(), &exhausted.failure.to_string())
            .await;
        return too_many(exhausted);
    }
    if let Err(failure) = guarded.authorize(&principal) {
        let subject = format!("{} {}", request.method(), request.uri().path());
        audited::refused(app, principal.person.as_str(), "access", &subject, &failure.to_string()).await;
        return failure.into_response();
    }
    request.extensions_mut().insert(principal);
    next.run(request).await
}

fn too_many(exhausted: Exhausted) -> Response {
    let mut response = exhausted.failure.into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(exhausted.retry_after_secs));
    response
}
