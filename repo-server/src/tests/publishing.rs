//! Publishing: packages only, with the promised digest, once.

use super::world::{World, sha256};
use axum::body::Body;
use serde_json::json;
use sluice_repo_store::{audit, patches};

#[tokio::test]
async fn a_published_patch_is_a_draft_with_its_packages_and_an_audit_line() {
    let world = World::new().await;
    let (one, two) = (world.deb("liba", "1.0-1", 1, 300_000), world.deb("appa", "1.0-1", 2, 1_000));
    let files = [("liba_1.0-1_all.deb", one.as_slice()), ("appa_1.0-1_all.deb", two.as_slice())];
    let answer = world.publish("paul", "demo/1.0-1", &files).await;
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
    let patch = answer.json();
    assert_eq!((&patch["state"], &patch["published_by"]), (&json!("draft"), &json!("paul")));
    assert_eq!(patch["artifacts"][0]["package"], "liba");
    assert_eq!(patch["artifacts"][0]["sha256"], sha256(&one));
    assert_eq!(patch["artifacts"][0]["blake3"], blake3::hash(&one).to_hex().as_str());
    assert_eq!(patch["artifacts"][1]["length"], two.len());
    let world = world.reopen().await;
    assert_eq!(world.get("bob", "/v1/patches/demo/1.0-1").await.json(), patch);
    assert_eq!(world.app.content.artifacts().len(), 2);
    assert_eq!(parts(&world), 0, "the uploads were used up");
    let lines = world.app.store.read(|tx| audit::list(tx, 0, 10)).unwrap();
    let line = lines.last().unwrap();
    assert_eq!(
        (line.act.action.as_str(), line.act.subject.as_str(), line.act.who.as_str()),
        ("patch.publish", "demo/1.0-1", "paul")
    );
}

#[tokio::test]
async fn the_same_content_again_is_the_same_patch_and_other_content_a_conflict() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 1_000);
    let first = world.publish("paul", "demo/1", &[("demo_1.deb", &deb)]).await;
    let again = world.publish("alice", "demo/1", &[("demo_1.deb", &deb)]).await;
    assert_eq!((again.status.as_u16(), again.json()), (201, first.json()));
    assert_eq!(parts(&world), 0);
    let other = world.deb("demo", "1", 2, 1_000);
    let conflict = world.publish("paul", "demo/1", &[("demo_1.deb", &other)]).await;
    conflict.expect(409, "conflict", &["demo/1"]);
    assert_eq!(world.app.content.artifacts().len(), 1);
}

#[tokio::test]
async fn a_wrong_digest_is_refused_and_leaves_the_upload_and_nothing_else() {
    let world = World::new().await;
    let (good, bad) = (world.deb("good", "1", 1, 1_000), world.deb("bad", "1", 2, 1_000));
    let mut new = world.new_patch("paul", "demo/1", &[("good.deb", &good), ("bad.deb", &bad)]).await;
    new["artifacts"][1]["sha256"] = json!("00".repeat(32));
    let refused = world.post("paul", "/v1/patches", &new).await;
    refused.expect(422, "digest-mismatch", &["bad.deb", &sha256(&bad)]);
    assert!(world.app.content.artifacts().is_empty(), "what was cut before the refusal is gone");
    assert_eq!(world.app.store.read(patches::count).unwrap(), 0);
    assert_eq!(parts(&world), 2);
    new["artifacts"][1]["sha256"] = json!(sha256(&bad));
    world.post("paul", "/v1/patches", &new).await.expect_ok();
    assert_eq!(world.app.content.artifacts().len(), 2);
}

#[tokio::test]
async fn what_is_no_package_is_refused() {
    let world = World::new().await;
    let refused = world.publish("paul", "notes/1", &[("notes.deb", b"these are notes, not a package")]).await;
    refused.expect(422, "not-a-package", &["notes.deb"]);
    assert!(world.app.content.artifacts().is_empty());
    assert_eq!(world.app.store.read(patches::count).unwrap(), 0);
}

#[tokio::test]
async fn an_upload_that_is_not_complete_is_named_with_its_offset() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 1_000);
    let begun = world.begin_upload("paul", deb.len() as u64).await;
    let id = begun.header("location").rsplit('/').next().unwrap().to_owned();
    world.append("paul", &id, 0, Body::from(deb[..100].to_vec())).await.expect_ok();
    let artifact = json!({ "upload": id, "file_name": "demo.deb", "sha256": sha256(&deb) });
    let new = json!({ "name": "demo", "version": "1", "severity": "low", "artifacts": [artifact] });
    world.post("paul", "/v1/patches", &new).await.expect(409, "upload-incomplete", &["demo.deb", "100"]);
    world.append("paul", &id, 100, Body::from(deb[100..].to_vec())).await.expect_ok();
    world.post("paul", "/v1/patches", &new).await.expect_ok();
}

#[tokio::test]
async fn values_that_break_a_rule_are_named() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 1_000);
    let good = world.new_patch("paul", "demo/1", &[("demo.deb", &deb)]).await;
    let changed = |path: &str, value: serde_json::Value| {
        let mut new = good.clone();
        *new.pointer_mut(path).unwrap() = value;
        new
    };
    for (new, kind, status, words) in [
        (changed("/name", json!("../etc")), "invalid", 422, vec!["patch name", "../etc"]),
        (changed("/version", json!("1/2")), "invalid", 422, vec!["patch version"]),
        (changed("/severity", json!("awful")), "invalid", 422, vec!["awful"]),
        (changed("/cves", json!(["CVE-1"])), "invalid", 422, vec!["CVE"]),
        (changed("/artifacts", json!([])), "invalid", 422, vec!["1 to 64"]),
        (changed("/artifacts/0/file_name", json!("../demo.deb")), "invalid", 422, vec!["../demo.deb"]),
        (changed("/artifacts/0/file_name", json!("a/demo.deb")), "invalid", 422, vec!["a/demo.deb"]),
        (changed("/artifacts/0/upload", json!("nothing")), "not-found", 404, vec!["upload"]),
        (changed("/artifacts", json!([good["artifacts"][0], good["artifacts"][0]])), "invalid", 422, vec!["demo.deb"]),
    ] {
        world.post("paul", "/v1/patches", &new).await.expect(status, kind, &words);
    }
    let junk = super::world::request("paul", "POST", "/v1/patches").body(Body::from("{")).unwrap();
    world.send(junk).await.expect(400, "malformed", &[]);
    let large = super::world::request("paul", "POST", "/v1/patches").body(Body::from(vec![b' '; 300 << 10])).unwrap();
    world.send(large).await.expect(413, "too-large", &[]);
    world.post("paul", "/v1/patches", &good).await.expect_ok();
}

#[tokio::test]
async fn content_that_a_crash_left_without_a_patch_is_swept_at_the_start() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 1_000);
    world.publish("paul", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
    let stray = world.app.data.join("uploads/stray.import");
    std::fs::write(&stray, b"stray content").unwrap();
    world.app.content.import(&stray, None, |_| ()).await.unwrap();
    std::fs::write(&stray, b"a second name").unwrap();
    assert_eq!(world.app.content.artifacts().len(), 2);
    crate::operations::publish::sweep_content(&world.app).await.unwrap();
    assert_eq!(world.app.content.artifacts().len(), 1);
    assert!(!stray.exists());
}

fn parts(world: &World) -> usize {
    std::fs::read_dir(world.app.data.join("uploads")).unwrap().count()
}
