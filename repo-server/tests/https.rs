//! HTTPS with certificates of the internal CA, as curl meets it: a foreign client with its own TLS.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use support::{PROGRAM, Repo, now};

fn https(repo: &Repo) -> String {
    let listening = std::fs::read(repo.data().join("listening.json")).unwrap();
    let listening: Value = serde_json::from_slice(&listening).unwrap();
    format!("https://{}", listening["https"].as_str().unwrap())
}

fn curl(arguments: &[&str]) -> Output {
    Command::new("curl").args(["--silent", "--show-error", "--max-time", "10"]).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The certificate that the listener shows now.
fn shown(url: &str, ca: &str) -> String {
    let address = url.strip_prefix("https://").unwrap();
    let command = format!(
        "openssl s_client -connect {address} -servername localhost -CAfile {ca} -verify_return_error </dev/null 2>/dev/null \
         | openssl x509 -noout -serial -startdate -enddate -issuer -text"
    );
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

fn line<'a>(text: &'a str, begin: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("no {begin} in {text}"))
}

// proves: issue 3, item 4: HTTPS clients
#[tokio::test]
async fn curl_trusts_the_internal_ca_and_its_token_is_taken_over_https() {
    let repo = Repo::start().await;
    let (url, ca) = (https(&repo), repo.data().join("https/ca.pem"));
    let ca = ca.to_str().unwrap();
    let bearer = format!("Authorization: Bearer {}", repo.admin);
    let answer = curl(&["--cacert", ca, "--header", &bearer, &format!("{url}/v1/whoami")]);
    assert!(answer.status.success() && text(&answer).contains("\"admin\""), "{}", text(&answer));
    let distrusted = curl(&["--header", &bearer, &format!("{url}/v1/whoami")]);
    assert_eq!(distrusted.status.code(), Some(60), "{}", text(&distrusted));

    let printed = Command::new(PROGRAM).args(["fingerprint", "--data"]).arg(repo.data()).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap().trim().to_owned();
    let openssl = Command::new("openssl").args(["x509", "-noout", "-fingerprint", "-sha256", "-in", ca]).output();
    let digits = text(&openssl.unwrap()).trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(printed, format!("sha256:{digits}"));
    assert!(repo.log().contains(&printed), "the start names the fingerprint: {}", repo.log());
    // What anybody fetches over plain HTTP is the same certificate.
    let fetched = repo.dir.path().join("fetched.pem");
    assert!(curl(&["-o", fetched.to_str().unwrap(), &format!("{}/ca.pem", repo.url)]).status.success());
    assert_eq!(std::fs::read(&fetched).unwrap(), std::fs::read(Path::new(ca)).unwrap());

    let leaf = shown(&url, ca);
    assert!(leaf.contains("prime256v1") && leaf.contains("TLS Web Server Authentication"), "{leaf}");
    assert!(!leaf.contains("CA:TRUE"), "{leaf}");
}

#[tokio::test]
async fn a_certificate_is_renewed_at_two_thirds_without_a_restart_and_outlives_its_own_end() {
    const LEAF: Duration = Duration::from_secs(4);
    let repo = Repo::start_with(&[("SLUICE_HTTPS_LEAF_SECS", "4")]).await;
    let (url, ca) = (https(&repo), repo.data().join("https/ca.pem"));
    let ca = ca.to_str().unwrap();
    let first = line(&shown(&url, ca), "serial=").to_owned();
    let (began, mut asked, mut serials) = (now(), 0, vec![first]);
    while now() - began < 2 * LEAF {
        let answer = curl(&["--cacert", ca, &format!("{url}/healthz")]);
        assert_eq!(text(&answer), "ok\n", "after {:?}", now() - began);
        let serial = line(&shown(&url, ca), "serial=").to_owned();
        if !serials.contains(&serial) {
            serials.push(serial);
        }
        asked += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(asked > 10 && (3..=5).contains(&serials.len()), "{asked} answers, certificates {serials:?}");
}
