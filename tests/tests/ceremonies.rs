//! Key ceremonies as an administrator does them, with the real programs: docs/ceremonies.md, step by step.
//! proves: A3, A6, attack 8, attack 9
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use sluice_tests::{copy_folder, programs, world};
use sluice_xtask::lab::world::{World, rows};
use sluice_xtask::lab::{Said, packages, said, wait};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const PASSPHRASE: &str = "correct horse battery";

/// `sluice` with the passphrase on descriptor 3, as `3< FILE` gives it.
fn sluice(folder: &Path, arguments: &[&str]) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec \"$0\" \"$@\" 3< pass"]).arg(programs().unwrap().join("sluice")).args(arguments);
    shell.current_dir(folder).env("HOME", folder);
    shell
}

fn done(command: &mut Command) -> Said {
    let said = said(command).unwrap();
    assert_eq!(said.code, 0, "{command:?}\n{}{}", said.out, said.err);
    said
}

fn keys(folder: &Path, names: &[&str]) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("pass"), PASSPHRASE).unwrap();
    for name in names {
        done(&mut sluice(folder, &["key", "new", "--out", &format!("{name}.key"), "--passphrase-fd", "3"]));
    }
}

/// Signs a file in the folder; what the program showed comes back.
fn sign(folder: &Path, group: &str, file: &str, name: &str) -> String {
    let key = format!("{name}.key");
    done(&mut sluice(folder, &[group, "sign", file, "--key", &key, "--passphrase-fd", "3", "--yes"])).err
}

fn as_bob(world: &World, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = sluice(folder, arguments);
    command.env("SLUICE_URL", world.lab.url()).env("SLUICE_TOKEN", &world.bob.token);
    command
}

#[test]
fn a_production_repository_is_prepared_signed_published_and_served() {
    let dir = std::env::temp_dir().join(format!("sluice-test-production-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    keys(&dir, &["ann", "ben", "cat", "dora"]);
    let repo = |arguments: &[&str]| {
        let mut command = Command::new(programs().unwrap().join("sluice-repo"));
        command.current_dir(&dir).args(arguments);
        command
    };
    let mut arguments = vec!["init", "--profile", "standard", "--data", "repo", "--rings", "pilot,production"];
    let holders = ["ann", "ben", "cat"].map(|name| format!("{name}={name}.key.pub"));
    for holder in &holders {
        arguments.extend(["--root-key", holder, "--targets-key", holder]);
    }
    arguments.extend(["--approver", "production:dora=dora.key.pub"]);
    let printed = done(&mut repo(&arguments)).out;
    assert!(printed.contains("2 of") && printed.contains("ring production: one of dora"), "{printed}");
    let refused = said(&mut repo(&["serve", "--data", "repo"])).unwrap();
    assert!(refused.code != 0 && refused.err.contains("sluice-repo publish"), "{}", refused.err);

    let files = ["1.root.json", "1.targets.json", "1.rel-production.json"].map(|name| format!("repo/ceremony/{name}"));
    let mut publish = vec!["publish", "--data", "repo"];
    publish.extend(files.iter().map(String::as_str));
    let early = said(&mut repo(&publish)).unwrap();
    assert!(early.code != 0 && early.err.contains("must be signed"), "{}", early.err);
    for name in ["ann", "cat"] {
        let shown = sign(&dir, "root", &files[0], name);
        assert!(shown.contains("root: 2 of 3 must sign") && shown.contains("is signed by ben"), "{shown}");
        sign(&dir, "targets", &files[1], name);
    }
    let stranger =
        said(&mut sluice(&dir, &["root", "sign", &files[0], "--key", "dora.key", "--passphrase-fd", "3", "--yes"]));
    assert_eq!(stranger.unwrap().code, 1, "dora holds no key of root");
    done(&mut sluice(&dir, &["approve", "--draft", &files[2], "--key", "dora.key", "--passphrase-fd", "3", "--yes"]));
    let made = done(&mut repo(&publish)).out;
    assert!(made.contains("slp1-"), "{made}");
    let held: Vec<PathBuf> =
        std::fs::read_dir(dir.join("repo/keys")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(held.iter().all(|path| !path.ends_with("root.key") && !path.ends_with("targets.key")), "{held:?}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_running_dev_fleet_becomes_a_production_one_and_nobody_enrols_again() {
    let mut world = world("ceremonies").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    world.until_connected().unwrap();
    let needs = vec![(packages::RUNTIME.to_owned(), "1.0".to_owned())];
    world.add_endpoint("desk", ("lyon", "production"), &needs, "all").unwrap();
    world.start_agent("desk").unwrap();
    let folder = world.lab.folder("people").unwrap();
    keys(&folder, &["ann", "ben", "cat", "bob"]);
    std::fs::copy(root_of(&world), folder.join("1.root.json")).unwrap();
    let token_before = world.node_token("lyon").unwrap();

    // From dev to production, with bob's own key for the ring.
    let mut draft = vec!["root", "draft", "--out", "c", "--root", "1.root.json", "--profile", "standard"];
    let holders = ["ann", "ben", "cat"].map(|name| format!("{name}={name}.key.pub"));
    for holder in &holders {
        draft.extend(["--root-key", holder, "--targets-key", holder]);
    }
    let shown = done(&mut as_bob(&world, &folder, &draft)).out;
    assert!(shown.contains("profile: dev becomes standard"), "{shown}");
    let shown = done(&mut as_bob(
        &world,
        &folder,
        &["targets", "draft", "--out", "c", "--approver", "production:bob=bob.key.pub"],
    ));
    assert!(shown.out.contains("rel-production: gets bob"), "{}", shown.out);
    a_forged_predecessor_is_refused(&folder);
    let shown = sign(&folder, "root", "c/2.root.json", "ann");
    assert!(shown.contains("compared with root 1, which this machine trusts"), "{shown}");
    assert!(shown.contains("root: gets ann") && shown.contains("root: loses the unnamed key"), "{shown}");
    sign(&folder, "root", "c/2.root.json", "ben");
    sign(&folder, "targets", "c/2.targets.json", "ann");
    sign(&folder, "targets", "c/2.targets.json", "cat");
    let publish = ["root", "publish", "c/2.root.json", "c/2.targets.json", "c/2.rel-production.json"];
    let refused = said(&mut as_bob(&world, &folder, &publish)).unwrap();
    assert!(refused.code == 1 && refused.err.contains("rel-production"), "{}", refused.err);
    let approve =
        ["approve", "--draft", "c/2.rel-production.json", "--key", "bob.key", "--passphrase-fd", "3", "--yes"];
    done(&mut as_bob(&world, &folder, &approve));
    let published = done(&mut as_bob(&world, &folder, &publish)).out;
    assert_eq!(published.matches("deleted on the server").count(), 2, "{published}");
    assert_eq!(world.lab.ask(&world.bob, &["status"]).unwrap()["profile"], "standard");

    // Tokens of before and of after the rotation name another root each, and both are good.
    let token_after = world.node_token("lyon").unwrap();
    let named = |token: &str| token.rsplit('-').next().unwrap().to_owned();
    assert_ne!(named(&token_before), named(&token_after));
    for (name, token) in [("node-before", &token_before), ("node-after", &token_after)] {
        let joined = said(&mut world.join(token, &world.lab.dir().join(name))).unwrap();
        assert_eq!(joined.code, 0, "{name}: {}{}", joined.out, joined.err);
    }

    // The server alone publishes nothing into production; bob's key does, and the endpoint follows.
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 1 << 20).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    let proposed = world.approve("demo/1.0-1", "production").unwrap();
    assert_eq!(proposed["proposed_into"], serde_json::json!(["production"]));
    let deb = version.debs[0].path.display().to_string();
    let other = folder.join("other.deb");
    std::fs::write(&other, b"not the one").unwrap();
    let arguments = |deb: &str| -> Vec<String> {
        ["approve", "--ring", "production", "--key", "bob.key", "--passphrase-fd", "3", "--yes", "--artifact", deb]
            .map(str::to_owned)
            .to_vec()
    };
    let run = |deb: &str| {
        let arguments = arguments(deb);
        said(&mut as_bob(&world, &folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>())).unwrap()
    };
    let refused = run(&other.display().to_string());
    assert!(refused.code == 1 && refused.err.contains("none of your files"), "{}", refused.err);
    let signed = run(&deb);
    assert_eq!(signed.code, 0, "{}", signed.err);
    assert!(signed.err.contains("adds demo/1.0-1") && signed.out.contains("is served"), "{}{}", signed.err, signed.out);
    world.until_on_disk(&["desk"], &version, LONG).unwrap();

    // The online keys are stolen: both are replaced, and the fleet goes on.
    done(&mut as_bob(
        &world,
        &folder,
        &["root", "draft", "--out", "d", "--rotate", "timestamp", "--rotate", "snapshot"],
    ));
    let shown = sign(&folder, "root", "d/3.root.json", "ben");
    assert!(shown.contains("timestamp: loses the unnamed key"), "{shown}");
    let refused = said(&mut as_bob(&world, &folder, &["root", "publish", "d/3.root.json"])).unwrap();
    assert!(refused.code == 1 && refused.err.contains("1 of the 2 signatures"), "{}", refused.err);
    sign(&folder, "root", "d/3.root.json", "cat");
    done(&mut as_bob(&world, &folder, &["root", "publish", "d/3.root.json"]));
    world.lab.ask(&world.bob, &["retract", "demo/1.0-1", "--reason", "seen after the rotation"]).unwrap();
    let fenced = wait(LONG, || {
        let retractions = world.lab.ask(&world.bob, &["retractions", "show"])?;
        Ok(rows(&retractions, "retractions")
            .iter()
            .any(|row| row["nodes_fenced"].as_array().is_some_and(|some| !some.is_empty())))
    });
    assert!(fenced.unwrap(), "the node did not follow the rotation: {}", world.lab.log("node-1"));
    let calendar: Value = world.lab.ask(&world.bob, &["calendar"]).unwrap();
    let production = rows(&calendar, "roles").iter().find(|row| row["role"] == "rel-production").unwrap().clone();
    assert_eq!((&production["people"], &production["threshold"]), (&serde_json::json!(["bob"]), &serde_json::json!(2)));
    world.lab.stop_all();
}

/// Another root under the name of the one before, or a machine that trusts none: nothing is signed.
fn a_forged_predecessor_is_refused(folder: &Path) {
    let mut init = Command::new(programs().unwrap().join("sluice-repo"));
    init.current_dir(folder).args(["init", "--profile", "standard", "--data", "other"]);
    for name in ["ann", "ben", "cat"] {
        let holder = format!("{name}={name}.key.pub");
        init.args(["--root-key", &holder, "--targets-key", &holder]);
    }
    done(&mut init);
    copy_folder(&folder.join("c"), &folder.join("forged")).unwrap();
    std::fs::copy(folder.join("other/ceremony/1.root.json"), folder.join("forged/1.root.json")).unwrap();
    let sign = |group: &str| {
        let file = format!("forged/2.{group}.json");
        ["sign", &file, "--key", "ann.key", "--passphrase-fd", "3", "--yes"].map(str::to_owned)
    };
    for group in ["root", "targets"] {
        let arguments = sign(group);
        let arguments: Vec<&str> = std::iter::once(group).chain(arguments.iter().map(String::as_str)).collect();
        let refused = said(&mut sluice(folder, &arguments)).unwrap();
        assert_eq!(refused.code, 1, "{group}: {}{}", refused.out, refused.err);
        assert!(refused.err.contains("somebody put another one there"), "{}", refused.err);
        assert!(refused.err.contains("loses the unnamed key"), "it does not say what differs: {}", refused.err);
        let elsewhere = folder.join("elsewhere");
        std::fs::create_dir_all(&elsewhere).unwrap();
        let stranger = said(sluice(folder, &arguments).env("HOME", elsewhere)).unwrap();
        assert!(stranger.code == 2 && stranger.err.contains("--root FILE"), "{}{}", stranger.out, stranger.err);
    }
}

/// The first root, as an administrator takes it from the server's disk when he makes the repository.
fn root_of(world: &World) -> PathBuf {
    let path = world.lab.dir().join("1.root.json");
    let url = format!("{}/tuf/metadata/1.root.json", world.lab.url());
    done(Command::new("curl").args(["-sS", "--fail", "-o"]).arg(&path).arg(&url));
    path
}
