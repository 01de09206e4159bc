//! The program as its operator meets it: it starts, says where it is, stops in time, and names what is wrong.

mod support;

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;
use support::{PROGRAM, Repo, now, serve};

#[tokio::test]
async fn it_says_where_it_listens_and_what_to_do_next_and_stops_cleanly_on_sigterm() {
    let mut repo = Repo::start().await;
    let log = repo.log();
    for words in [&repo.url, "profile dev", "sluice login", &repo.data().display().to_string()] {
        assert!(log.contains(words), "{words:?} is not in: {log}");
    }
    let status = repo.json(&repo.admin, "/v1/status").await;
    assert_eq!(status["profile"], "dev");
    // A request that never ends must not hold the program.
    let upload = repo.person("paul", &["publisher"]).await;
    let id = repo.begin_upload(&upload, 1_000).await;
    let endless = futures::stream::unfold(0, |sent| async move {
        tokio::time::sleep(Duration::from_millis(if sent == 0 { 0 } else { 3_600_000 })).await;
        Some((Ok::<_, std::io::Error>(vec![1u8; 10]), sent + 1))
    });
    let mut hanging = tokio::task::JoinSet::new();
    hanging.spawn(repo.append(&upload, &id, 0).body(reqwest::Body::wrap_stream(endless)).send());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = now();
    let ended = repo.terminate().await;
    assert!(ended.success(), "{ended}: {}", repo.log());
    assert!(now() - began < Duration::from_secs(10), "{:?}", now() - began);
    assert!(!repo.data().join("listening.json").exists());
    repo.serve().await;
    assert_eq!(repo.offset(&upload, &id).await, 10, "what had arrived was kept");
}

#[tokio::test]
async fn a_port_in_use_a_folder_in_use_and_a_folder_without_a_repository_are_named() {
    let mut repo = Repo::start().await;
    let refused = |mut command: Command, words: &[&str]| {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
    };
    refused(serve(&repo.data(), "127.0.0.1:0"), &["another sluice-repo", "repo.redb"]);
    refused(serve(&repo.dir.path().join("nothing"), "127.0.0.1:0"), &["nothing", "init --dev"]);
    repo.terminate().await;
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = holder.local_addr().unwrap().to_string();
    refused(serve(&repo.data(), &held), &[&held, "in use", "listen.http"]);
    let mut device = serve(&repo.data(), "127.0.0.1:0");
    device.env("SLUICE_LISTEN_HTTPS", "x");
    refused(device, &["SLUICE_LISTEN_HTTPS"]);
}

#[test]
fn init_without_dev_names_it_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("repo");
    let output = Command::new(PROGRAM).args(["init", "--data"]).arg(&data).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--dev"));
    assert!(!data.exists());
}

#[test]
fn init_keeps_its_secrets_private_and_refuses_a_folder_that_holds_something() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let init = |rings: &str| {
        Command::new(PROGRAM).args(["init", "--dev", "--rings", rings, "--data"]).arg(dir.path()).output().unwrap()
    };
    assert_eq!(init("pilot,Production!").status.code(), Some(2));
    let too_often = init("pilot,pilot");
    assert_eq!(too_often.status.code(), Some(1));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a failed init leaves nothing");
    assert!(init("pilot,production").status.success());
    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    for secret in ["device.key", "keys/root.key", "keys/timestamp.key", "keys/rel-pilot.key"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    assert_eq!((mode("keys"), mode("uploads"), mode("content")), (0o700, 0o700, 0o700));
    let again = init("pilot");
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("not empty"));
}

#[test]
fn the_openapi_document_is_printed() {
    let output = Command::new(PROGRAM).arg("openapi").output().unwrap();
    assert!(output.status.success());
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["paths"]["/v1/patches"]["post"].is_object());
}
