//! What holds for every route: a token, its action, problems with the request's id.

use super::world::{World, request};
use crate::authorize::{Action, roles_for};
use crate::http::{admin_actions, openapi};
use axum::body::Body;
use axum::http::{Method, Request};
use std::collections::BTreeMap;

/// Every documented operation as (method, path with made-up values).
fn operations() -> Vec<(Method, String)> {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let example: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { "1" } else { part }).collect();
        for method in item.as_object().unwrap().keys() {
            if let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) {
                operations.push((method, example.join("/")));
            }
        }
    }
    operations
}

#[tokio::test]
async fn every_route_refuses_a_request_without_a_valid_token() {
    let world = World::new().await;
    let operations = operations();
    assert!(operations.len() >= 10, "{operations:?}");
    for (method, path) in operations {
        let bare = Request::builder().method(&method).uri(&path).body(Body::empty()).unwrap();
        let answer = world.send(bare).await;
        assert_eq!(answer.status.as_u16(), 401, "{method} {path}");
        for token in ["Bearer x", "Basic abc", "Bearer slp1-0000000000000000-00"] {
            let wrong = Request::builder().method(&method).uri(&path).header("authorization", token);
            let answer = world.send(wrong.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status.as_u16(), 401, "{method} {path} {token}");
        }
    }
}

#[tokio::test]
async fn every_route_refuses_a_person_whose_roles_do_not_allow_its_action() {
    let world = World::new().await;
    world.add_person("nobody", Vec::new());
    for (method, path) in operations() {
        let answer = world.send(request("nobody", method.as_str(), &path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status.as_u16(), 403, "{method} {path}");
    }
}

#[test]
fn every_route_that_changes_something_declares_an_action_that_not_everybody_may() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (method, path, action) in admin_actions() {
        *seen.entry(format!("{method} {path}")).or_default() += 1;
        if method != "GET" && action != Action::OwnToken {
            assert!(roles_for(action).len() < sluice_model::PersonRole::ALL.len(), "{method} {path} is for everybody");
        }
    }
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    assert_eq!(seen.len(), operations().len());
}

#[tokio::test]
async fn a_token_that_crossed_a_network_in_clear_is_refused_unread() {
    let world = World::new().await;
    let whoami = || request("admin", "GET", "/v1/whoami").body(Body::empty()).unwrap();
    for remote in ["192.0.2.7:1000", "[2001:db8::7]:1000"] {
        world.send_from(remote, whoami()).await.expect(403, "tls-required", &["loopback"]);
    }
    for remote in ["127.0.0.9:1000", "[::1]:1000", "[::ffff:127.0.0.1]:1000"] {
        assert_eq!(world.send_from(remote, whoami()).await.json()["person"], "admin", "{remote}");
    }
}

#[tokio::test]
async fn a_token_that_ran_out_is_refused() {
    let world = World::new().await;
    let record =
        world.app.store.read(|tx| sluice_repo_store::tokens::person(tx, &blake3::hash(b"admin").to_hex()[..16]));
    let mut record = record.unwrap().unwrap();
    record.expires_at = crate::clock::timestamp();
    world.app.store.write(|tx| sluice_repo_store::tokens::put_person(tx, &record)).unwrap();
    world.get("admin", "/v1/whoami").await.expect(401, "unauthenticated", &["expired"]);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_and_the_profile_warns() {
    let world = World::new().await;
    world.fetch("/v2/patches", &[]).await.expect(404, "not-found", &[]);
    let wrong = request("admin", "PUT", "/v1/patches").body(Body::empty()).unwrap();
    let answer = world.send(wrong).await;
    answer.expect(405, "method-not-allowed", &[]);
    assert_eq!(answer.header("sluice-profile"), "dev");
    assert!(!answer.header("allow").is_empty());
    world.fetch("/content/sha256/xyz", &[]).await.expect(422, "invalid", &["64"]);
    for path in ["/tuf/metadata/..%2f..%2frepo.redb", "/tuf/metadata/9.root.json", "/tuf/targets/fleet/roster"] {
        world.fetch(path, &[]).await.expect(404, "not-found", &[]);
    }
    assert_eq!(world.fetch("/healthz", &[]).await.text(), "ok\n");
    assert_eq!(world.fetch("/readyz", &[]).await.text(), "ready\n");
    assert!(world.fetch("/metrics", &[]).await.text().contains("sluice_timestamp_version"));
    let bootstrap = world.fetch("/device/v1/bootstrap", &[]).await.json();
    assert_eq!(bootstrap["origin_key"], world.app.device_key.public().to_hex());
    assert_eq!(bootstrap["root_sha256"], world.get("admin", "/v1/status").await.json()["root_sha256"]);
}
