//! The program itself: wrong use and a missing repository are told apart, in words that say what to do.

#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn node(arguments: &[&str], data: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice-node"))
        .args(arguments)
        .arg("--data")
        .arg(data)
        .env_remove("SLUICE_TOKEN")
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Well formed; nobody issued it.
fn token() -> String {
    format!("slt1-{}-{}-{}", "01".repeat(8), "02".repeat(32), "03".repeat(16))
}

#[test]
fn a_folder_that_never_joined_is_told_to_join() {
    let dir = tempfile::tempdir().unwrap();
    let output = node(&["serve"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("sluice-node join --repository"), "{}", said(&output));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made there");
}

#[test]
fn a_text_that_is_no_token_is_refused_without_being_shown() {
    let dir = tempfile::tempdir().unwrap();
    let output = node(&["join", "--repository", "http://127.0.0.1:1", "--token", "s3cret"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("not an enrolment token"), "{}", said(&output));
    assert!(!said(&output).contains("s3cret"));
}

#[test]
fn a_repository_that_does_not_answer_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // Bound and closed again: nobody listens there now.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    let output = node(&["join", "--repository", &url, "--token", &token()], dir.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains(&url), "{}", said(&output));
    assert!(said(&output).contains("check that the server is running"), "{}", said(&output));
}

#[test]
fn a_setting_that_does_not_exist_is_named_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "[cache]\nreserve = 1\n").unwrap();
    let output = node(&["serve", "--config", file.to_str().unwrap()], dir.path());
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("reserve") && said.contains("node.toml"), "{said}");
}

#[test]
fn wrong_use_has_its_own_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(node(&["serve", "--nonsense"], dir.path()).status.code(), Some(2));
    assert_eq!(node(&["join"], dir.path()).status.code(), Some(2));
}
