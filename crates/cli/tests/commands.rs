//! Exit codes, credentials, and what goes over the wire.

mod support;

use expect_test::expect;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::*;

const WHOAMI: &str = r#"{"person":"bob","roles":["approver","retractor"],"scope":"everywhere","token":"aa","expires_at":0,
"repository":"demo","profile":"dev"}"#;

fn problem(status: u16, kind: &str, detail: &str) -> Answer {
    let body =
        format!(r#"{{"type":"urn:sluice:problem:{kind}","title":"A title","status":{status},"detail":"{detail}"}}"#);
    (status, vec!["content-type: application/problem+json".into()], body)
}

#[test]
fn login_stores_a_tried_token_for_its_owner_only_and_later_commands_use_it() {
    let server = serve(|request| match request.header("authorization") {
        Some("Bearer slp1-aa-bb") => (200, vec![], WHOAMI.into()),
        _ => problem(401, "unauthenticated", "this token is not known"),
    });
    let home = tempfile::tempdir().unwrap();
    let wrong = said(sluice(home.path()).args(["login", &server.url]), "slp1-no-no\n");
    assert_eq!(wrong.code, 1);
    assert!(!wrong.err.contains("slp1-no-no"), "the token is printed: {}", wrong.err);
    let file = home.path().join(".config/sluice/credentials.toml");
    assert!(!file.exists(), "a refused token is stored");

    let login = said(sluice(home.path()).args(["login", &server.url]), "slp1-aa-bb\n");
    assert_eq!(login.code, 0, "{}", login.err);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let who = said(sluice(home.path()).arg("whoami"), "");
    // How long ago is another answer every day.
    let (token, rest): (Vec<&str>, Vec<&str>) = who.out.lines().partition(|line| line.starts_with("token"));
    assert!(token.len() == 1 && token[0].contains("aa, expires"), "{}", who.out);
    expect![[r#"
        person      bob
        roles       approver,retractor
        scope       everywhere
        repository  demo
        profile     dev"#]]
    .assert_eq(&rest.join("\n"));

    let token_file = home.path().join("token");
    std::fs::write(&token_file, "slp1-aa-bb\n").unwrap();
    let other = home.path().join("other.toml");
    let mut command = sluice(home.path());
    command.arg("--credentials").arg(&other).args(["login", &server.url, "--token-file"]).arg(&token_file);
    assert_eq!(said(&mut command, "").code, 0);
    assert!(other.exists());
}

#[test]
fn without_credentials_nothing_is_sent_and_the_way_to_get_them_is_named() {
    let home = tempfile::tempdir().unwrap();
    let said = said(sluice(home.path()).arg("status"), "");
    assert_eq!(said.code, 2);
    expect![[r#"
        error: the server is not known; run `sluice login URL`, or set SLUICE_URL and SLUICE_TOKEN
    "#]]
    .assert_eq(&said.err);
}

#[test]
fn a_token_is_not_sent_in_clear_across_a_network() {
    let said = said(sluice_at("http://192.0.2.1:8470").arg("status"), "");
    assert_eq!(said.code, 2);
    assert!(said.err.contains("in clear") && said.err.contains("ssh -L"), "{}", said.err);
}

#[test]
fn a_refusal_is_printed_whole_with_code_1() {
    let server = serve(|_| problem(403, "separation-of-duties", "alice published openssl/3.0.22-1"));
    let refused = said(sluice_at(&server.url).args(["approve", "openssl/3.0.22-1", "--ring", "pilot"]), "");
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    expect![[r#"
        error: A title (403 separation-of-duties)
          alice published openssl/3.0.22-1
          next: ask another approver to run this
    "#]]
    .assert_eq(&refused.err);
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen[0].line, "POST /v1/patches/openssl/3.0.22-1/approvals HTTP/1.1");
    assert_eq!(seen[0].body, br#"{"ring":"pilot"}"#);
}

#[test]
fn a_server_that_is_not_there_is_code_3_and_one_that_is_not_sluice_code_5() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let absent = said(sluice_at(&format!("http://{closed}")).arg("nodes"), "");
    assert_eq!(absent.code, 3);
    assert!(absent.err.contains("cannot reach") && absent.err.contains("because:"), "{}", absent.err);
    let server = serve(|_| (200, vec![], "<html>hello".into()));
    assert_eq!(said(sluice_at(&server.url).arg("nodes"), "").code, 5);
    let server = serve(|_| (404, vec![], "<html>hello".into()));
    let other = said(sluice_at(&server.url).arg("nodes"), "");
    assert!(other.code == 5 && other.err.contains("is this a Sluice server?"), "{}", other.err);
}

#[test]
fn wrong_words_on_the_command_line_are_code_2_and_say_the_rule() {
    let cases: [(&[&str], &str); 8] = [
        (&["approve", "openssl", "--ring", "pilot"], "NAME/VERSION"),
        (&["site", "add", "Ly on", "--boundary", "10.0.0.0/8"], "site name"),
        (&["site", "add", "lyon", "--boundary", "10.0.0.0/8", "--wan-cap", "fast"], "20mbit"),
        (&["site", "add", "lyon"], "--boundary"),
        (&["token", "new", "--kind", "endpoint", "--site", "lyon"], "--ring"),
        (&["token", "new", "--kind", "person"], "--person"),
        (&["publish", "x.deb", "--name", "../etc", "--patch-version", "1", "--severity", "low"], "patch name"),
        (&["compliance", "moons"], "patches, sites, endpoints"),
    ];
    for (arguments, expected) in cases {
        let said = said(sluice_at("http://127.0.0.1:1").args(arguments), "");
        assert!(said.code == 2 && said.err.contains(expected), "{arguments:?}: {} {}", said.code, said.err);
    }
}

#[test]
fn json_is_the_api_s_own_form_and_tables_are_for_people() {
    let rings = r#"{"rings":[{"name":"pilot","patches":2,"endpoints":1,"threshold":1}]}"#;
    let server = serve(move |_| (200, vec![], rings.into()));
    let json = said(sluice_at(&server.url).args(["ring", "list", "-o", "json"]), "");
    assert_eq!(json.out.split_whitespace().collect::<String>(), rings);
    let table = said(sluice_at(&server.url).args(["ring", "list"]), "");
    expect![[r#"
        RING   PATCHES  ENDPOINTS  SIGNATURES
        pilot  2        1          1
    "#]]
    .assert_eq(&table.out);
}

#[test]
fn pages_are_joined_up_to_the_limit() {
    let entry = |seq: u64| {
        format!(
            r#"{{"seq":{seq},"at":0,"who":"bob","action":"patch.approve","subject":"a/1","result":"done","detail":"","hash":""}}"#
        )
    };
    let server = serve(move |request| {
        let body = match request.line.contains("after=1&") {
            false => format!(r#"{{"entries":[{}],"next":1}}"#, entry(1)),
            true => format!(r#"{{"entries":[{}],"next":null}}"#, entry(2)),
        };
        (200, vec![], body)
    });
    let all = said(sluice_at(&server.url).arg("audit"), "");
    assert_eq!(all.out.lines().count(), 3, "{}", all.out);
    let one = said(sluice_at(&server.url).args(["audit", "--limit", "1"]), "");
    assert!(one.out.contains("there are more: --after 1"), "{}", one.out);
}

#[test]
fn colours_are_for_terminals_and_for_nobody_who_said_no() {
    let server = serve(|_| problem(404, "not-found", "no"));
    let plain = said(sluice_at(&server.url).arg("nodes"), "");
    assert!(plain.err.starts_with("error:"));
    let forced = said(sluice_at(&server.url).env("CLICOLOR_FORCE", "1").arg("nodes"), "");
    assert!(forced.err.starts_with("\u{1b}["), "{:?}", forced.err);
    let refused = said(sluice_at(&server.url).env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1").arg("nodes"), "");
    assert!(refused.err.starts_with("error:"), "{:?}", refused.err);
}

#[test]
fn publish_uploads_each_file_and_names_its_own_hash() {
    let server = serve(|request| match request.line.split(' ').next().unwrap() {
        "PATCH" => {
            (204, vec![format!("upload-offset: {}", request.body.len()), "tus-resumable: 1.0.0".into()], String::new())
        }
        _ if request.line.contains("/uploads") => (201, vec!["location: /v1/uploads/u1".into()], String::new()),
        _ => problem(409, "content-retracted", "these bytes were retracted"),
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openssl.deb");
    std::fs::write(&file, "hello\n").unwrap();
    let arguments = ["--name", "openssl", "--patch-version", "1", "--severity", "high", "--cve", "CVE-2026-1234"];
    let publish = |path: &Path| said(sluice_at(&server.url).arg("publish").arg(path).args(arguments), "");
    let refused = publish(&file);
    assert_eq!(refused.code, 1);
    expect![[r#"
        openssl.deb: uploading 6 B
        openssl.deb: 100 %
        error: A title (409 content-retracted)
          these bytes were retracted
          next: `sluice retractions show` names the retraction; publish other bytes
    "#]]
    .assert_eq(&refused.err);
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen[1].body, b"hello\n");
    let body = String::from_utf8(seen[2].body.clone()).unwrap();
    let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    assert!(body.contains(sha256) && body.contains(r#""upload":"u1""#) && body.contains("CVE-2026-1234"), "{body}");
    let absent = publish(&dir.path().join("absent.deb"));
    assert!(absent.code == 4 && absent.err.contains("absent.deb"), "{}", absent.err);
    assert_eq!(seen.len(), 3, "nothing is sent for a file that is not there");
}

#[test]
fn a_reader_that_goes_away_is_no_error_worth_a_word() {
    let server = serve(|_| (200, vec![], WHOAMI.into()));
    let mut child = sluice_at(&server.url)
        .arg("whoami")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
