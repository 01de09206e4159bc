//! The audit log from outside: the signed head, proofs for witnesses, and an export that stands by itself.

use super::world::World;
use serde_json::json;
use sluice_api::audit::LogConsistency;
use sluice_audit::{Anchor, Checker, Event, verify_consistency};
use sluice_metadata::Trusted;
use sluice_model::LogHead;

fn trusted(world: &World) -> Trusted {
    let served = world.app.served();
    let root = served.files.get("1.root.json").unwrap();
    let mut trusted = Trusted::new(root, sluice_metadata::Profile::Strict).unwrap();
    let timestamp = served.files.get("timestamp.json").unwrap();
    trusted.accept(&trusted.next_timestamp(), timestamp, crate::clock::timestamp()).unwrap();
    trusted
}

fn head(world: &World) -> LogHead {
    trusted(world).log_head().expect("the timestamp signs the log's head")
}

// proves: A8
#[tokio::test]
async fn an_export_verifies_with_the_root_alone_and_tells_what_was_done() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 1_000);
    world.publish("paul", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
    world.approve("bob", "demo/1", "pilot").await.expect_ok();
    for _ in 0..400 {
        world.app.authority.renew().await.unwrap();
    }
    world.approve("paul", "demo/1", "production").await.expect(403, "forbidden", &[]);
    world.get("paul", "/v1/audit/export").await.expect(403, "forbidden", &["auditor"]);
    let export = world.get("bob", "/v1/audit/export").await;
    export.expect_ok();
    let root = world.app.served().files.get("1.root.json").unwrap().to_vec();
    let mut checker = Checker::new(Anchor::Root(root), Vec::new());
    let (mut actions, mut files) = (Vec::new(), 0);
    for line in export.body.split_inclusive(|byte| *byte == b'\n') {
        match checker.push(line).unwrap().map(|entry| entry.event) {
            Some(Event::Act(act)) => actions.push((act.action, act.done)),
            Some(Event::Signed(_)) => files += 1,
            Some(Event::Gap(_)) | None => {}
        }
    }
    let verdict = checker.finish().unwrap();
    assert_eq!(verdict.last.head, head(&world), "the newest timestamp covers all of it");
    assert!(verdict.heads < 20, "renewals leave no heads behind: {}", verdict.heads);
    assert!(files > 400, "{files}");
    for wanted in ["repository.init", "patch.publish", "patch.approve", "audit.export"] {
        assert!(actions.iter().any(|(action, done)| action == wanted && *done), "{wanted}: {actions:?}");
    }
    assert!(actions.contains(&("access".to_owned(), false)), "a refusal is told too");
}

#[tokio::test]
async fn the_head_covers_the_change_that_it_was_signed_with_and_continues_every_head_before() {
    let world = World::new().await;
    let mut heads = vec![head(&world)];
    for name in ["lyon", "brno", "oslo"] {
        world.add_site(name, "10.9.0.0/16").await;
        heads.push(head(&world));
        world.app.authority.renew().await.unwrap();
        heads.push(head(&world));
    }
    for pair in heads.windows(2) {
        assert!(pair[0].size < pair[1].size, "{heads:?}");
    }
    for (at, from) in heads.iter().enumerate() {
        for to in &heads[at..] {
            let path = format!("/tuf/log/consistency?from={}&to={}", from.size, to.size);
            let proof: LogConsistency =
                serde_json::from_value(world.fetch(&path, &[]).await.expect_ok().json()).unwrap();
            verify_consistency(from, to, &proof.hashes).unwrap();
        }
    }
    let last = heads.last().unwrap().size;
    for query in [format!("from=1&to={}", last + 100), "from=3&to=2".to_owned()] {
        world.fetch(&format!("/tuf/log/consistency?{query}"), &[]).await.expect(404, "not-found", &["signed"]);
    }
    world.fetch("/tuf/log/consistency?from=1", &[]).await.expect(422, "invalid", &["to"]);
}

#[tokio::test]
async fn a_log_that_was_rewritten_on_the_server_proves_nothing_to_who_saw_it_before() {
    let world = World::new().await;
    world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    let seen = head(&world);
    // Somebody with the database and the keys makes another history of the same length.
    let other = World::new().await;
    other.add_site("brno", "10.2.0.0/16").await.expect_ok();
    while head(&other).size <= seen.size {
        other.app.authority.renew().await.unwrap();
    }
    let forged = head(&other);
    let path = format!("/tuf/log/consistency?from={}&to={}", seen.size, forged.size);
    let proof: LogConsistency = serde_json::from_value(other.fetch(&path, &[]).await.expect_ok().json()).unwrap();
    assert!(verify_consistency(&seen, &forged, &proof.hashes).is_err());
}

#[tokio::test]
async fn what_waits_for_a_second_person_is_listed_and_taken_back_by_who_asked() {
    let world = World::new().await;
    assert_eq!(world.get("bob", "/v1/requests").await.json(), json!({ "requests": [] }));
}
