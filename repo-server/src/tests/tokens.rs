//! The life of a person's token, and how many requests a person may make.

use super::world::{Answer, World, request};
use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use std::time::Duration;

async fn with_token(world: &World, token: &str, verb: &str, path: &str) -> Answer {
    let request = Request::builder().method(verb).uri(path).header("authorization", format!("Bearer {token}"));
    world.send(request.body(Body::empty()).unwrap()).await
}

async fn new_token(world: &World, person: &str, role: &str) -> (String, String) {
    let made = world.post("admin", "/v1/person-tokens", &json!({ "person": person, "roles": [role] })).await;
    let made = made.expect_ok().json();
    (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
}

async fn delete(world: &World, person: &str, path: &str) -> Answer {
    world.send(request(person, "DELETE", path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_revoked_token_is_refused_from_the_next_request_on_and_stays_in_the_list() {
    let world = World::new().await;
    let (id, token) = new_token(&world, "carl", "viewer").await;
    with_token(&world, &token, "GET", "/v1/status").await.expect_ok();
    with_token(&world, &token, "DELETE", &format!("/v1/tokens/{id}")).await.expect(403, "forbidden", &["admin"]);
    delete(&world, "admin", &format!("/v1/tokens/{id}")).await.expect_ok();
    delete(&world, "admin", &format!("/v1/tokens/{id}")).await.expect_ok();
    with_token(&world, &token, "GET", "/v1/status").await.expect(401, "unauthenticated", &["revoked"]);
    let listed = world.get("admin", "/v1/tokens").await.json();
    let row = listed["tokens"].as_array().unwrap().iter().find(|row| row["id"] == id.as_str()).unwrap().clone();
    assert_eq!(
        (&row["state"], &row["person"], &row["created_by"]),
        (&json!("revoked"), &json!("carl"), &json!("admin"))
    );
    assert!(!listed.to_string().contains(token.rsplit('-').next().unwrap()), "no secret is listed");
    delete(&world, "admin", "/v1/tokens/nothing").await.expect(404, "not-found", &["token list"]);
    let world = world.reopen().await;
    with_token(&world, &token, "GET", "/v1/status").await.expect(401, "unauthenticated", &[]);
}

#[tokio::test]
async fn every_token_of_a_person_ends_at_once_but_never_the_last_admin_s() {
    let world = World::new().await;
    let tokens = [new_token(&world, "carl", "viewer").await, new_token(&world, "carl", "approver").await];
    let ended = delete(&world, "admin", "/v1/tokens/persons/carl").await;
    assert_eq!(ended.expect_ok().json()["ids"].as_array().unwrap().len(), 2);
    for (_, token) in &tokens {
        with_token(&world, token, "GET", "/v1/status").await.expect(401, "unauthenticated", &[]);
    }
    delete(&world, "admin", "/v1/tokens/persons/carl").await.expect(404, "not-found", &["carl"]);
    // Besides the test's own admin there is the first one, whom init made.
    delete(&world, "admin", "/v1/tokens/persons/admin").await.expect(409, "conflict", &["last valid token"]);
    world.get("admin", "/v1/tokens").await.expect_ok();
    delete(&world, "admin", "/v1/tokens/own").await.expect_ok();
    world.get("admin", "/v1/tokens").await.expect(401, "unauthenticated", &[]);
}

#[tokio::test]
async fn an_owner_renews_his_token_with_the_same_rights_and_the_old_one_runs_out() {
    let world = World::new().await;
    let (id, token) = new_token(&world, "carl", "viewer").await;
    let renewed = with_token(&world, &token, "POST", "/v1/tokens/own/rotation").await;
    assert_eq!((renewed.status.as_u16(), renewed.header("cache-control")), (201, "no-store"));
    let renewed = renewed.json();
    assert_eq!((&renewed["person"], &renewed["roles"]), (&json!("carl"), &json!(["viewer"])));
    let me = with_token(&world, renewed["token"].as_str().unwrap(), "GET", "/v1/whoami").await.expect_ok().json();
    assert_ne!(me["token"], id.as_str());
    let old = with_token(&world, &token, "GET", "/v1/whoami").await.expect_ok().json();
    let left = Duration::from_millis(old["expires_at"].as_u64().unwrap() - crate::clock::timestamp().as_millis());
    assert!(left <= Duration::from_secs(600), "{left:?}");

    let mut record = world.app.store.read(|tx| sluice_repo_store::tokens::person(tx, &id)).unwrap().unwrap();
    record.renewable_until = crate::clock::timestamp();
    world.app.store.write(|tx| sluice_repo_store::tokens::put_person(tx, &record)).unwrap();
    let refused = with_token(&world, &token, "POST", "/v1/tokens/own/rotation").await;
    refused.expect(409, "conflict", &["ask an admin"]);
}

#[tokio::test]
async fn a_scope_that_names_nothing_or_what_is_not_there_is_refused() {
    let world = World::new().await;
    for (scope, word) in [(json!([]), "at least one"), (json!(["atlantis"]), "atlantis")] {
        let new = json!({ "person": "carl", "roles": ["viewer"], "sites": scope });
        world.post("admin", "/v1/person-tokens", &new).await.expect(422, "invalid", &[word]);
    }
    let new = json!({ "person": "carl", "roles": ["viewer"], "rings": ["nowhere"] });
    world.post("admin", "/v1/person-tokens", &new).await.expect(422, "invalid", &["ring list"]);
}

#[tokio::test]
async fn a_person_who_asks_without_end_is_told_when_to_come_back_and_nobody_else_waits() {
    let world = World::new().await;
    let mut refused = None;
    for _ in 0..3_000 {
        let answer = world.get("paul", "/v1/whoami").await;
        if answer.status.as_u16() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("three thousand requests in a row are too many");
    refused.expect(429, "quota-exceeded", &["Retry-After"]);
    assert_eq!(refused.header("retry-after"), "1");
    world.get("bob", "/v1/whoami").await.expect_ok();
    let retry = || async { world.get("paul", "/v1/whoami").await.status.is_success() };
    while !retry().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_stranger_who_tries_tokens_without_end_is_slowed_down_and_people_are_not() {
    let world = World::new().await;
    let wrong = format!("slp1-{}-{}", "0".repeat(16), "0".repeat(64));
    let mut last = 401;
    for _ in 0..1_000 {
        last = with_token(&world, &wrong, "GET", "/v1/status").await.status.as_u16();
        if last != 401 {
            break;
        }
    }
    assert_eq!(last, 429);
    world.get("paul", "/v1/whoami").await.expect_ok();
}
