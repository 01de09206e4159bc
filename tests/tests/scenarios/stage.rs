//! One repository with one node and one endpoint, brought up honestly by the programs themselves; then the repository is
//! gone, and whoever has its keys and its address plays it.

use crate::forge::{Forge, sha256};
use crate::server::{Reply, Server};
use anyhow::{Context, Result, ensure};
use sluice_identity::DeviceKey;
use sluice_metadata::Signer;
use sluice_model::Timestamp;
use sluice_tests::foreign::{ForeignClient, Request, Said};
use sluice_tests::{copy_folder, world};
use sluice_xtask::cargo;
use sluice_xtask::lab::world::{World, curl};
use sluice_xtask::lab::{packages, roots, said, wait};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

const LONG: Duration = Duration::from_secs(30);
pub const DESK: &str = "desk";
pub const NODE: &str = "node-1";

/// Everything that a scenario needs.
pub struct Stage {
    pub world: World,
    pub server: Server,
    pub foreign: Vec<ForeignClient>,
    pub good: packages::Version,
    pub bad: packages::Version,
    /// Content and documents, by path: what every repository state has in common.
    common: BTreeMap<String, Reply>,
    root: PathBuf,
    node_key: DeviceKey,
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(since.as_millis() as u64)
}

pub fn target_of(version: &packages::Version) -> String {
    format!("patches/production/{}", file_name(version))
}

fn file_name(version: &packages::Version) -> String {
    version.debs[0].path.file_name().unwrap().to_string_lossy().into_owned()
}

/// The bytes at a URL, if the answer is 200.
fn get(url: &str) -> Option<Vec<u8>> {
    let output = Command::new("curl").args(["--silent", "--fail", "--max-time", "10", url]).output().unwrap();
    output.status.success().then_some(output.stdout)
}

impl Stage {
    /// The honest beginning: `good` (which the endpoint installs) and `bad` are approved for production, and every node
    /// holds both.
    pub fn set_up(foreign: Vec<ForeignClient>) -> Result<Self> {
        let mut world = world("scenarios")?;
        world.add_site("lyon", "10.1.0.0/16", "800mbit")?;
        world.add_node(NODE, "lyon")?;
        world.until_connected()?;
        let needs = vec![(packages::RUNTIME.to_owned(), "1.0".to_owned())];
        world.add_endpoint(DESK, ("lyon", "production"), &needs, "all")?;
        let folder = world.lab.folder("packages")?;
        let good = packages::one(&folder, "1.0-1", 1 << 20)?;
        let bad = packages::one(&folder, "0.9-1", 1 << 18)?;
        world.publish("good", &good, "high", "CVE-2026-10001")?;
        let root = world.lab.dir().join("1.root.json");
        let node_key = DeviceKey::load(&world.nodes[0].data.join("device.key"))?;
        let server = Server::new();
        let common = BTreeMap::new();
        let stage = Self { world, server, foreign, good, bad, common, root, node_key };
        let repo = stage.repo_host();
        std::fs::write(&stage.root, get(&format!("http://{repo}/tuf/metadata/1.root.json")).context("no root")?)?;
        Ok(stage)
    }

    pub fn repo_host(&self) -> String {
        self.world.repo_listening().unwrap().http.clone()
    }

    pub fn node_host(&self) -> String {
        self.world.nodes[0].listening.http.clone()
    }

    /// The repository ends; its files, keys and addresses are ours.
    pub fn take_over(&mut self) -> Result<Forge> {
        let host = self.repo_host();
        let files = self.mirror(&host)?;
        self.world.lab.terminate("repo")?;
        self.world.lab.terminate(NODE)?;
        let keys = self.world.repo_data().join("keys");
        let mut by_role: BTreeMap<String, Vec<Signer>> = BTreeMap::new();
        for entry in std::fs::read_dir(&keys)? {
            let path = entry?.path();
            if path.extension() != Some("key".as_ref()) {
                continue; // The archive key of the Debian view signs no role.
            }
            let role = path.file_stem().context("a key without a name")?.to_string_lossy().into_owned();
            by_role.entry(role).or_default().push(Signer::from_pkcs8_pem(&std::fs::read_to_string(&path)?)?);
        }
        let listening = self.world.repo_listening()?.clone();
        self.server.listen_http(listening.http.parse()?);
        let key = DeviceKey::load(&self.world.repo_data().join("device.key"))?;
        // Held until the process ends: the repository never comes back.
        std::mem::forget(self.server.listen_device(listening.device.parse()?, &key));
        Ok(Forge::new(files, by_role, now()))
    }

    /// Every metadata file by name; content and documents go into what is common.
    fn mirror(&mut self, host: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        let read = |file: &str| get(&format!("http://{host}/tuf/metadata/{file}"));
        let parse = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes);
        let mut files = BTreeMap::new();
        for version in 1.. {
            let Some(bytes) = read(&format!("{version}.root.json")) else { break };
            files.insert(format!("{version}.root.json"), bytes);
        }
        let timestamp = read("timestamp.json").context("no timestamp")?;
        let version = parse(&timestamp)?["signed"]["meta"]["snapshot.json"]["version"].clone();
        let name = format!("{version}.snapshot.json");
        let snapshot = read(&name).context("no snapshot")?;
        for (file, meta) in parse(&snapshot)?["signed"]["meta"].as_object().context("no meta")? {
            let name = format!("{}.{file}", meta["version"]);
            let bytes = read(&name).with_context(|| format!("no {name}"))?;
            let body = parse(&bytes)?;
            for (target, row) in body["signed"]["targets"].as_object().context("no targets")? {
                self.mirror_target(host, target, row["hashes"]["sha256"].as_str().context("no hash")?);
            }
            files.insert(name, bytes);
        }
        files.insert(name, snapshot);
        files.insert("timestamp.json".into(), timestamp);
        for version in [&self.good, &self.bad] {
            let bytes = std::fs::read(&version.debs[0].path)?;
            let target = target_of(version);
            add_target(&mut self.common, &target, &bytes);
        }
        Ok(files)
    }

    fn mirror_target(&mut self, host: &str, target: &str, sha256: &str) {
        let (folder, file) = target.rsplit_once('/').unwrap();
        let path = format!("/tuf/targets/{folder}/{sha256}.{file}");
        if let Some(bytes) = get(&format!("http://{host}{path}")) {
            self.common.insert(path, Reply::Bytes(bytes.into()));
        }
    }

    /// Serves `forge` and what is common, with `changed` in the place of what it names.
    pub fn serve(&self, forge: &Forge, changed: &BTreeMap<String, Reply>) {
        let mut replies = self.common.clone();
        for (name, bytes) in &forge.files {
            replies.insert(format!("/tuf/metadata/{name}"), Reply::Bytes(bytes.as_slice().into()));
        }
        replies.extend(changed.clone());
        self.server.serve(replies);
    }

    /// What each client trusts now, to be gone back to.
    pub fn remember(&self, name: &str) -> Result<()> {
        for (client, folder) in self.states() {
            let to = self.world.lab.dir().join(format!("{name}-{client}"));
            if to.exists() {
                std::fs::remove_dir_all(&to)?;
            }
            copy_folder(&folder, &to)?;
        }
        Ok(())
    }

    /// Puts each client back to what was remembered. Nothing of ours runs meanwhile.
    pub fn go_back(&self, name: &str) -> Result<()> {
        for (client, folder) in self.states() {
            std::fs::remove_dir_all(&folder)?;
            copy_folder(&self.world.lab.dir().join(format!("{name}-{client}")), &folder)?;
        }
        Ok(())
    }

    fn states(&self) -> Vec<(String, PathBuf)> {
        let desk = self.world.endpoint(DESK).unwrap();
        let mut states = vec![
            ("node".to_owned(), self.world.nodes[0].data.clone()),
            ("desk-root".to_owned(), desk.root.clone()),
            ("desk-data".to_owned(), desk.data.clone()),
        ];
        for client in &self.foreign {
            for way in ["direct", "node"] {
                states.push((format!("{}-{way}", client.name()), self.folder_of(client.name(), way)));
            }
        }
        states
    }

    fn folder_of(&self, client: &str, way: &str) -> PathBuf {
        self.world.lab.dir().join(format!("tuf-{client}-{way}"))
    }

    /// Each foreign client, directly (`way` "direct") or through our node ("node").
    pub fn ask_foreign(&mut self, way: &str, target: &str) -> Result<Vec<(&'static str, Said)>> {
        let host = if way == "node" { self.node_host() } else { self.repo_host() };
        let mut all = Vec::new();
        let folders: Vec<PathBuf> = self.foreign.iter().map(|client| self.folder_of(client.name(), way)).collect();
        for (client, folder) in self.foreign.iter_mut().zip(folders) {
            let request = Request { folder: &folder, root: &self.root, host: &host, target: Some(target) };
            all.push((client.name(), client.ask(&request)?));
        }
        Ok(all)
    }

    pub fn start_node(&mut self) -> Result<()> {
        let _ = std::fs::remove_file(self.world.lab.dir().join(format!("{NODE}.log")));
        self.world.restart_node(NODE)
    }

    pub fn stop_node(&mut self) -> Result<()> {
        self.world.lab.kill(NODE)
    }

    /// Waits until the node trusts that timestamp.
    pub fn until_node_takes(&self, version: u64) -> Result<()> {
        let took = wait(LONG, || Ok(self.node_timestamp()? == version))?;
        ensure!(took, "the node serves {} and not {version}:\n{}", self.node_timestamp()?, self.world.lab.log(NODE));
        Ok(())
    }

    /// Waits until the node names its reason in these words.
    pub fn until_node_says(&self, words: &str) -> Result<()> {
        let says = wait(LONG, || Ok(self.world.lab.log(NODE).contains(words)))?;
        ensure!(says, "the node did not say {words:?}:\n{}", self.world.lab.log(NODE));
        Ok(())
    }

    /// Waits until the node asked that often.
    pub fn until_asked(&self, times: u64) -> Result<()> {
        ensure!(wait(LONG, || Ok(self.server.asked() >= times))?, "the node asked {} times", self.server.asked());
        Ok(())
    }

    pub fn node_timestamp(&self) -> Result<u64> {
        let url = format!("http://{}/tuf/metadata/timestamp.json", self.node_host());
        let Some(bytes) = get(&url) else { return Ok(0) };
        let file: serde_json::Value = serde_json::from_slice(&bytes)?;
        file["signed"]["version"].as_u64().context("a timestamp without a version")
    }

    /// The node's answer for an artifact.
    pub fn node_status(&self, version: &packages::Version) -> Result<u16> {
        let url = format!("http://{}/content/sha256/{}", self.node_host(), version.debs[0].sha256);
        Ok(curl(&["-o", "/dev/null", &url])?.status)
    }

    /// One pass of the endpoint's agent against the attacker, who plays its node and its repository. Gives what it said and
    /// the version that is installed then.
    pub fn agent_pass(&self) -> Result<(String, Option<String>)> {
        let address = self.world.nodes[0].listening.device.parse()?;
        let guard = self.server.listen_device(address, &self.node_key);
        let desk = self.world.endpoint(DESK)?;
        let mut agent = self.world.agent("run", &desk.root, &desk.data);
        let told = said(agent.arg("--once"));
        guard.close(&self.server);
        let told = told?;
        Ok((told.err, self.installed()?))
    }

    /// One pass against the real node.
    pub fn honest_pass(&self) -> Result<Option<String>> {
        let desk = self.world.endpoint(DESK)?;
        cargo::output(self.world.agent("run", &desk.root, &desk.data).arg("--once"))?;
        self.installed()
    }

    pub fn installed(&self) -> Result<Option<String>> {
        roots::installed_version(&self.world.endpoint(DESK)?.root, &self.good.debs[0].package)
    }
}

/// Both addresses of an artifact.
pub fn add_target(replies: &mut BTreeMap<String, Reply>, target: &str, bytes: &[u8]) {
    let reply = Reply::Bytes(bytes.into());
    for path in paths_of(target, &sha256(bytes)) {
        replies.insert(path, reply.clone());
    }
}

/// Where clients ask for a target.
pub fn paths_of(target: &str, sha256: &str) -> [String; 2] {
    let (folder, file) = target.rsplit_once('/').unwrap();
    [format!("/tuf/targets/{folder}/{sha256}.{file}"), format!("/content/sha256/{sha256}")]
}
