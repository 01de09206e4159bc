//! What people get wrong gets a clear error that says what to do, the right exit code or problem, and loses nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

use sluice_tests::{programs, world, world_with};
use sluice_xtask::lab::world::World;
use sluice_xtask::lab::{Person, Said, packages, said};
use std::path::PathBuf;
use std::process::Command;

/// The exit code of `sluice` for what the server refused.
const REFUSED: i32 = 1;
/// The exit code of `sluice` for a server that cannot be reached.
const UNREACHABLE: i32 = 3;

#[track_caller]
fn expect(answer: &Said, code: i32, words: &[&str]) {
    let text = format!("{}{}", answer.out, answer.err).to_lowercase();
    assert_eq!(answer.code, code, "{text}");
    for word in words {
        assert!(text.contains(&word.to_lowercase()), "{word:?} is not in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

fn deb(world: &World) -> packages::Version {
    packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 1 << 20).unwrap()
}

fn patch_count(world: &World) -> usize {
    let patches = world.lab.ask(&world.bob, &["patches"]).unwrap();
    sluice_xtask::lab::world::rows(&patches, "patches").len()
}

#[test]
fn a_wrong_token_an_unknown_ring_and_a_wrong_role_are_refused_with_the_next_step() {
    let world = world("bad-admin").unwrap();
    let stranger = Person { name: "eve", token: "slp1-0000000000000000-".to_owned() + &"0".repeat(64) };
    expect(&world.lab.say(&stranger, &["patches"]).unwrap(), REFUSED, &["token", "sluice login"]);
    world.publish("demo", &deb(&world), "high", "CVE-2026-10001").unwrap();
    let answer = world.lab.say(&world.bob, &["approve", "demo/1.0-1", "--ring", "moon"]).unwrap();
    expect(&answer, REFUSED, &["moon", "production"]);
    let answer = world.lab.say(&world.alice, &["retract", "demo/1.0-1", "--reason", "x"]).unwrap();
    expect(&answer, REFUSED, &["retractor"]);
    let answer = world.lab.say(&world.bob, &["approve", "nothing/1", "--ring", "pilot"]).unwrap();
    expect(&answer, REFUSED, &["nothing/1"]);
    let answer = world.lab.say(&world.bob, &["site", "add", "Ly on", "--boundary", "10.0.0.0/8"]).unwrap();
    expect(&answer, 2, &["site name"]);
    assert_eq!(patch_count(&world), 1);
}

#[test]
fn what_is_not_a_package_or_has_another_digest_leaves_nothing_behind() {
    let world = world("bad-publish").unwrap();
    let file = world.lab.dir().join("notes.deb");
    std::fs::write(&file, "these are notes, not a package").unwrap();
    let publish = |path: &PathBuf, name: &str| {
        let path = path.display().to_string();
        let arguments = ["publish", &path, "--name", name, "--patch-version", "1", "--severity", "low"];
        world.lab.say(&world.alice, &arguments).unwrap()
    };
    expect(&publish(&file, "notes"), REFUSED, &["notes.deb", ".deb"]);
    expect(&publish(&world.lab.dir().join("absent.deb"), "absent"), 4, &["absent.deb"]);
    expect(&publish(&file, "../etc"), 2, &["patch name"]);
    let version = deb(&world);
    let wrong = upload(&world, &std::fs::read(&version.debs[0].path).unwrap(), None);
    let body = format!(
        r#"{{"name":"demo","version":"1","severity":"low","artifacts":[{{"upload":"{wrong}","file_name":"demo.deb","sha256":"{}"}}]}}"#,
        "00".repeat(32)
    );
    let (status, text) = post(&world, "/v1/patches", &body);
    assert_eq!(status, 422, "{text}");
    assert!(text.contains("digest-mismatch"), "{text}");
    let body = body.replace("demo.deb", "../demo.deb");
    let (status, text) = post(&world, "/v1/patches", &body);
    assert!((400..500).contains(&status) && text.contains("../demo.deb"), "{status} {text}");
    assert_eq!(patch_count(&world), 0);
}

#[test]
fn a_truncated_upload_is_named_and_can_be_finished() {
    let world = world("bad-upload").unwrap();
    let version = deb(&world);
    let bytes = std::fs::read(&version.debs[0].path).unwrap();
    let half = upload(&world, &bytes, Some(bytes.len() / 2));
    let body = format!(
        r#"{{"name":"demo","version":"1","severity":"low","artifacts":[{{"upload":"{half}","file_name":"demo.deb","sha256":"{}"}}]}}"#,
        version.debs[0].sha256
    );
    let (status, text) = post(&world, "/v1/patches", &body);
    assert_eq!(status, 409, "{text}");
    assert!(text.contains("upload-incomplete"), "{text}");
    let (status, text) = patch(&world, &half, bytes.len() / 4, &bytes[bytes.len() / 2..]);
    assert_eq!(status, 409, "an upload went on from a wrong offset: {text}");
    let (status, text) = patch(&world, &half, bytes.len() / 2, &bytes[bytes.len() / 2..]);
    assert_eq!(status, 204, "{text}");
    let (status, text) = post(&world, "/v1/patches", &body);
    assert_eq!(status, 201, "{text}");
    assert_eq!(patch_count(&world), 1);
}

#[test]
fn an_enrolment_token_that_expired_was_used_or_is_for_something_else_is_refused() {
    let world = world("bad-token").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    let short = ["token", "new", "--kind", "node", "--site", "lyon", "--valid-secs", "1"];
    let token = world.lab.ask(&world.bob, &short).unwrap()["token"].as_str().unwrap().to_owned();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let join = |token: &str, folder: &str| said(&mut world.join(token, &world.lab.dir().join(folder))).unwrap();
    expect(&join(&token, "late"), 1, &["expired", "token new"]);
    let token = world.node_token("lyon").unwrap();
    expect(&join(&token, "first"), 0, &[]);
    expect(&join(&token, "second"), 1, &["used", "token new"]);
    expect(&join("slt1-what", "third"), 1, &["slt1-", "token new"]);
    let endpoint = world.endpoint_token("lyon", "pilot").unwrap();
    expect(&join(&endpoint, "fourth"), 1, &["endpoint"]);
    let foreign = {
        let mut parts: Vec<String> = world.node_token("lyon").unwrap().split('-').map(str::to_owned).collect();
        parts[3] = "0".repeat(32);
        parts.join("-")
    };
    expect(&join(&foreign, "fifth"), 1, &["root"]);
    let answer = world.lab.say(&world.bob, &["token", "new", "--kind", "endpoint", "--site", "lyon"]).unwrap();
    assert!(answer.code == REFUSED || answer.code == 2, "{}", answer.err);
    assert!(answer.err.contains("ring"), "{}", answer.err);
}

#[test]
fn a_stopped_repository_and_a_port_in_use_are_named() {
    let mut world = world("bad-ports").unwrap();
    let taken = world.repo_listening().unwrap().http.clone();
    let second = world.lab.dir().join("second");
    let mut init = world.lab.program("sluice-repo");
    expect(&said(init.args(["init", "--dev", "--data"]).arg(&second)).unwrap(), 0, &["slp1-", "dev"]);
    let mut serve = world.lab.program("sluice-repo");
    serve.args(["serve", "--data"]).arg(&second).env("SLUICE_LISTEN_HTTP", &taken);
    serve.env("SLUICE_LISTEN_DEVICE", "127.0.0.1:0").env("SLUICE_LISTEN_OVERLAY", "127.0.0.1:0");
    expect(&said(&mut serve).unwrap(), 1, &[&taken, "in use"]);
    world.lab.terminate("repo").unwrap();
    expect(&world.lab.say(&world.bob, &["status"]).unwrap(), UNREACHABLE, &[&taken]);
}

#[test]
fn init_refuses_what_it_cannot_do_and_what_would_be_lost() {
    let folder = std::env::temp_dir().join(format!("sluice-test-init-{}", std::process::id()));
    let init = |arguments: &[&str]| {
        let mut command = Command::new(programs().unwrap().join("sluice-repo"));
        said(command.arg("init").args(arguments).arg("--data").arg(&folder)).unwrap()
    };
    expect(&init(&[]), 2, &["--dev"]);
    assert!(!folder.exists(), "plain init left something behind");
    expect(&init(&["--dev", "--rings", "pilot,Pilot!"]), 2, &["ring name"]);
    expect(&init(&["--dev", "--rings", "pilot,production"]), 0, &["slp1-"]);
    expect(&init(&["--dev"]), 1, &[&folder.display().to_string()]);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_full_disk_refuses_the_upload_and_keeps_everything_else() {
    // The reserve is larger than any disk, so that the disk counts as full without filling the machine's.
    let world = world_with("bad-disk", &[("SLUICE_STORE_RESERVE_BYTES", "1000000000000000")]).unwrap();
    let path = deb(&world).debs[0].path.display().to_string();
    let arguments = ["publish", &path, "--name", "demo", "--patch-version", "1", "--severity", "low"];
    expect(&world.lab.say(&world.alice, &arguments).unwrap(), REFUSED, &["room"]);
    assert_eq!(patch_count(&world), 0);
}

fn call(world: &World, arguments: &[&str]) -> (u16, String, String) {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "30", "-D", "-", "--write-out", "\n%{http_code}"]);
    curl.args(["-H", &format!("Authorization: Bearer {}", world.alice.token)]).args(arguments);
    let text = said(&mut curl).unwrap().out;
    let (rest, status) = text.rsplit_once('\n').unwrap();
    let (head, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
    (status.parse().unwrap(), head.to_owned(), body.to_owned())
}

fn post(world: &World, path: &str, body: &str) -> (u16, String) {
    let url = format!("{}{path}", world.lab.url());
    let (status, _, text) = call(world, &["-H", "Content-Type: application/json", "-H", "Expect:", "-d", body, &url]);
    (status, text)
}

/// Sends bytes at `offset` of an upload.
fn patch(world: &World, id: &str, offset: usize, bytes: &[u8]) -> (u16, String) {
    let file = world.lab.dir().join("body");
    std::fs::write(&file, bytes).unwrap();
    let url = format!("{}/v1/uploads/{id}", world.lab.url());
    let data = format!("@{}", file.display());
    let offset = format!("Upload-Offset: {offset}");
    let kind = "Content-Type: application/offset+octet-stream";
    let headers = ["-X", "PATCH", "-H", "Tus-Resumable: 1.0.0", "-H", "Expect:", "-H", &offset, "-H", kind];
    let arguments: Vec<&str> = headers.into_iter().chain(["--data-binary", &data, &url]).collect();
    let (status, _, text) = call(world, &arguments);
    (status, text)
}

/// Creates an upload and sends all of `bytes`, or only the first `only`; returns its id.
fn upload(world: &World, bytes: &[u8], only: Option<usize>) -> String {
    let url = format!("{}/v1/uploads", world.lab.url());
    let length = format!("Upload-Length: {}", bytes.len());
    let (status, head, body) = call(world, &["-X", "POST", "-H", "Tus-Resumable: 1.0.0", "-H", &length, &url]);
    assert_eq!(status, 201, "{body}");
    let location = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().starts_with("location:").then(|| line[9..].trim().to_owned()));
    let id = location.unwrap().rsplit('/').next().unwrap().to_owned();
    let (status, text) = patch(world, &id, 0, &bytes[..only.unwrap_or(bytes.len())]);
    assert_eq!(status, 204, "{text}");
    id
}
