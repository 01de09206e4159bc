//! What two independent verifiers of the distribution say to our signatures.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use sluice_model::Timestamp;
use sluice_openpgp::ArchiveKey;
use std::path::{Path, PathBuf};
use std::process::Command;

const TEXT: &str = "Origin: Sluice\nSuite: stable\nSHA256:\n 00 1 main/binary-all/Packages\n- dashes\n";

fn key() -> ArchiveKey {
    ArchiveKey::generate("Sluice test <archive@sluice.invalid>", at()).unwrap()
}

/// Now: a key binds itself at the moment when it is made, and no verifier takes a signature from before it.
#[expect(clippy::disallowed_methods, reason = "the verifiers go by the system's clock")]
fn at() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap())
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Writes key, `InRelease`, `Release` and `Release.gpg`.
fn files(folder: &Path, key: &ArchiveKey) -> [PathBuf; 4] {
    [
        write(folder, "key.asc", &key.public_armor().unwrap()),
        write(folder, "InRelease", &key.clear_sign(TEXT, at()).unwrap()),
        write(folder, "Release", TEXT),
        write(folder, "Release.gpg", &key.detached_sign(TEXT, at()).unwrap()),
    ]
}

/// `None` without the program.
fn run(program: &str, arguments: &[&Path]) -> Option<(bool, String)> {
    let output = match Command::new(program).args(arguments).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: {program} is not installed; cargo xtask setup installs it");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    Some((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Binary, as gpgv wants its keyring.
fn dearmored(folder: &Path, key: &Path) -> PathBuf {
    let path = folder.join("key.gpg");
    let body: String = std::fs::read_to_string(key)
        .unwrap()
        .lines()
        .skip_while(|line| !line.is_empty())
        .take_while(|line| !line.starts_with('='))
        .filter(|line| !line.starts_with('-'))
        .collect();
    let decoded = Command::new("sh").args(["-c", "printf %s \"$0\" | base64 -d", &body]).output().unwrap();
    std::fs::write(&path, decoded.stdout).unwrap();
    path
}

#[test]
fn sqv_takes_the_detached_signature_and_refuses_another_text() {
    let dir = tempfile::tempdir().unwrap();
    let [key, _, release, signature] = files(dir.path(), &key());
    let Some((is_good, said)) = run("sqv", &[Path::new("--keyring"), &key, &signature, &release]) else { return };
    assert!(is_good, "{said}");
    let changed = write(dir.path(), "changed", &TEXT.replace("stable", "unstable"));
    let (is_good, _) = run("sqv", &[Path::new("--keyring"), &key, &signature, &changed]).unwrap();
    assert!(!is_good, "sqv took a text that was not signed");
}

#[test]
fn gpgv_takes_both_forms_and_refuses_another_key_and_another_text() {
    let dir = tempfile::tempdir().unwrap();
    let [public, in_release, release, signature] = files(dir.path(), &key());
    let keyring = dearmored(dir.path(), &public);
    let option = Path::new("--keyring");
    let Some((is_good, said)) = run("gpgv", &[option, &keyring, &in_release]) else { return };
    assert!(is_good, "clear-signed: {said}");
    let (is_good, said) = run("gpgv", &[option, &keyring, &signature, &release]).unwrap();
    assert!(is_good, "detached: {said}");

    let text = std::fs::read_to_string(&in_release).unwrap();
    let changed = write(dir.path(), "changed", &text.replace("Suite: stable", "Suite: rotten"));
    assert!(!run("gpgv", &[option, &keyring, &changed]).unwrap().0, "gpgv took a text that was not signed");
    let other = write(dir.path(), "other", &self::key().clear_sign(TEXT, at()).unwrap());
    assert!(!run("gpgv", &[option, &keyring, &other]).unwrap().0, "gpgv took another key's signature");
}

#[test]
fn a_key_that_was_written_and_read_again_is_the_same_and_signs_the_same() {
    let key = key();
    let again = ArchiveKey::from_armor(&key.to_armor().unwrap()).unwrap();
    assert_eq!(again.fingerprint(), key.fingerprint());
    assert_eq!(again.public_armor().unwrap(), key.public_armor().unwrap());
    let now = at();
    assert_eq!(again.clear_sign(TEXT, now).unwrap(), key.clear_sign(TEXT, now).unwrap());
    assert!(ArchiveKey::from_armor(&key.public_armor().unwrap()).is_err(), "a public key signs nothing");
    assert!(ArchiveKey::from_armor("hello").is_err());
}
