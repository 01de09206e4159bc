//! Every route of the admin API below `/v1`, each with its action.

use super::{Route, patches, retractions, status, uploads};

/// All of them; [`super::router`] puts each behind its guard.
pub fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    routes.extend(status::routes());
    routes.extend(uploads::routes());
    routes.extend(patches::routes());
    routes.extend(retractions::routes());
    routes
}
