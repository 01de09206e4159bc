//! Every route of the admin API below `/v1`, each with its action.

use super::{Route, patches, retractions, uploads};

/// All of them; [`super::router`] puts each behind its guard.
pub fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    routes.extend(uploads::routes());
    routes.extend(patches::routes());
    routes.extend(retractions::routes());
    routes
}
