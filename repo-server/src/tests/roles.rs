//! Every role against every verb of the admin API, as the router answers it.

use super::world::{World, request};
use axum::body::Body;
use sluice_model::PersonRole;

/// Verb, path, and the roles that may: publisher, approver, retractor, admin.
const TABLE: &[(&str, &str, [bool; 4])] = &[
    ("GET", "/v1/whoami", [true; 4]),
    ("GET", "/v1/status", [true; 4]),
    ("POST", "/v1/uploads", [true, false, false, false]),
    ("HEAD", "/v1/uploads/1", [true, false, false, false]),
    ("PATCH", "/v1/uploads/1", [true, false, false, false]),
    ("DELETE", "/v1/uploads/1", [true, false, false, false]),
    ("POST", "/v1/patches", [true, false, false, false]),
    ("GET", "/v1/patches", [true; 4]),
    ("GET", "/v1/patches/demo/1", [true; 4]),
    ("POST", "/v1/patches/demo/1/approvals", [false, true, false, false]),
    ("POST", "/v1/patches/demo/1/retraction", [false, false, true, false]),
    ("GET", "/v1/retractions", [true; 4]),
    ("GET", "/v1/retractions/1", [true; 4]),
    ("GET", "/v1/sites", [true; 4]),
    ("POST", "/v1/sites", [false, false, false, true]),
    ("PUT", "/v1/sites/lyon/limits", [false, false, false, true]),
    ("GET", "/v1/rings", [true; 4]),
    ("POST", "/v1/enrolment-tokens", [false, false, false, true]),
    ("POST", "/v1/person-tokens", [false, false, false, true]),
    ("GET", "/v1/nodes", [true; 4]),
    ("DELETE", "/v1/nodes/1", [false, false, false, true]),
    ("GET", "/v1/endpoints", [true; 4]),
    ("DELETE", "/v1/endpoints/1", [false, false, false, true]),
    ("GET", "/v1/endpoints/1/explanation", [true; 4]),
    ("GET", "/v1/outcomes", [true; 4]),
    ("GET", "/v1/compliance/patches", [true; 4]),
    ("GET", "/v1/compliance/sites", [true; 4]),
    ("GET", "/v1/compliance/endpoints", [true; 4]),
    ("GET", "/v1/audit", [true; 4]),
];

// proves: A7 (the roles of this release)
#[tokio::test]
async fn every_role_may_do_exactly_what_the_table_says() {
    let world = World::new().await;
    for role in PersonRole::ALL {
        world.add_person(role.as_str(), vec![role]);
    }
    for (verb, path, allowed) in TABLE {
        for (role, allowed) in PersonRole::ALL.into_iter().zip(allowed) {
            let asked = request(role.as_str(), verb, path).body(Body::empty()).unwrap();
            let answer = world.send(asked).await;
            // A body or thing that is lacking is another matter: the guard let the person through.
            let is_forbidden = answer.status.as_u16() == 403;
            assert_eq!(is_forbidden, !allowed, "{role} {verb} {path}: {} {}", answer.status, answer.text());
        }
    }
}

#[test]
fn the_table_names_every_operation_of_the_api() {
    let mut declared: Vec<(String, String)> = Vec::new();
    for (method, path, _) in crate::http::admin_actions() {
        declared.push((method, segments(&path)));
    }
    let mut listed: Vec<(String, String)> =
        TABLE.iter().map(|(verb, path, _)| ((*verb).to_owned(), example(path, &declared))).collect();
    declared.sort();
    listed.sort();
    assert_eq!(declared, listed);
}

/// A path with `{}` for each variable segment.
fn segments(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect::<Vec<_>>().join("/")
}

/// The declared path that the made-up one is an example of; itself when there is none.
fn example(path: &str, declared: &[(String, String)]) -> String {
    let fits = |pattern: &str| {
        let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
        pattern.len() == path.len() && pattern.iter().zip(&path).all(|(a, b)| *a == "{}" || a == b)
    };
    declared
        .iter()
        .map(|(_, pattern)| pattern)
        .find(|pattern| fits(pattern))
        .cloned()
        .unwrap_or_else(|| path.to_owned())
}
