//! Retracting: by content, at once, for good.

use super::world::{World, sha256};
use serde_json::json;
use sluice_model::limits::TEXT_CHARS_MAX;
use std::time::Duration;

#[tokio::test]
async fn a_retracted_patch_is_refused_everywhere_at_once_and_for_good() {
    let world = World::new().await;
    let deb = world.deb("demo", "2", 1, 200_000);
    world.publish("paul", "demo/2", &[("demo.deb", &deb)]).await.expect_ok();
    world.approve("bob", "demo/2", "production").await.expect_ok();
    let path = format!("/content/sha256/{}", sha256(&deb));
    let target = format!("/tuf/targets/patches/production/{}.demo.deb", sha256(&deb));
    assert_eq!(world.fetch(&path, &[]).await.body, deb);

    world.retract("paul", "demo/2", &[]).await.expect(403, "forbidden", &["retractor"]);
    let began = crate::clock::now();
    let answer = world.retract("bob", "demo/2", &[]).await;
    let took = crate::clock::now() - began;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert_eq!((&answer.json()["serial"], &answer.json()["by"]), (&json!(1), &json!("bob")));

    for path in [&path, &target, &format!("/content/blake3/{}", blake3::hash(&deb).to_hex())] {
        world.fetch(path, &[]).await.expect(410, "retracted", &["it eats files"]);
        world.fetch(path, &[("range", "bytes=100-")]).await.expect(410, "retracted", &[]);
    }
    while !world.app.content.artifacts().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let world = world.reopen().await;
    world.fetch(&path, &[]).await.expect(410, "retracted", &[]);
    let again = world.publish("paul", "innocent/1", &[("other-name.deb", &deb)]).await;
    again.expect(409, "content-retracted", &["demo/2", "it eats files"]);
    world.approve("bob", "demo/2", "pilot").await.expect(409, "content-retracted", &[]);
    assert_eq!(world.get("bob", "/v1/patches/demo/2").await.json()["state"], "retracted");
    let second = world.retract("bob", "demo/2", &[]).await;
    assert_eq!(second.expect_ok().json()["serial"], 1, "a second retraction changes nothing");
    let view = &world.app.served().view;
    assert_eq!((view.tombstones.len(), view.releases.values().map(Vec::len).sum::<usize>()), (1, 0));
    let listed = world.get("alice", "/v1/retractions").await.json();
    assert_eq!(listed["retractions"][0]["patch"], "demo/2");
    assert_eq!(world.get("alice", "/v1/retractions/1").await.json()["sha256"][0], sha256(&deb));
    world.get("alice", "/v1/retractions/2").await.expect(404, "not-found", &["2"]);
}

#[tokio::test]
async fn the_tombstone_itself_is_a_target_that_any_client_can_fetch() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 1_000);
    world.publish("paul", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
    world.retract("bob", "demo/1", &[]).await.expect_ok();
    let world = world.reopen().await;
    let tombstone = &world.app.served().view.tombstones[0];
    let json = serde_json::to_vec(tombstone).unwrap();
    let got = world.fetch(&format!("/tuf/targets/retractions/{}.1", sha256(&json)), &[]).await;
    assert_eq!(got.expect_ok().body, json);
}

#[tokio::test]
async fn patches_that_share_an_artifact_must_be_named_and_then_go_too() {
    let world = World::new().await;
    let (shared, extra) = (world.deb("lib", "1", 1, 1_000), world.deb("app", "1", 2, 1_000));
    world.publish("paul", "set/1", &[("lib.deb", &shared)]).await.expect_ok();
    world.publish("paul", "set/2", &[("lib2.deb", &shared), ("app.deb", &extra)]).await.expect_ok();
    world.approve("bob", "set/1", "pilot").await.expect_ok();
    world.approve("bob", "set/2", "pilot").await.expect_ok();
    let refused = world.retract("bob", "set/1", &[]).await;
    refused.expect(409, "conflict", &["also"]);
    assert_eq!(refused.json()["blocks"], json!(["set/2"]));
    assert!(world.app.served().view.tombstones.is_empty());
    world.retract("bob", "set/1", &["set/2"]).await.expect_ok();
    let view = &world.app.served().view;
    assert_eq!(view.tombstones.iter().map(|t| t.patch.to_string()).collect::<Vec<_>>(), ["set/1", "set/2"]);
    assert!(view.releases.values().all(Vec::is_empty));
    assert_eq!(world.get("bob", "/v1/patches/set/2").await.json()["retraction"], 2);
}

#[tokio::test]
async fn a_retraction_needs_a_reason_and_a_patch() {
    let world = World::new().await;
    let path = "/v1/patches/demo/1/retraction";
    for reason in ["", "   ", &"x".repeat(TEXT_CHARS_MAX + 1)] {
        world.post("bob", path, &json!({ "reason": reason })).await.expect(422, "invalid", &["reason"]);
    }
    world.post("bob", path, &json!({})).await.expect(422, "invalid", &["reason"]);
    world.retract("bob", "demo/1", &[]).await.expect(404, "not-found", &["demo/1"]);
}

#[tokio::test]
async fn the_order_of_approvals_never_repeats_after_a_retraction() {
    let world = World::new().await;
    for version in 1..=3u8 {
        let deb = world.deb("demo", &version.to_string(), version, 1_000);
        let file = format!("demo_{version}.deb");
        world.publish("paul", &format!("demo/{version}"), &[(&file, &deb)]).await.expect_ok();
    }
    world.approve("bob", "demo/1", "pilot").await.expect_ok();
    world.approve("bob", "demo/2", "pilot").await.expect_ok();
    world.retract("bob", "demo/2", &[]).await.expect_ok();
    world.approve("bob", "demo/3", "pilot").await.expect_ok();
    let served = world.app.served();
    let serials: Vec<u64> =
        served.view.releases[&"pilot".parse().unwrap()].iter().map(|row| row.custom.approved_serial).collect();
    assert_eq!(serials, [1, 3]);
}
