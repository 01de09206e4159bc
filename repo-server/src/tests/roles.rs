//! Every role against every operation of the admin API, as the router answers it: generated from the routes.

use super::world::{World, request};
use crate::authorize::roles_for;
use axum::body::Body;
use sluice_model::PersonRole;

/// The path with made-up values.
fn example(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { "1" } else { part }).collect::<Vec<_>>().join("/")
}

// proves: A7 (roles)
#[tokio::test]
async fn every_role_may_do_exactly_what_the_action_of_each_route_says() {
    let world = World::new().await;
    for role in PersonRole::ALL {
        world.add_person(role.as_str(), vec![role]);
    }
    for (verb, path, action) in crate::http::admin_actions() {
        for role in PersonRole::ALL {
            let asked = request(role.as_str(), &verb, &example(&path)).body(Body::empty()).unwrap();
            let answer = world.send(asked).await;
            // A body or thing that is lacking is another matter: the guard let the person through.
            let is_forbidden = answer.status.as_u16() == 403;
            let is_allowed = roles_for(action).contains(&role);
            assert_eq!(is_forbidden, !is_allowed, "{role} {verb} {path}: {} {}", answer.status, answer.text());
        }
    }
}
