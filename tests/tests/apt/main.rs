//! Stock apt against a node as it is, with no other way out. proves: C3, C5 (apt), P4 (expired indices).
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "figures are said on the terminal")]

use anyhow::{Context, Result, ensure};
use sluice_tests::{is_full_tier, metric, skip, world_with};
use sluice_xtask::cargo;
use sluice_xtask::lab::apt_root::{self, AptRoot, Island};
use sluice_xtask::lab::packages;
use sluice_xtask::lab::wait;
use sluice_xtask::lab::world::{World, curl, rows};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

mod tamper;

/// How long an index may take from an approval to a node: two signings a second apart and a walk to the origin.
const SOON: Duration = Duration::from_secs(20);
/// Artifacts of one patch.
const PATCH_DEBS_MAX: usize = 60;

/// Packages with small, well-known security updates; whatever has none today counts as a dependency only.
const SEEDS: &[&str] = &["jq", "brotli"];
/// More of them, for the full tier.
const SEEDS_FULL: &[&str] = &[
    "jq",
    "brotli",
    "bind9-host",
    "bind9-utils",
    "expat",
    "ca-certificates",
    "libarchive-tools",
    "libevent-core-2.1-7",
    "libevent-extra-2.1-7",
    "libevent-openssl-2.1-7",
    "libevent-pthreads-2.1-7",
    "libpng-tools",
    "amqp-tools",
    "libcjose0",
    "libssh-4",
    "libssh-gcrypt-4",
    "libssh2-1",
    "jbig2dec",
    "libsasl2-modules",
    "libaprutil1",
    "libgsasl18",
    "libgit2-1.5",
    "libnfs-utils",
    "libmodbus5",
];

/// A site whose boundary holds the endpoints, with one node that they reach; `None` when the machine cannot.
struct Stage {
    world: World,
    island: Island,
    base: PathBuf,
}

impl Stage {
    fn new(name: &str, environment: &[(&str, &str)]) -> Option<Self> {
        if let Some(reason) = apt_root::lacking() {
            skip(name, reason);
            return None;
        }
        Some(Self::make(name, environment).unwrap())
    }

    fn make(name: &str, environment: &[(&str, &str)]) -> Result<Self> {
        let base = apt_root::base()?;
        let island = Island::new()?;
        let mut world = world_with(name, environment)?;
        world.add_site("lyon", "10.192.0.0/10", "4000mbit")?;
        world.node_environment.push(("SLUICE_LISTEN_HTTP".into(), format!("{}:0", island.host)));
        world.add_node("node-1", "lyon")?;
        Ok(Self { world, island, base })
    }

    /// An endpoint that has our repository of `ring` and nothing else.
    fn endpoint(&self, name: &str, uris: &str, ring: &str) -> Result<AptRoot> {
        let endpoint = AptRoot::new(&self.base, &self.world.lab.folder(name)?)?;
        let key = self.key(ring)?;
        let key: String =
            key.lines().map(|line| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") }).collect();
        let sources = format!("Types: deb\nURIs: {uris}\nSuites: stable\nComponents: main\nSigned-By:\n{key}");
        endpoint.write("etc/apt/sources.list.d/sluice.sources", &sources)?;
        Ok(endpoint)
    }

    /// The public key, from the repo server.
    fn key(&self, _ring: &str) -> Result<String> {
        let url = format!("http://{}/apt/key.asc", self.world.repo_listening()?.http);
        cargo::output(Command::new("curl").args(["--silent", "--fail", &url]))
    }

    fn url(&self, node: usize, ring: &str) -> String {
        format!("http://{}/apt/{ring}/", self.world.nodes[node].listening.http)
    }

    fn publish(&self, name: &str, version: &str, debs: &[PathBuf]) -> Result<Vec<String>> {
        let mut made = Vec::new();
        for (number, debs) in debs.chunks(PATCH_DEBS_MAX).enumerate() {
            let name = format!("{name}-{number}");
            let mut arguments = vec!["publish".to_owned()];
            arguments.extend(debs.iter().map(|deb| deb.display().to_string()));
            arguments.extend(["--name", &name, "--patch-version", version, "--severity", "high"].map(str::to_owned));
            arguments.extend(["--cve", "CVE-2026-10001"].map(str::to_owned));
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            self.world.lab.ask(&self.world.alice, &arguments)?;
            made.push(format!("{name}/{version}"));
        }
        Ok(made)
    }

    fn approve(&self, patches: &[String], ring: &str) -> Result<()> {
        patches.iter().try_for_each(|patch| self.world.approve(patch, ring).map(|_| ()))
    }

    /// Waits until the index of `ring` at a node holds as said.
    fn until_index(&self, node: usize, ring: &str, holds: impl Fn(&str) -> bool) -> Result<()> {
        let mut text = String::new();
        let settled = wait(SOON, || {
            text.clear();
            for architecture in [architecture()?, "all".to_owned()] {
                let url = format!("{}dists/stable/main/binary-{architecture}/Packages", self.url(node, ring));
                let got = cargo::output(Command::new("curl").args(["--silent", "--fail", "--max-time", "10", &url]));
                text.push_str(&got.unwrap_or_default());
            }
            Ok(holds(&text))
        })?;
        ensure!(settled, "the index of {ring} is not as it should be after {SOON:?}:\n{text}");
        Ok(())
    }
}

fn architecture() -> Result<String> {
    Ok(cargo::output(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned())
}

/// Runs apt; it must succeed and warn of nothing.
fn quiet(endpoint: &AptRoot, island: &Island, arguments: &[&str]) -> Result<String> {
    let said = endpoint.apt(island, arguments)?;
    let words = format!("{}\n{}", said.out, said.err);
    ensure!(said.code == 0, "apt-get {} ended with {}:\n{words}", arguments.join(" "), said.code);
    let complaint = words.lines().find(|line| ["W:", "E:", "N:"].iter().any(|kind| line.starts_with(kind)));
    ensure!(complaint.is_none(), "apt-get {} complains: {}", arguments.join(" "), complaint.unwrap_or_default());
    Ok(words)
}

/// Runs apt; it must fail, in these words.
fn refused(endpoint: &AptRoot, island: &Island, arguments: &[&str], wanted: &str) -> Result<()> {
    let said = endpoint.apt(island, arguments)?;
    let words = format!("{}\n{}", said.out, said.err);
    ensure!(said.code != 0, "apt-get {} succeeded:\n{words}", arguments.join(" "));
    ensure!(words.contains(wanted), "apt-get {} does not say {wanted:?}:\n{words}", arguments.join(" "));
    Ok(())
}

fn fields(deb: &Path) -> Result<(String, String)> {
    let text = cargo::output(Command::new("dpkg-deb").args(["--show", "--showformat=${Package} ${Version}"]).arg(deb))?;
    let (package, version) = text.split_once(' ').context("dpkg-deb named no version")?;
    Ok((package.to_owned(), version.to_owned()))
}

fn versions(debs: &[PathBuf]) -> Result<BTreeMap<String, String>> {
    debs.iter().map(|deb| fields(deb)).collect()
}

#[test]
fn stock_apt_installs_upgrades_and_goes_back_with_nothing_but_a_node_in_reach() {
    let Some(stage) = Stage::new("apt_upgrade", &[]) else { return };
    upgrade(&stage).unwrap();
}

fn upgrade(stage: &Stage) -> Result<()> {
    let (seeds, least) = if is_full_tier() { (SEEDS_FULL, 30) } else { (SEEDS, 3) };
    let codename = stage.base.file_name().context("a release")?.to_string_lossy().into_owned();
    apt_root::update_lists()?;
    let endpoint = stage.endpoint("endpoint", &stage.url(0, "production"), "production")?;
    let island = &stage.island;

    // The internet is cut: nothing but the node has a route.
    let away = stage.island.command("ip").args(["route", "show", "default"]).output()?;
    ensure!(away.stdout.is_empty(), "the endpoint has a way out");

    // As first released, with every dependency that the root lacks.
    let release = format!("APT::Default-Release={codename}");
    let mut wanted = vec!["-o", &release, "install"];
    wanted.extend(seeds);
    let old = apt_root::fetch_for(&endpoint.status(), &stage.world.lab.folder("old")?, &wanted)?;
    let patches = stage.publish("base", "1", &old)?;
    stage.approve(&patches, "production")?;
    let some = fields(&old[0])?.0;
    stage.until_index(0, "production", |text| text.contains(&format!("Package: {some}\n")))?;
    quiet(&endpoint, island, &["update"])?;
    let mut arguments = vec!["install"];
    arguments.extend(seeds);
    quiet(&endpoint, island, &arguments)?;
    for (package, version) in versions(&old)? {
        let installed = endpoint.installed(&package)?;
        ensure!(installed.as_ref() == Some(&version), "{package} is {installed:?} and should be {version}");
    }

    // The security updates of all that is installed; one of the versions that they replace stays in the ring.
    let new = apt_root::fetch_for(&endpoint.status(), &stage.world.lab.folder("new")?, &["full-upgrade"])?;
    let before: BTreeMap<String, Option<String>> = versions(&new)?
        .into_keys()
        .map(|package| Ok((package.clone(), endpoint.installed(&package)?)))
        .collect::<Result<_>>()?;
    let patches = stage.publish("security", "1", &new)?;
    stage.approve(&patches, "production")?;
    let (some, version) = fields(new.last().context("no update")?)?;
    stage.until_index(0, "production", |text| text.contains(&format!("Package: {some}\nVersion: {version}\n")))?;
    quiet(&endpoint, island, &["update"])?;
    quiet(&endpoint, island, &["full-upgrade"])?;
    let mut upgraded = 0;
    for (package, version) in versions(&new)? {
        let installed = endpoint.installed(&package)?;
        ensure!(installed.as_ref() == Some(&version), "{package} is {installed:?} and should be {version}");
        upgraded += usize::from(before[&package].is_some());
    }
    ensure!(upgraded >= least, "{upgraded} packages were upgraded; at least {least} are wanted");
    println!("{} packages installed, {upgraded} upgraded through a node", old.len());

    // Back to the versions that the ring still has; a library and what needs exactly it go together.
    let back: BTreeMap<String, String> =
        versions(&old)?.into_iter().filter(|(package, _)| before.contains_key(package)).collect();
    ensure!(!back.is_empty(), "no package has both versions in the ring");
    let named: Vec<String> = back.iter().map(|(package, version)| format!("{package}={version}")).collect();
    let mut arguments = vec!["install", "--allow-downgrades"];
    arguments.extend(named.iter().map(String::as_str));
    quiet(&endpoint, island, &arguments)?;
    for (package, version) in &back {
        ensure!(endpoint.installed(package)?.as_ref() == Some(version), "{package} did not go back to {version}");
    }
    let audit = endpoint.command(island, "dpkg").arg("--audit").output()?;
    ensure!(audit.stdout.is_empty(), "dpkg is not content: {}", String::from_utf8_lossy(&audit.stdout));
    Ok(())
}

#[test]
fn a_retracted_version_vanishes_from_the_index_and_its_bytes_are_gone_at_once() {
    let Some(stage) = Stage::new("apt_retract", &[]) else { return };
    retract(&stage).unwrap();
}

/// The demo package in `version`, without its dependency.
fn demo(stage: &Stage, version: &str, bytes: usize) -> Result<packages::Version> {
    packages::one_free(&stage.world.lab.folder("packages")?, version, bytes)
}

fn listed(version: &str) -> impl Fn(&str) -> bool {
    let line = format!("Version: {version}\n");
    move |text: &str| text.contains(&line)
}

fn pool_url(stage: &Stage, node: usize, ring: &str, version: &packages::Version) -> String {
    format!("{}pool/{}/x.deb", stage.url(node, ring), version.debs[0].sha256)
}

fn retract(stage: &Stage) -> Result<()> {
    let (good, bad) = (demo(stage, "1.0-1", 1 << 20)?, demo(stage, "2.0-1", 1 << 20)?);
    for version in [&good, &bad] {
        stage.world.publish("demo", version, "high", "CVE-2026-10001")?;
        stage.world.approve(&format!("demo/{}", version.number()), "production")?;
    }
    stage.until_index(0, "production", |text| listed("1.0-1")(text) && listed("2.0-1")(text))?;
    let endpoint = stage.endpoint("endpoint", &stage.url(0, "production"), "production")?;
    quiet(&endpoint, &stage.island, &["update"])?;
    ensure!(curl(&["-o", "/dev/null", &pool_url(stage, 0, "production", &bad)])?.status == 200);

    stage.world.lab.ask(&stage.world.bob, &["retract", "demo/2.0-1", "--reason", "it eats files"])?;
    let gone = wait(SOON, || Ok(curl(&[&pool_url(stage, 0, "production", &bad)])?.status == 410))?;
    ensure!(gone, "the node still gives the retracted package");
    stage.until_index(0, "production", |text| listed("1.0-1")(text) && !listed("2.0-1")(text))?;
    // apt has the older index yet: the bytes are refused. With the new one it takes the version before.
    refused(&endpoint, &stage.island, &["install", "sluice-demo-data=2.0-1"], "410")?;
    quiet(&endpoint, &stage.island, &["update"])?;
    quiet(&endpoint, &stage.island, &["install", "sluice-demo-data"])?;
    ensure!(endpoint.installed("sluice-demo-data")?.as_deref() == Some("1.0-1"));
    Ok(())
}

#[test]
fn an_apt_that_read_an_older_index_still_finds_its_files_by_hash() {
    let Some(stage) = Stage::new("apt_generations", &[]) else { return };
    generations(&stage).unwrap();
}

fn generations(stage: &Stage) -> Result<()> {
    let release = || {
        cargo::output(Command::new("curl").args([
            "--silent",
            "--fail",
            &format!("{}dists/stable/Release", stage.url(0, "production")),
        ]))
    };
    let by_hash = |release: &str, kind: &str, length: usize| -> Result<u16> {
        let hash = release
            .lines()
            .filter(|line| line.ends_with(" main/binary-all/Packages"))
            .find_map(|line| line.split(' ').nth(1).filter(|hash| hash.len() == length))
            .context("no hash of binary-all")?;
        let url = format!("{}dists/stable/main/binary-all/by-hash/{kind}/{hash}", stage.url(0, "production"));
        Ok(curl(&["-o", "/dev/null", &url])?.status)
    };
    let mut seen = Vec::new();
    for number in 1..=5 {
        let version = demo(stage, &format!("{number}.0-1"), 1 << 10)?;
        stage.world.publish("demo", &version, "high", "CVE-2026-10001")?;
        stage.world.approve(&format!("demo/{number}.0-1"), "production")?;
        stage.until_index(0, "production", listed(&format!("{number}.0-1")))?;
        seen.push(release()?);
    }
    for (kind, length) in [("SHA256", 64), ("SHA512", 128)] {
        for (number, release) in seen.iter().enumerate() {
            let (got, wanted) = (by_hash(release, kind, length)?, if number == 0 { 404 } else { 200 });
            ensure!(got == wanted, "{kind} of generation {}: {got}, expected {wanted}", number + 1);
        }
    }
    Ok(())
}

#[test]
fn apt_resumes_a_download_that_was_cut_by_the_death_of_its_node() {
    let Some(mut stage) = Stage::new("apt_resume", &[]) else { return };
    resume(&mut stage).unwrap();
}

fn resume(stage: &mut Stage) -> Result<()> {
    let version = demo(stage, "1.0-1", 24 << 20)?;
    stage.world.publish("demo", &version, "high", "CVE-2026-10001")?;
    stage.world.approve("demo/1.0-1", "production")?;
    stage.until_index(0, "production", listed("1.0-1"))?;
    let endpoint = stage.endpoint("endpoint", &stage.url(0, "production"), "production")?;
    quiet(&endpoint, &stage.island, &["update"])?;
    let partial = endpoint.root.join("var/cache/apt/archives/partial/sluice-demo-data_1.0-1_all.deb");
    let length = || std::fs::metadata(&partial).map_or(0, |found| found.len());
    let mut slow = endpoint.command(&stage.island, "apt-get");
    slow.args(["-y", "-o", "Acquire::http::Dl-Limit=4000", "-o", "Acquire::Retries=0", "install", "sluice-demo-data"]);
    let mut slow = slow.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()?;
    ensure!(wait(Duration::from_secs(60), || Ok(length() > 8 << 20))?, "apt did not get 8 MiB");
    stage.world.lab.kill("node-1")?;
    ensure!(!slow.wait()?.success(), "apt did not notice that its node died");
    let kept = length();
    ensure!(kept > 8 << 20, "apt kept {kept} bytes");

    // From now on where it listened before.
    stage.world.node_environment.clear();
    stage.world.restart_node("node-1")?;
    stage.until_index(0, "production", listed("1.0-1"))?;
    let http = stage.world.nodes[0].listening.http.clone();
    let before = metric(&http, "sluice_served_bytes_total")?;
    quiet(&endpoint, &stage.island, &["install", "sluice-demo-data"])?;
    let served = metric(&http, "sluice_served_bytes_total")? - before;
    let whole = std::fs::metadata(&version.debs[0].path)?.len();
    ensure!(endpoint.installed("sluice-demo-data")?.as_deref() == Some("1.0-1"));
    ensure!(
        served <= (whole - kept) as f64 + 65_536.0,
        "{served} bytes were served again; {kept} of {whole} were there"
    );
    println!("resumed at {kept} of {whole} bytes, {served} served");
    Ok(())
}

#[test]
fn apt_goes_to_the_second_node_of_its_mirror_list_when_the_first_is_dead() {
    let Some(mut stage) = Stage::new("apt_mirror", &[]) else { return };
    failover(&mut stage).unwrap();
}

fn failover(stage: &mut Stage) -> Result<()> {
    let second = format!("{}:0", stage.island.second);
    stage.world.node_environment = vec![("SLUICE_LISTEN_HTTP".into(), second)];
    stage.world.add_node("node-2", "lyon")?;
    let versions = [demo(stage, "1.0-1", 1 << 20)?, demo(stage, "2.0-1", 1 << 20)?];
    stage.world.publish("demo", &versions[0], "high", "CVE-2026-10001")?;
    stage.world.approve("demo/1.0-1", "production")?;
    let endpoint = stage.endpoint("endpoint", "mirror+file:/etc/apt/mirrors/sluice.list", "production")?;
    let list = format!("{}\tpriority:1\n{}\tpriority:2\n", stage.url(0, "production"), stage.url(1, "production"));
    endpoint.write("etc/apt/mirrors/sluice.list", &list)?;
    for node in [0, 1] {
        stage.until_index(node, "production", listed("1.0-1"))?;
    }
    quiet(&endpoint, &stage.island, &["update"])?;
    quiet(&endpoint, &stage.island, &["install", "sluice-demo-data"])?;
    stage.world.lab.kill("node-1")?;
    stage.world.publish("demo", &versions[1], "high", "CVE-2026-10002")?;
    stage.world.approve("demo/2.0-1", "production")?;
    stage.until_index(1, "production", listed("2.0-1"))?;
    let said = endpoint.apt(&stage.island, &["update"])?;
    ensure!(said.code == 0, "apt did not update through the second node: {}{}", said.out, said.err);
    let said = endpoint.apt(&stage.island, &["install", "sluice-demo-data"])?;
    ensure!(said.code == 0, "apt did not install through the second node: {}{}", said.out, said.err);
    ensure!(endpoint.installed("sluice-demo-data")?.as_deref() == Some("2.0-1"));
    Ok(())
}

#[test]
fn a_pilot_patch_is_in_no_production_index_and_refused_by_every_address() {
    let Some(stage) = Stage::new("apt_rings", &[]) else { return };
    rings(&stage).unwrap();
}

fn rings(stage: &Stage) -> Result<()> {
    let (old, new) = (demo(stage, "1.0-1", 1 << 20)?, demo(stage, "2.0-1", 1 << 20)?);
    for version in [&old, &new] {
        stage.world.publish("demo", version, "high", "CVE-2026-10001")?;
    }
    stage.world.approve("demo/1.0-1", "production")?;
    stage.until_index(0, "production", listed("1.0-1"))?;
    stage.world.approve("demo/2.0-1", "pilot")?;
    let endpoint = stage.endpoint("endpoint", &stage.url(0, "production"), "production")?;
    let by_digest = format!("http://{}/content/sha256/{}", stage.world.nodes[0].listening.http, new.debs[0].sha256);
    let known = wait(SOON, || Ok(curl(&["-o", "/dev/null", &by_digest])?.status == 403))?;
    ensure!(known, "the node does not know the pilot patch");
    quiet(&endpoint, &stage.island, &["update"])?;
    stage.until_index(0, "production", |text| !listed("2.0-1")(text))?;
    refused(&endpoint, &stage.island, &["install", "sluice-demo-data=2.0-1"], "was not found")?;
    // From the endpoint itself: the pilot index, the pilot pool, the pool of its own ring.
    let ask = |url: &str| -> Result<u16> {
        let mut command = stage.island.command("curl");
        command.args(["--silent", "--max-time", "20", "-o", "/dev/null", "--write-out", "%{http_code}", url]);
        Ok(cargo::output(&mut command)?.trim().parse()?)
    };
    let pilot = stage.url(0, "pilot");
    ensure!(ask(&format!("{pilot}dists/stable/InRelease"))? == 403, "the pilot index");
    ensure!(ask(&pool_url(stage, 0, "pilot", &new))? == 403, "the pilot pool");
    ensure!(ask(&pool_url(stage, 0, "production", &new))? == 404, "the pool of another ring");
    ensure!(ask(&by_digest)? == 403, "by digest");
    ensure!(ask(&pool_url(stage, 0, "production", &old))? == 200, "what production has");
    // A machine that edits its sources learns nothing.
    let curious = stage.endpoint("curious", &pilot, "pilot")?;
    refused(&curious, &stage.island, &["update"], "403")?;
    let answer = cargo::output(Command::new("curl").args(["--silent", &format!("{pilot}dists/stable/InRelease")]))?;
    ensure!(answer.contains("your rings are: production"), "the refusal gives no reason: {answer}");
    ensure!(rows(&stage.world.lab.ask(&stage.world.bob, &["patches"])?, "patches").len() == 2);
    Ok(())
}

#[test]
fn apt_refuses_what_was_changed_on_the_way_and_an_index_that_expired() {
    let Some(mut stage) = Stage::new("apt_tampered", &[("SLUICE_APT_VALID_SECS", "20")]) else { return };
    tampered(&mut stage).unwrap();
}

fn tampered(stage: &mut Stage) -> Result<()> {
    let version = demo(stage, "1.0-1", 1 << 20)?;
    stage.world.publish("demo", &version, "high", "CVE-2026-10001")?;
    stage.world.approve("demo/1.0-1", "production")?;
    stage.until_index(0, "production", listed("1.0-1"))?;
    let node = stage.world.nodes[0].listening.http.clone();
    let through = |what: &'static str| -> Result<AptRoot> {
        let proxy = tamper::start(&stage.island.host, &node, what)?;
        stage.endpoint(
            &format!("through-{}", what.replace('/', "")),
            &format!("http://{proxy}/apt/production/"),
            "production",
        )
    };
    refused(&through("/InRelease")?, &stage.island, &["update"], "E:")?;
    refused(&through("/by-hash/")?, &stage.island, &["update"], "Hash Sum mismatch")?;
    let endpoint = through("/pool/")?;
    quiet(&endpoint, &stage.island, &["update"])?;
    refused(&endpoint, &stage.island, &["install", "sluice-demo-data"], "Hash Sum mismatch")?;
    ensure!(endpoint.installed("sluice-demo-data")?.is_none(), "a changed package was installed");
    // Untouched, the same way is good.
    let endpoint = through("/nothing/")?;
    quiet(&endpoint, &stage.island, &["update"])?;
    quiet(&endpoint, &stage.island, &["install", "sluice-demo-data"])?;

    // Nobody signs any more: a node that gives out the last index for ever is found out by its date.
    stage.world.lab.kill("repo")?;
    let frozen = stage.endpoint_after("frozen", &node)?;
    let mut last = String::new();
    let expired = wait(Duration::from_secs(60), || {
        let said = frozen.apt(&stage.island, &["update"])?;
        last = format!("{}{}", said.out, said.err);
        Ok(said.code != 0 && last.contains("expired"))
    })?;
    ensure!(expired, "apt still takes the index:\n{last}");
    Ok(())
}

impl Stage {
    /// An endpoint made while the repo server is away: the key comes from the node.
    fn endpoint_after(&self, name: &str, node: &str) -> Result<AptRoot> {
        let endpoint = AptRoot::new(&self.base, &self.world.lab.folder(name)?)?;
        let key = cargo::output(Command::new("curl").args([
            "--silent",
            "--fail",
            &format!("http://{node}/apt/production/key.asc"),
        ]))?;
        endpoint.write("etc/apt/keyrings/sluice.asc", &key)?;
        let line = format!("deb [signed-by=/etc/apt/keyrings/sluice.asc] http://{node}/apt/production/ stable main\n");
        endpoint.write("etc/apt/sources.list.d/sluice.list", &line)?;
        Ok(endpoint)
    }
}
