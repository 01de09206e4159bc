//! Approving: by somebody else, into a ring, and what clients then see.

use super::world::{World, sha256};
use axum::body::Body;
use axum::http::Request;
use sluice_metadata::{Profile, Trusted, View};
use sluice_repo_store::audit;

#[tokio::test]
async fn a_publisher_cannot_approve_what_he_published() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 1_000);
    world.publish("alice", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
    world.approve("alice", "demo/1", "pilot").await.expect(403, "separation-of-duties", &["alice"]);
    world.approve("paul", "demo/1", "pilot").await.expect(403, "forbidden", &["approver"]);
    world.approve("bob", "demo/1", "moon").await.expect(422, "invalid", &["moon", "production"]);
    world.approve("bob", "demo/2", "pilot").await.expect(404, "not-found", &["demo/2"]);
    world.approve("bob", "demo/1", "pi lot").await.expect(422, "invalid", &["ring name"]);
    assert!(world.app.served().view.releases.values().all(Vec::is_empty));
}

#[tokio::test]
async fn an_approval_is_signed_served_and_verified_by_a_client_from_nothing() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 400_000);
    world.publish("paul", "demo/1", &[("demo_1~rc1_all.deb", &deb)]).await.expect_ok();
    let patch = world.approve("bob", "demo/1", "production").await;
    assert_eq!(patch.expect_ok().json()["state"], "released");
    let again = world.approve("bob", "demo/1", "production").await;
    assert_eq!(again.expect_ok().json(), patch.json(), "a second approval changes nothing");

    let trusted = walk(&world).await;
    let view = View::of(&trusted).unwrap();
    let row = &view.releases[&"production".parse().unwrap()][0];
    assert_eq!(row.target.as_str(), "patches/production/demo_1_rc1_all.deb");
    assert_eq!((row.sha256.to_hex(), row.custom.approved_serial), (sha256(&deb), 1));
    assert_eq!(u64::from(patch.json()["approvals"][0]["release_version"].as_u64().unwrap() as u32), 2);
    let hash = row.sha256;
    for path in [
        format!("/tuf/targets/patches/production/{hash}.demo_1_rc1_all.deb"),
        format!("/tuf/targets/{hash}.patches/production/demo_1_rc1_all.deb"),
        format!("/content/sha256/{hash}"),
        format!("/content/blake3/{}", row.custom.blake3),
    ] {
        let got = world.fetch(&path, &[]).await;
        assert_eq!(got.status.as_u16(), 200, "{path}: {}", got.text());
        assert_eq!(got.body, deb, "{path}");
    }
    world.fetch(&format!("/tuf/targets/patches/pilot/{hash}.demo_1_rc1_all.deb"), &[]).await.expect(
        404,
        "not-found",
        &[],
    );
    let line = world.app.store.read(|tx| audit::list(tx, 0, 99)).unwrap().pop().unwrap();
    assert_eq!((line.act.action.as_str(), line.act.who.as_str()), ("patch.approve", "bob"));
}

#[tokio::test]
async fn ranges_conditions_and_head_are_answered() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 1_500_000);
    world.publish("paul", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
    world.approve("bob", "demo/1", "production").await.expect_ok();
    let path = format!("/content/sha256/{}", sha256(&deb));
    let whole = world.fetch(&path, &[]).await;
    let etag = whole.header("etag").to_owned();
    assert_eq!(etag, format!("\"sha256:{}\"", sha256(&deb)));
    assert_eq!(whole.header("accept-ranges"), "bytes");
    let part = world.fetch(&path, &[("range", "bytes=300000-1300000")]).await;
    assert_eq!((part.status.as_u16(), &part.body[..]), (206, &deb[300_000..=1_300_000]));
    assert_eq!(part.header("content-range"), format!("bytes 300000-1300000/{}", deb.len()));
    let resumed = world.fetch(&path, &[("range", "bytes=1400000-"), ("if-range", &etag)]).await;
    assert_eq!((resumed.status.as_u16(), &resumed.body[..]), (206, &deb[1_400_000..]));
    let parts = world.fetch(&path, &[("range", "bytes=0-9,1000000-1000009")]).await;
    assert_eq!(parts.status.as_u16(), 206);
    assert_eq!(parts.header("content-length").parse::<usize>().unwrap(), parts.body.len());
    assert!(parts.header("content-type").starts_with("multipart/byteranges"));
    let beyond = world.fetch(&path, &[("range", "bytes=99999999-")]).await;
    beyond.expect(416, "range-not-satisfiable", &[&deb.len().to_string()]);
    assert_eq!(world.fetch(&path, &[("if-none-match", &etag)]).await.status.as_u16(), 304);
    let head = world.send(Request::head(&path).body(Body::empty()).unwrap()).await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, deb.len().to_string().as_str()));
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn a_plain_client_has_only_the_rings_of_its_network() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 1_000);
    world.publish("paul", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
    let path = format!("/content/sha256/{}", sha256(&deb));
    world.fetch(&path, &[]).await.expect(404, "not-found", &[]);
    world.approve("bob", "demo/1", "pilot").await.expect_ok();
    world.fetch(&path, &[]).await.expect(403, "ring-closed", &["pilot"]);
    assert_eq!(world.get("bob", &path).await.body, deb);
    world.approve("bob", "demo/1", "production").await.expect_ok();
    assert_eq!(world.fetch(&path, &[]).await.body, deb);
}

#[tokio::test]
async fn a_newer_approval_supersedes_and_a_file_name_is_given_once() {
    let world = World::new().await;
    let (one, two) = (world.deb("demo", "1", 1, 1_000), world.deb("demo", "2", 2, 1_000));
    world.publish("paul", "demo/1", &[("demo_1.deb", &one)]).await.expect_ok();
    world.publish("paul", "demo/2", &[("demo_2.deb", &two)]).await.expect_ok();
    let other = world.deb("other", "1", 3, 1_000);
    world.publish("paul", "other/1", &[("demo_1.deb", &other)]).await.expect_ok();
    world.approve("bob", "demo/1", "pilot").await.expect_ok();
    world.approve("bob", "demo/2", "pilot").await.expect_ok();
    let state = async |patch: &str| world.get("bob", &format!("/v1/patches/{patch}")).await.json()["state"].clone();
    assert_eq!(state("demo/1").await, "superseded");
    assert_eq!(state("demo/2").await, "released");
    let clash = world.approve("bob", "other/1", "pilot").await;
    clash.expect(409, "conflict", &["demo_1.deb", "demo/1"]);
    assert_eq!(state("other/1").await, "draft");
    let list = world.get("bob", "/v1/patches").await.json();
    assert_eq!(list["patches"].as_array().unwrap().len(), 3);
    assert_eq!(list["patches"][0]["name"], "other");
}

/// The client's walk from the first root, over HTTP, verifying everything.
async fn walk(world: &World) -> Trusted {
    let fetch = async |file: &str| world.fetch(&format!("/tuf/metadata/{file}"), &[]).await;
    let root = fetch("1.root.json").await.body;
    let mut trusted = Trusted::new(&root, Profile::Strict).unwrap();
    assert_eq!(fetch(&trusted.next_root().file).await.status.as_u16(), 404);
    let now = crate::clock::timestamp();
    let wanted = trusted.next_timestamp();
    trusted.accept(&wanted, &fetch(&wanted.file).await.body, now).unwrap();
    loop {
        let needed = trusted.next_needed();
        if needed.is_empty() {
            return trusted;
        }
        for wanted in needed {
            trusted.accept(&wanted, &fetch(&wanted.file).await.body, now).unwrap();
        }
    }
}
