//! Uploads: resumed at the durable offset, owned by one person, bounded.

use super::world::{World, noise, request};
use crate::operations::upload;
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use sluice_repo_store::uploads;

#[tokio::test]
async fn an_upload_is_resumed_where_its_connection_broke_and_after_a_restart() {
    let world = World::new().await;
    let bytes = noise(1, 3 << 20);
    let id = begin(&world, bytes.len() as u64).await;
    let broken = stream::iter(vec![
        Ok(Bytes::from(bytes[..1 << 20].to_vec())),
        Err(std::io::Error::other("the cable was pulled")),
    ]);
    let answer = world.append("paul", &id, 0, Body::from_stream(broken)).await;
    answer.expect(409, "upload-incomplete", &["HEAD"]);
    let world = world.reopen().await;
    let head = world.head_upload("paul", &id).await;
    assert_eq!((head.status.as_u16(), head.header("upload-offset")), (200, "1048576"));
    assert_eq!((head.header("upload-length"), head.header("cache-control")), ("3145728", "no-store"));
    let wrong = world.append("paul", &id, 0, Body::from(bytes.clone())).await;
    wrong.expect(409, "conflict", &["1048576"]);
    let rest = world.append("paul", &id, 1 << 20, Body::from(bytes[1 << 20..].to_vec())).await;
    assert_eq!((rest.status.as_u16(), rest.header("upload-offset")), (204, "3145728"));
    assert_eq!(std::fs::read(upload::part_path(&world.app, &id)).unwrap(), bytes);
}

#[tokio::test]
async fn bytes_behind_the_durable_offset_are_written_again() {
    let world = World::new().await;
    let id = begin(&world, 20).await;
    world.append("paul", &id, 0, Body::from("0123456789")).await.expect_ok();
    // What a crash leaves: bytes in the file that were never acknowledged.
    std::fs::write(upload::part_path(&world.app, &id), "0123456789garbage").unwrap();
    world.append("paul", &id, 10, Body::from("abc")).await.expect_ok();
    assert_eq!(std::fs::read(upload::part_path(&world.app, &id)).unwrap(), b"0123456789abc");
}

#[tokio::test]
async fn an_upload_belongs_to_one_person_and_is_gone_when_he_removes_it() {
    let world = World::new().await;
    let id = begin(&world, 10).await;
    assert_eq!(world.head_upload("alice", &id).await.status.as_u16(), 404);
    world.append("alice", &id, 0, Body::from("x")).await.expect(404, "not-found", &[]);
    let remove = |person| request(person, "DELETE", &format!("/v1/uploads/{id}")).body(Body::empty()).unwrap();
    world.send(remove("alice")).await.expect(404, "not-found", &[]);
    assert_eq!(world.send(remove("paul")).await.status.as_u16(), 204);
    assert_eq!(world.head_upload("paul", &id).await.status.as_u16(), 404);
    assert!(!upload::part_path(&world.app, &id).exists());
}

#[tokio::test]
async fn an_upload_has_its_bounds() {
    let world = World::new().await;
    world.begin_upload("paul", (64 << 30) + 1).await.expect(413, "too-large", &[]);
    world.begin_upload("paul", 0).await.expect(422, "invalid", &[]);
    world.begin_upload("bob", 10).await.expect(403, "forbidden", &["publisher"]);
    let id = begin(&world, 4).await;
    world.append("paul", &id, 0, Body::from("12345")).await.expect(413, "too-large", &["4"]);
    assert_eq!(world.head_upload("paul", &id).await.header("upload-offset"), "0");
    let builder = request("paul", "PATCH", &format!("/v1/uploads/{id}")).header("upload-offset", 0);
    world.send(builder.body(Body::from("1")).unwrap()).await.expect(400, "malformed", &["Content-Type"]);
    let old = axum::http::Request::post("/v1/uploads").header("authorization", bearer()).header("upload-length", 4);
    world.send(old.body(Body::empty()).unwrap()).await.expect(412, "precondition-failed", &["1.0.0"]);
    let options = axum::http::Request::options("/v1/uploads").body(Body::empty()).unwrap();
    assert_eq!(world.send(options).await.header("tus-version"), "1.0.0");
}

#[tokio::test]
async fn an_upload_that_finds_no_room_is_refused_before_it_begins() {
    let world = World::with(|settings| settings.store.reserve_bytes = 1 << 60).await;
    world.begin_upload("paul", 10).await.expect(507, "full", &["reserve"]);
    assert_eq!(world.app.store.read(uploads::count).unwrap(), 0);
}

#[tokio::test]
async fn a_day_old_upload_and_files_of_nobody_are_swept() {
    let world = World::new().await;
    let id = begin(&world, 10).await;
    let mut record = world.app.store.read(|tx| uploads::get(tx, &id)).unwrap().unwrap();
    record.created_at = sluice_model::Timestamp::from_millis(1);
    world.app.store.write(|tx| uploads::put(tx, &record)).unwrap();
    assert_eq!(world.head_upload("paul", &id).await.status.as_u16(), 404);
    let fresh = begin(&world, 10).await;
    // An upload that a request still holds is left for the next sweep.
    for _ in 0..100 {
        upload::sweep(&world.app).await.unwrap();
        if !upload::part_path(&world.app, &id).exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!upload::part_path(&world.app, &id).exists());
    assert!(upload::part_path(&world.app, &fresh).exists());
    assert_eq!(world.app.store.read(uploads::count).unwrap(), 1);
}

async fn begin(world: &World, length: u64) -> String {
    let begun = world.begin_upload("paul", length).await;
    assert_eq!(begun.status.as_u16(), 201, "{}", begun.text());
    begun.header("location").rsplit('/').next().unwrap().to_owned()
}

fn bearer() -> String {
    let built = request("paul", "POST", "/").body(Body::empty()).unwrap();
    built.headers()["authorization"].to_str().unwrap().to_owned()
}
