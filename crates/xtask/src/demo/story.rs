//! The story, step by step. Each function is one step; each ends with an error when what it says did not happen.

use super::tables;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_xtask::lab::packages::{Version, Versions};
use sluice_xtask::lab::world::{World, content_url, curl, rows};
use sluice_xtask::lab::{Lab, roots, wait};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

const WAN_CAP: &str = "20mbit";
/// Longest wait for a version to cross a capped link and be installed and reported: 28 MiB at 2.5 MB/s is 12 s.
const INSTALL_MAX: Duration = Duration::from_secs(60);
/// A retraction reaches connected nodes within this (promise P3).
const FENCE_SECS_MAX: u64 = 5;
const ROLLBACK_SECS_MAX: u64 = 30;

const NODES: [(&str, &str); 5] = [
    ("node-lyon-1", "lyon"),
    ("node-lyon-2", "lyon"),
    ("node-brno-1", "brno"),
    ("node-brno-2", "brno"),
    ("node-brno-3", "brno"),
];
const ENDPOINTS: [(&str, &str, &str); 5] = [
    ("lyon-pilot", "lyon", "pilot"),
    ("lyon-desk", "lyon", "production"),
    ("brno-desk", "brno", "production"),
    ("brno-late", "brno", "production"),
    ("brno-bare", "brno", "production"),
];
/// Lacks what the package needs.
const BARE: &str = "brno-bare";
/// Comes up only while the repository is down.
const LATE: &str = "brno-late";
/// Killed in mid-fetch and started again.
const VICTIM: &str = "node-brno-3";

struct Story<'a> {
    world: World,
    versions: &'a Versions,
    begun: Instant,
    seen: BTreeMap<&'static str, Value>,
}

/// Plays it; gives the lab back, and what was seen, for `--json`.
pub fn play(lab: Lab, versions: &Versions) -> (Lab, Result<Value>) {
    let begun = Instant::now();
    match World::start(lab, &[]) {
        Ok(world) => {
            let mut story = Story { world, versions, begun, seen: BTreeMap::new() };
            let outcome = story.tell_all();
            (story.world.lab, outcome)
        }
        Err(failed) => {
            let (lab, error) = *failed;
            (lab, Err(error.context("step: the repository")))
        }
    }
}

impl Story<'_> {
    fn tell_all(&mut self) -> Result<Value> {
        self.tell("a repository is up; alice publishes, bob approves and retracts");
        self.sites_and_nodes().context("step: sites and nodes")?;
        self.make_endpoints().context("step: endpoints")?;
        self.old_version().context("step a and b: the old version")?;
        self.new_version_in_pilot().context("step b: the new version in pilot")?;
        self.new_version_in_production().context("step b to d: the new version in production")?;
        self.account().context("step e: the account")?;
        self.retract().context("step f: the retraction")?;
        Ok(json!(self.seen))
    }

    fn tell(&self, text: &str) {
        println!("[{:5.1} s] {text}", self.begun.elapsed().as_secs_f64());
    }

    fn sites_and_nodes(&mut self) -> Result<()> {
        for (site, boundary) in [("lyon", "10.1.0.0/16"), ("brno", "10.2.0.0/16")] {
            self.world.add_site(site, boundary, WAN_CAP)?;
        }
        for (name, site) in NODES {
            self.world.add_node(name, site)?;
        }
        self.world.until_connected()?;
        self.tell(&format!("2 nodes at lyon and 3 at brno joined, each site with a WAN cap of {WAN_CAP}"));
        Ok(())
    }

    fn make_endpoints(&mut self) -> Result<()> {
        let needs = self.versions.missing_needs();
        let architecture =
            self.versions.old.debs.iter().map(|deb| deb.architecture.as_str()).find(|arch| *arch != "all");
        let architecture = architecture.unwrap_or("all");
        for (name, site, ring) in ENDPOINTS {
            let lacks = if name == BARE { needs.first() } else { None };
            let installed: Vec<_> = needs.iter().filter(|need| Some(*need) != lacks).cloned().collect();
            self.world.add_endpoint(name, (site, ring), &installed, architecture)?;
        }
        let written: Vec<String> = needs.iter().map(|(package, version)| format!("{package} {version}")).collect();
        if !written.is_empty() {
            self.tell(&format!(
                "written as installed into the package roots, since the package needs it: {}",
                written.join(", ")
            ));
        }
        if let Some((package, _)) = needs.first() {
            self.tell(&format!(
                "5 endpoints enrolled, one in pilot, four in production; {BARE} lacks {package} on purpose"
            ));
        } else {
            self.tell("5 endpoints enrolled, one in pilot, four in production");
        }
        Ok(())
    }

    fn patch(&self, version: &Version) -> String {
        format!("{}/{}", self.versions.name, version.number())
    }

    fn publish(&self, version: &Version, severity: &str, cve: &str) -> Result<()> {
        self.world.publish(&self.versions.name, version, severity, cve)?;
        self.tell(&format!("alice published {} ({})", self.patch(version), size_text(version)?));
        Ok(())
    }

    fn old_version(&mut self) -> Result<()> {
        let patch = self.patch(&self.versions.old);
        self.publish(&self.versions.old, "high", "CVE-2026-10001")?;
        let refused = self.world.lab.say(&self.world.alice, &["approve", &patch, "--ring", "pilot"])?;
        ensure!(refused.code == 1, "alice approved her own patch: {}", refused.out);
        self.tell(&format!("alice cannot approve it: {}", error_line(&refused.err)));
        for name in ENDPOINTS.map(|(name, _, _)| name).into_iter().filter(|name| *name != LATE) {
            self.world.start_agent(name)?;
        }
        for ring in ["pilot", "production"] {
            self.world.approve(&patch, ring)?;
        }
        self.tell(&format!("bob approved {patch} for pilot and production"));
        let version = self.versions.old.clone();
        let names = ["lyon-pilot", "lyon-desk", "brno-desk"];
        self.until_installed(&names, &version)?;
        self.tell(&format!("{patch} is installed on {}", names.join(", ")));
        self.repository_pauses(&version)?;
        self.bare_endpoint_failed(&version)
    }

    /// c: the repository is stopped while brno still installs, and started later: the reports arrive.
    fn repository_pauses(&mut self, version: &Version) -> Result<()> {
        let took = self.world.lab.terminate("repo")?;
        self.tell(&format!("the repository is stopped (clean after {:.1} s)", took.as_secs_f64()));
        self.world.start_agent(LATE)?;
        self.world.until_on_disk(&[LATE], version, INSTALL_MAX)?;
        self.tell(&format!("{LATE} came up meanwhile and installed from its site's nodes"));
        std::thread::sleep(Duration::from_millis(500));
        self.world.start_repository()?;
        self.world.until_state(&[LATE], &self.patch(version), "installed", INSTALL_MAX)?;
        self.tell("the repository is back and has the report that waited at a node");
        Ok(())
    }

    /// d: a missing dependency is a failure in dpkg's words, never `installed`.
    fn bare_endpoint_failed(&mut self, version: &Version) -> Result<()> {
        if self.versions.missing_needs().is_empty() {
            self.tell("these packages need nothing, so no endpoint can lack it");
            return Ok(());
        }
        let row = self.world.until_state(&[BARE], &self.patch(version), "failed", INSTALL_MAX)?.remove(0);
        ensure!(row["class"] == "dependency", "{BARE} failed with class {} instead of dependency", row["class"]);
        let outcomes = self.world.lab.ask(&self.world.bob, &["outcomes"])?;
        let of_bare: Vec<&Value> =
            rows(&outcomes, "outcomes").iter().filter(|row| row["endpoint_name"] == BARE).collect();
        ensure!(of_bare.iter().all(|row| row["outcome"] != "installed"), "{BARE} reported installed");
        let detail = of_bare.iter().find(|row| row["outcome"] == "failed").and_then(|row| row["detail"].as_str());
        let words: Vec<&str> =
            detail.unwrap_or_default().lines().filter(|line| line.contains("depend")).take(2).map(str::trim).collect();
        let words = words.join(" ");
        ensure!(words.contains("depends on"), "{BARE} did not report dpkg's words: {detail:?}");
        self.tell(&format!("{BARE} failed, class dependency: {words}"));
        Ok(())
    }

    fn new_version_in_pilot(&mut self) -> Result<()> {
        let patch = self.patch(&self.versions.new);
        self.publish(&self.versions.new, "critical", "CVE-2026-10002")?;
        self.world.approve(&patch, "pilot")?;
        let version = self.versions.new.clone();
        self.until_installed(&["lyon-pilot"], &version)?;
        self.tell(&format!("{patch} is approved for pilot and installed on lyon-pilot"));
        let node = self.world.node_of("lyon")?;
        let early = curl(&[&content_url(node, &version)])?;
        ensure!(early.status == 403, "a production client got {} for a pilot patch", early.status);
        self.tell(&format!("a production client that asks lyon's node early gets {}: {}", early.status, early.title));
        let desk = self.world.endpoint("lyon-desk")?;
        let now = roots::installed_version(&desk.root, &version.debs[0].package)?;
        ensure!(
            now.as_deref() == Some(self.versions.old.number()),
            "lyon-desk has {now:?} before production was approved"
        );
        Ok(())
    }

    fn new_version_in_production(&mut self) -> Result<()> {
        let patch = self.patch(&self.versions.new);
        let version = self.versions.new.clone();
        let before = self.world.site("brno")?["origin_bytes"].as_u64().unwrap_or(0);
        self.world.approve(&patch, "production")?;
        self.tell(&format!("bob approved {patch} for production"));
        self.kill_in_mid_fetch(before, total_bytes(&version)?)?;
        let names = ["lyon-desk", "brno-desk", LATE];
        self.until_installed(&names, &version)?;
        self.tell(&format!("{patch} is installed on {}", names.join(", ")));
        if !self.versions.missing_needs().is_empty() {
            self.world.until_state(&[BARE], &self.patch(&version), "failed", INSTALL_MAX)?;
        }
        Ok(())
    }

    /// c: a node is killed when about 40 % of the version has crossed the link, and started again.
    fn kill_in_mid_fetch(&mut self, before: u64, bytes: u64) -> Result<()> {
        if self.versions.given && bytes < 8 << 20 {
            self.tell("these packages are too small to kill a node in mid-fetch");
            return Ok(());
        }
        let is_under_way = wait(Duration::from_secs(30), || {
            Ok(self.world.site("brno")?["origin_bytes"].as_u64().unwrap_or(0) - before > bytes * 2 / 5)
        })?;
        let crossed = self.world.site("brno")?["origin_bytes"].as_u64().unwrap_or(0) - before;
        ensure!(
            is_under_way && crossed < bytes,
            "brno's fetch was not caught half-way: {crossed} of {bytes} bytes crossed"
        );
        self.world.lab.kill(VICTIM)?;
        self.tell(&format!("{VICTIM} is killed with {} of {} bytes at brno", crossed, bytes));
        std::thread::sleep(Duration::from_millis(500));
        self.world.restart_node(VICTIM)?;
        self.tell(&format!("{VICTIM} is started again"));
        Ok(())
    }

    /// e: the account, and the same facts from dpkg and sha256sum.
    fn account(&mut self) -> Result<()> {
        std::thread::sleep(Duration::from_millis(700));
        let endpoints = self.world.lab.ask(&self.world.bob, &["compliance", "endpoints"])?;
        let nodes = self.world.lab.ask(&self.world.bob, &["nodes"])?;
        let sites = self.world.lab.ask(&self.world.bob, &["site", "list"])?;
        println!();
        tables::endpoints(rows(&endpoints, "rows"), rows(&nodes, "nodes"));
        tables::nodes(rows(&nodes, "nodes"));
        let separate: BTreeMap<&str, u64> = ["lyon", "brno"].map(|site| (site, self.separate_bytes(site))).into();
        tables::sites(rows(&sites, "sites"), &separate)?;
        for site in rows(&sites, "sites") {
            let (origin, distinct) = (site["origin_bytes"].as_f64(), site["distinct_bytes"].as_f64());
            let ratio = origin.zip(distinct).map(|(origin, distinct)| origin / distinct).unwrap_or(f64::NAN);
            ensure!(ratio <= 1.05, "{} received {ratio:.3} times its distinct bytes from the origin", site["name"]);
            let (peak, cap) = (site["wan_peak_bytes_per_sec"].as_f64(), site["wan_bytes_per_sec"].as_f64());
            let (peak, cap) = peak.zip(cap).context("a site shows no rate")?;
            ensure!(peak <= cap * 1.05, "{} moved {peak} bytes in one second under a cap of {cap}", site["name"]);
        }
        self.seen.insert("endpoints", endpoints);
        self.seen.insert("nodes", nodes);
        self.seen.insert("sites", sites);
        self.cross_check()
    }

    /// What N separate downloads would have cost: every endpoint's bytes of every version.
    fn separate_bytes(&self, site: &str) -> u64 {
        let each = [&self.versions.old, &self.versions.new]
            .into_iter()
            .filter_map(|version| total_bytes(version).ok())
            .sum::<u64>();
        each * self.world.endpoints.iter().filter(|endpoint| endpoint.site == site).count() as u64
    }

    fn cross_check(&self) -> Result<()> {
        println!("\ncross-checked without us:");
        let version = &self.versions.new;
        for endpoint in &self.world.endpoints {
            let expected = (endpoint.name != BARE || self.versions.missing_needs().is_empty())
                .then(|| version.number().to_owned());
            let has = roots::installed_version(&endpoint.root, &version.debs[0].package)?;
            let command = sluice_xtask::cargo::shown(&roots::query(&endpoint.root, &version.debs[0].package));
            println!("  {command}\n    {}", has.as_deref().unwrap_or("not installed"));
            ensure!(has == expected, "dpkg says {has:?} on {}, expected {expected:?}", endpoint.name);
        }
        let node = self.world.node_of("brno")?;
        let fetched = self.world.lab.dir().join("fetched.deb");
        let url = content_url(node, version);
        let answer = curl(&["-o", &fetched.display().to_string(), &url])?;
        ensure!(answer.status == 200, "curl got {} from {url}", answer.status);
        let sum = sluice_xtask::cargo::output(Command::new("sha256sum").arg(&fetched))?;
        println!("  curl -o {} {url}\n  sha256sum {}\n    {}", fetched.display(), fetched.display(), sum.trim());
        ensure!(sum.starts_with(&version.debs[0].sha256), "the bytes from a node have another sha256");
        Ok(())
    }

    /// f: retracted everywhere, rolled back, and never published again.
    fn retract(&mut self) -> Result<()> {
        let version = self.versions.new.clone();
        let patch = self.patch(&version);
        let part = self.world.lab.dir().join("part.deb");
        let node = self.world.node_of("brno")?;
        curl(&["-r", "0-999", "-o", &part.display().to_string(), &content_url(node, &version)])?;
        let said = Instant::now();
        let reason = "corrupts the demo table";
        println!();
        self.world.lab.ask(&self.world.bob, &["retract", &patch, "--reason", reason])?;
        let urls: Vec<String> = self.world.nodes.iter().map(|node| content_url(node, &version)).collect();
        let fenced = wait(Duration::from_secs(FENCE_SECS_MAX), || {
            Ok(urls.iter().all(|url| curl(&["-I", url]).is_ok_and(|answer| answer.status == 410)))
        })?;
        let fence_secs = said.elapsed().as_secs_f64();
        ensure!(fenced, "a node still serves {patch} {FENCE_SECS_MAX} s after its retraction");
        self.tell(&format!("bob retracted {patch}; the last node refused it after {fence_secs:.2} s"));
        let answer = curl(&[&urls[0]])?;
        ensure!(answer.status == 410 && !answer.title.is_empty(), "curl got {} {}", answer.status, answer.title);
        self.tell(&format!("curl {} gives {}: {}", urls[0], answer.status, answer.title));
        let resumed = curl(&["-C", "1000", &urls[2]])?;
        ensure!(resumed.status == 410, "a resume got {}", resumed.status);
        self.tell(&format!("a resume (curl -C 1000) gives {}", resumed.status));
        self.publish_again_is_refused(&version)?;
        let old = self.versions.old.clone();
        let names = ["lyon-pilot", "lyon-desk", "brno-desk", LATE];
        let is_back = wait(Duration::from_secs(ROLLBACK_SECS_MAX), || self.world.all_have(&names, &old))?;
        let back_secs = said.elapsed().as_secs_f64();
        ensure!(is_back, "not every endpoint is back on {} after {ROLLBACK_SECS_MAX} s", old.number());
        self.tell(&format!("the last endpoint was back on {} after {back_secs:.1} s", self.patch(&old)));
        self.until_outcome(&names, &version, "rolled_back")?;
        self.seen.insert("retraction", json!({"patch": patch, "fence_secs": fence_secs, "rollback_secs": back_secs}));
        self.show_records()
    }

    fn publish_again_is_refused(&self, version: &Version) -> Result<()> {
        let file = version.debs[0].path.display().to_string();
        let arguments = ["publish", &file, "--name", "another-name", "--patch-version", "9", "--severity", "low"];
        let again = self.world.lab.say(&self.world.alice, &arguments)?;
        ensure!(
            again.code == 1 && again.err.contains("409"),
            "the same bytes under a new name: {} {}",
            again.code,
            again.err
        );
        self.tell(&format!("the same bytes under a new name are refused: {}", error_line(&again.err)));
        Ok(())
    }

    fn show_records(&mut self) -> Result<()> {
        let endpoints = self.world.lab.ask(&self.world.bob, &["endpoints"])?;
        let pilot =
            rows(&endpoints, "endpoints").iter().find(|row| row["name"] == "lyon-pilot").context("no lyon-pilot")?;
        let id = pilot["id"].as_str().context("an endpoint without an id")?;
        let explained = self.world.lab.ask(&self.world.bob, &["explain", "endpoint", id])?;
        println!("\nsluice explain endpoint {id}");
        for line in rows(&explained, "lines") {
            println!("  {}", line.as_str().unwrap_or_default());
        }
        let audit = self.world.lab.ask(&self.world.bob, &["audit"])?;
        println!("\naudit lines of people's decisions:");
        for entry in rows(&audit, "entries")
            .iter()
            .filter(|entry| entry["action"].as_str().is_some_and(|a| a.starts_with("patch.")))
        {
            let word = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            println!(
                "  {:>4} {} {} {}: {}",
                entry["seq"],
                word("who"),
                word("action"),
                word("subject"),
                word("result")
            );
        }
        let csv = self.world.lab.say(&self.world.bob, &["compliance", "endpoints", "--csv"])?;
        println!("\none line of the compliance CSV (after its heading):");
        for line in csv.out.lines().take(2) {
            println!("  {line}");
        }
        ensure!(csv.out.lines().count() > 1, "the CSV is empty: {}", csv.err);
        self.seen.insert("audit", audit);
        Ok(())
    }

    /// Installed by dpkg's word, and reported.
    fn until_installed(&self, names: &[&str], version: &Version) -> Result<()> {
        self.world.until_on_disk(names, version, INSTALL_MAX)?;
        self.world.until_state(names, &self.patch(version), "installed", INSTALL_MAX).map(|_| ())
    }

    fn until_outcome(&self, names: &[&str], version: &Version, outcome: &str) -> Result<()> {
        let patch = self.patch(version);
        let done = wait(Duration::from_secs(ROLLBACK_SECS_MAX), || {
            let answer = self.world.lab.ask(&self.world.bob, &["outcomes"])?;
            let has = |name: &&str| {
                rows(&answer, "outcomes").iter().any(|row| {
                    row["endpoint_name"] == **name && row["patch"] == patch.as_str() && row["outcome"] == outcome
                })
            };
            Ok(names.iter().all(has))
        })?;
        ensure!(done, "not all of {} reported {outcome} for {patch}", names.join(", "));
        self.tell(&format!("{} of them reported {outcome}", names.len()));
        Ok(())
    }
}

/// The line of what a command said that names the error.
fn error_line(text: &str) -> &str {
    text.lines().find(|line| line.starts_with("error: ")).unwrap_or_default().trim()
}

fn total_bytes(version: &Version) -> Result<u64> {
    version.debs.iter().map(|deb| Ok(std::fs::metadata(&deb.path)?.len())).sum()
}

fn size_text(version: &Version) -> Result<String> {
    let files = if version.debs.len() == 1 { "1 file".to_owned() } else { format!("{} files", version.debs.len()) };
    Ok(format!("{files}, {:.1} MiB", total_bytes(version)? as f64 / f64::from(1 << 20)))
}
