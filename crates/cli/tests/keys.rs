//! Keys that people hold, as the real program makes them and as OpenSSL reads them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use support::*;

/// Runs `sluice` with a passphrase on descriptor 3: a shell opens it, as an administrator's would.
fn with_passphrase(passphrase: &Path, arguments: &[&str]) -> Said {
    let mut shell = Command::new("bash");
    shell
        .args(["-c", "exec \"$0\" \"${@:2}\" 3< \"$1\"", env!("CARGO_BIN_EXE_sluice")])
        .arg(passphrase)
        .args(arguments);
    said(&mut shell, "")
}

fn openssl(arguments: &[&str], input: &[u8]) -> (bool, Vec<u8>, String) {
    let child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return (false, Vec::new(), "openssl is missing".into()) };
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn openssl_reads_the_encrypted_key_and_finds_the_same_public_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("pass"), "correct horse\n").unwrap();
    let made =
        with_passphrase(Path::new(&path("pass")), &["key", "new", "--out", &path("ann.key"), "--passphrase-fd", "3"]);
    assert_eq!(made.code, 0, "{made:?}");
    let mode = std::fs::metadata(path("ann.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let pem = std::fs::read_to_string(path("ann.key")).unwrap();
    assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is missing");
        return;
    }
    let (ok, public, error) =
        openssl(&["pkey", "-in", &path("ann.key"), "-passin", "pass:correct horse", "-pubout"], b"");
    assert!(ok, "{error}");
    assert_eq!(public, std::fs::read(path("ann.key.pub")).unwrap());
    let (ok, _, _) = openssl(&["pkey", "-in", &path("ann.key"), "-passin", "pass:wrong horse", "-pubout"], b"");
    assert!(!ok, "the check above can fail");
    let (ok, _, error) = openssl(&["pkey", "-pubin", "-in", &path("ann.key.pub"), "-noout", "-text"], b"");
    assert!(ok, "{error}");
}

#[test]
fn a_key_is_never_written_over_and_a_weak_passphrase_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("pass"), "correct horse").unwrap();
    std::fs::write(path("short"), "horse").unwrap();
    let arguments = |out: &str| ["key", "new", "--out", out, "--passphrase-fd", "3"].map(str::to_owned);
    let run = |pass: &str, out: &str| {
        let arguments = arguments(&path(out));
        with_passphrase(Path::new(&path(pass)), &arguments.each_ref().map(String::as_str))
    };
    let weak = run("short", "a.key");
    assert_eq!(weak.code, 2, "{weak:?}");
    assert!(!Path::new(&path("a.key")).exists() && !Path::new(&path("a.key.pub")).exists());
    assert_eq!(run("pass", "a.key").code, 0);
    let before = std::fs::read(path("a.key")).unwrap();
    let again = run("pass", "a.key");
    assert_eq!(again.code, 4, "{again:?}");
    assert_eq!(std::fs::read(path("a.key")).unwrap(), before);
    std::fs::remove_file(path("a.key.pub")).unwrap();
    assert_eq!(run("pass", "a.key").code, 4, "the secret is there still");
    assert!(!Path::new(&path("a.key.pub")).exists(), "nothing is left of the refused one");
}

#[test]
fn a_passphrase_is_asked_for_on_a_terminal_or_a_descriptor_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("a.key").display().to_string();
    let said = said(sluice(dir.path()).args(["key", "new", "--out", &key]), "correct horse");
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("--passphrase-fd"), "{}", said.err);
}
