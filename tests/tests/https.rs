//! A person's command line over HTTPS: `login` pins the internal CA, and nobody else is told the token. proves: A4 (HTTPS).
#![allow(clippy::unwrap_used, reason = "tests")]

use sluice_tests::world;
use sluice_xtask::lab::world::World;
use sluice_xtask::lab::{Said, said};
use std::path::Path;
use std::process::{Command, Stdio};

fn https(world: &World) -> String {
    let listening = std::fs::read(world.repo_data().join("listening.json")).unwrap();
    let listening: serde_json::Value = serde_json::from_slice(&listening).unwrap();
    format!("https://{}", listening["https"].as_str().unwrap())
}

fn fingerprint(world: &World) -> String {
    let printed =
        said(world.lab.program("sluice-repo").args(["fingerprint", "--data"]).arg(world.repo_data())).unwrap();
    assert_eq!(printed.code, 0, "{}", printed.err);
    printed.out.trim().to_owned()
}

/// `sluice` with a home of its own and no server in its environment.
fn sluice(world: &World, home: &Path) -> Command {
    let mut command = world.lab.program("sluice");
    command.env("HOME", home).env_remove("XDG_CONFIG_HOME");
    for name in ["SLUICE_URL", "SLUICE_TOKEN", "SLUICE_FINGERPRINT"] {
        command.env_remove(name);
    }
    command
}

fn login(world: &World, home: &Path, arguments: &[&str]) -> Said {
    let token_file = home.join("token");
    std::fs::write(&token_file, &world.alice.token).unwrap();
    let mut command = sluice(world, home);
    said(command.arg("login").args(arguments).arg("--token-file").arg(&token_file).stdin(Stdio::null())).unwrap()
}

#[test]
fn login_pins_the_fingerprint_that_the_server_s_operator_reads_and_refuses_every_other_server() {
    let world = world("https-login").unwrap();
    let (url, pinned) = (https(&world), fingerprint(&world));
    let home = world.lab.folder("home").unwrap();
    let unknown = login(&world, &home, &[&url]);
    assert_eq!(unknown.code, 2, "{}", unknown.err);
    assert!(unknown.err.contains(&pinned) && unknown.err.contains("sluice-repo fingerprint"), "{}", unknown.err);
    let credentials = home.join(".config/sluice/credentials.toml");
    assert!(!credentials.exists(), "nothing is stored before somebody compared");

    let wrong = format!("sha256:{}", "00".repeat(32));
    let refused = login(&world, &home, &[&url, "--fingerprint", &wrong]);
    assert!(refused.code == 3 && refused.err.contains("pinned"), "{} {}", refused.code, refused.err);
    assert!(!credentials.exists());

    let done = login(&world, &home, &[&url, "--fingerprint", &pinned]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(std::fs::read_to_string(&credentials).unwrap().contains(&pinned));
    let who = said(sluice(&world, &home).args(["-o", "json", "whoami"])).unwrap();
    assert!(who.code == 0 && who.out.contains("alice"), "{}{}", who.out, who.err);

    // Another repository at the pinned address: its CA is another one, so the token stays here.
    let other = sluice_tests::world("https-other").unwrap();
    let elsewhere = https(&other);
    let text = std::fs::read_to_string(&credentials).unwrap().replace(&url, &elsewhere);
    std::fs::write(&credentials, text).unwrap();
    let betrayed = said(sluice(&world, &home).arg("whoami")).unwrap();
    assert!(betrayed.code == 3 && betrayed.err.contains("nothing was sent"), "{} {}", betrayed.code, betrayed.err);
    assert!(!other.lab.log("repo").contains("whoami"));

    let mut by_environment = sluice(&world, &home);
    by_environment.env("SLUICE_URL", &url).env("SLUICE_TOKEN", &world.bob.token).env("SLUICE_FINGERPRINT", &pinned);
    let who = said(by_environment.arg("whoami")).unwrap();
    assert!(who.code == 0 && who.out.contains("bob"), "{}{}", who.out, who.err);
}

#[test]
fn a_token_from_off_loopback_is_taken_over_tls_and_refused_in_clear() {
    let Some(address) = own_address() else {
        sluice_tests::skip("a_token_from_off_loopback_is_taken_over_tls_and_refused_in_clear", "only loopback is here");
        return;
    };
    let any = |port: u16| format!("{address}:{port}");
    let mut world = world("off-loopback").unwrap();
    world.lab.terminate("repo").unwrap();
    let mut serve = world.lab.program("sluice-repo");
    serve.args(["serve", "--data"]).arg(world.repo_data());
    serve.args(["--http", &any(0), "--https", &any(0), "--device", "127.0.0.1:0", "--overlay", "127.0.0.1:0"]);
    let data = world.repo_data().to_owned();
    world.lab.start("repo", &data, &mut serve).unwrap();
    let plain = format!("http://{}/v1/whoami", world.lab.listening("repo").unwrap().http);
    let encrypted = format!("{}/v1/whoami", https(&world));
    let ca = world.repo_data().join("https/ca.pem");
    let bearer = format!("Authorization: Bearer {}", world.alice.token);
    let ask = |url: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "10", "--noproxy", "*", "--header", &bearer, "--cacert"])
            .arg(&ca)
            .arg(url);
        said(&mut curl).unwrap().out
    };
    let refused = ask(&plain);
    assert!(refused.contains("tls-required") && refused.contains("https"), "{refused}");
    let taken = ask(&encrypted);
    assert!(taken.contains("alice"), "{taken}");
}

/// An address of this machine that is not loopback; nothing is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}
