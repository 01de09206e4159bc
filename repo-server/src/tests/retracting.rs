//! Retracting: by content, at once, for good.

use super::world::{World, sha256};
use serde_json::json;
use sluice_model::limits::TEXT_CHARS_MAX;
use sluice_model::{PersonRole, RetractedContent, Timestamp, Tombstone};
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

#[tokio::test]
async fn more_than_five_retractions_an_hour_need_a_second_person() {
    let world = World::new().await;
    world.add_person("rita", vec![PersonRole::Retractor]);
    for idx in 1..=6u8 {
        let deb = world.deb("demo", &idx.to_string(), idx, 1_000);
        let file = format!("demo_{idx}.deb");
        world.publish("paul", &format!("demo/{idx}"), &[(&file, &deb)]).await.expect_ok();
    }
    for idx in 1..=5 {
        assert_eq!(world.retract("bob", &format!("demo/{idx}"), &[]).await.status.as_u16(), 200);
    }
    let plan = world.post("bob", "/v1/patches/demo/6/retraction-plan", &json!({})).await.json();
    assert_eq!((&plan["needs_second_person"], &plan["tombstones_last_hour"]), (&json!(true), &json!(5)));
    for _ in 0..2 {
        let waiting = world.retract("bob", "demo/6", &[]).await;
        assert_eq!(waiting.status.as_u16(), 202, "{}", waiting.text());
        assert_eq!(waiting.json()["by"], "bob");
    }
    assert_eq!(world.app.served().tombstones.len(), 5);
    let done = world.retract("rita", "demo/6", &[]).await;
    assert_eq!((done.status.as_u16(), &done.json()["serial"]), (200, &json!(6)), "{}", done.text());
    assert_eq!(world.retract("bob", "demo/6", &[]).await.json()["serial"], 6, "it changes nothing a second time");
}

#[tokio::test]
async fn the_plan_of_a_retraction_names_shared_files_ways_back_and_does_nothing() {
    let world = World::new().await;
    let (old, shared) = (world.deb("lib", "0", 3, 1_000), world.deb("lib", "1", 1, 1_000));
    world.publish("paul", "set/0", &[("lib0.deb", &old)]).await.expect_ok();
    world.publish("paul", "set/1", &[("lib.deb", &shared)]).await.expect_ok();
    world.publish("paul", "copy/1", &[("copy.deb", &shared)]).await.expect_ok();
    world.approve("bob", "set/0", "pilot").await.expect_ok();
    world.approve("bob", "set/1", "pilot").await.expect_ok();
    let plan = world.post("bob", "/v1/patches/set/1/retraction-plan", &json!({})).await.json();
    assert_eq!(plan["not_named"], json!(["copy/1"]));
    assert_eq!(plan["artifacts"][0]["patches"], json!(["copy/1", "set/1"]));
    assert_eq!(plan["ways_back"], json!([{ "ring": "pilot", "from": "set/1", "to": "set/0" }]));
    let both = world.post("bob", "/v1/patches/set/1/retraction-plan", &json!({ "also": ["copy/1"] })).await.json();
    assert_eq!((&both["not_named"], &both["patches"]), (&json!([]), &json!(["set/1", "copy/1"])));
    assert!(world.app.served().tombstones.is_empty());
    world.post("paul", "/v1/patches/set/1/retraction-plan", &json!({})).await.expect(403, "forbidden", &["retractor"]);
}

#[tokio::test]
async fn two_people_reinstate_in_one_ring_and_nobody_alone_or_who_published_it() {
    let world = World::new().await;
    world.add_person("carol", vec![PersonRole::Approver]);
    let deb = world.deb("demo", "1", 1, 50_000);
    world.publish("alice", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
    world.approve("bob", "demo/1", "pilot").await.expect_ok();
    world.approve("bob", "demo/1", "production").await.expect_ok();
    world.retract("bob", "demo/1", &[]).await.expect_ok();
    let ask = |ring: &str| json!({ "serial": 1, "ring": ring, "reason": "the crash was another patch" });
    let path = "/v1/reinstatements";
    world.post("paul", path, &ask("production")).await.expect(403, "forbidden", &["approver"]);
    world.post("alice", path, &ask("production")).await.expect(403, "separation-of-duties", &["alice"]);
    for _ in 0..2 {
        assert_eq!(world.post("bob", path, &ask("production")).await.status.as_u16(), 202);
    }
    let url = format!("/content/sha256/{}", sha256(&deb));
    world.fetch(&url, &[]).await.expect(410, "retracted", &[]);
    let done = world.post("carol", path, &ask("production")).await;
    assert_eq!((done.status.as_u16(), &done.json()["state"]), (200, &json!("released")), "{}", done.text());
    assert_eq!(world.fetch(&url, &[]).await.expect_ok().body, deb);

    let world = world.reopen().await;
    assert_eq!(world.fetch(&url, &[]).await.expect_ok().body, deb);
    let served = world.app.served();
    let production = "production".parse().unwrap();
    let entry = &served.view.reinstatements[&production][0];
    assert_eq!((entry.serial, entry.by.iter().map(|by| by.as_str()).collect::<Vec<_>>()), (1, vec!["bob", "carol"]));
    assert_eq!(served.tombstones.len(), 1, "the tombstone stays");
    assert!(served.tombstones_in(&"pilot".parse().unwrap()).iter().count() == 1, "and counts in every other ring");
    world.approve("bob", "demo/1", "pilot").await.expect(409, "content-retracted", &[]);
    let bytes = serde_json::to_vec(entry).unwrap();
    let target = format!("/tuf/targets/patches/production/{}.reinstated-1", sha256(&bytes));
    assert_eq!(world.fetch(&target, &[]).await.expect_ok().body, bytes);
    let again = world.publish("paul", "innocent/1", &[("other.deb", &deb)]).await;
    again.expect(409, "content-retracted", &["demo/1"]);

    // What was reinstated can be retracted again.
    let second = world.retract("bob", "demo/1", &[]).await;
    assert_eq!(second.json()["serial"], 2, "{}", second.text());
    world.fetch(&url, &[]).await.expect(410, "retracted", &[]);
}

#[tokio::test]
async fn a_thousand_retractions_and_more_stay_in_force_and_are_folded() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 1_000);
    world.publish("paul", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
    let tombstone = |serial: u64| Tombstone {
        schema: 1,
        serial,
        patch: format!("other/{serial}").parse().unwrap(),
        content: vec![RetractedContent {
            sha256: crate::draft::sha256_of(&serial.to_be_bytes()),
            blake3: sluice_model::ArtifactId::from_bytes(*blake3::hash(&serial.to_be_bytes()).as_bytes()),
        }],
        reason: "it eats files".into(),
        by: "bob".parse().unwrap(),
        at: Timestamp::from_millis(1),
        approved: Default::default(),
    };
    let many = world.app.authority.change(move |draft, tx| {
        for serial in 1..=1_300 {
            draft.add_tombstone(&tombstone(serial))?;
            sluice_repo_store::patches::put_tombstone(tx, &tombstone(serial))?;
        }
        Ok(())
    });
    many.await.unwrap();
    world.retract("bob", "demo/1", &[]).await.expect_ok();
    for world in [world.reopen().await] {
        let served = world.app.served();
        assert!(served.view.tombstones.len() <= 1_000, "{}", served.view.tombstones.len());
        assert!(!served.view.archives.is_empty());
        assert_eq!(served.tombstones.len(), 1_301);
        for serial in [1u64, 700, 1_300] {
            let sha256 = crate::draft::sha256_of(&serial.to_be_bytes());
            assert_eq!(served.retracted_by(&sha256), Some(serial));
        }
        let archive = &served.view.archives[0];
        let url = format!("/tuf/targets/retractions/{}.archive-0001", archive.document.sha256);
        let bytes = world.fetch(&url, &[]).await.expect_ok().body.clone();
        assert_eq!(archive.read(&bytes).unwrap().len() as u64, archive.count());
        assert!(!String::from_utf8_lossy(&bytes).contains("it eats files"), "hashes and names only");
    }
}
