//! Every route of the admin API below `/v1`, each with its action.

use super::{
    Route, audit, bans, ceremonies, compliance, endpoints, nodes, outcomes, patches, requests, retractions, sites,
    status, suspensions, tokens, uploads,
};

/// All of them; [`super::router`] puts each behind its guard.
pub fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    routes.extend(status::routes());
    routes.extend(uploads::routes());
    routes.extend(patches::routes());
    routes.extend(retractions::routes());
    routes.extend(suspensions::routes());
    routes.extend(sites::routes());
    routes.extend(tokens::routes());
    routes.extend(requests::routes());
    routes.extend(ceremonies::routes());
    routes.extend(nodes::routes());
    routes.extend(bans::routes());
    routes.extend(endpoints::routes());
    routes.extend(outcomes::routes());
    routes.extend(compliance::routes());
    routes.extend(audit::routes());
    routes
}
