//! A repository, sites, nodes and endpoints as real processes, driven through the programs' own commands.

use super::{Lab, Listening, Person, packages, roots, said, wait};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A caching node.
pub struct Node {
    pub name: String,
    pub site: String,
    pub data: PathBuf,
    pub listening: Listening,
}

/// An endpoint: a folder with a package database of its own.
pub struct Endpoint {
    pub name: String,
    pub site: String,
    pub root: PathBuf,
    pub data: PathBuf,
}

/// What runs, and the persons who rule it: alice publishes and may approve what others publish; bob approves, retracts
/// and administers.
pub struct World {
    pub lab: Lab,
    pub alice: Person,
    pub bob: Person,
    pub nodes: Vec<Node>,
    pub endpoints: Vec<Endpoint>,
    /// For every node that is started from now on: settings, or a clock that is not the machine's.
    pub node_environment: Vec<(String, String)>,
    repo: PathBuf,
    repo_at: Option<Listening>,
    repo_environment: Vec<(String, String)>,
}

impl World {
    /// Initialises a dev repository, starts it, and makes both persons' tokens. `environment` overrides its settings.
    /// An error gives the lab back, so that its logs can be shown.
    pub fn start(lab: Lab, environment: &[(&str, &str)]) -> Result<Self, Box<(Lab, anyhow::Error)>> {
        let nobody = |name| Person { name, token: String::new() };
        let repo = lab.dir().join("repo");
        let repo_environment =
            environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut world = Self {
            lab,
            alice: nobody("alice"),
            bob: nobody("bob"),
            nodes: Vec::new(),
            endpoints: Vec::new(),
            node_environment: Vec::new(),
            repo,
            repo_at: None,
            repo_environment,
        };
        match world.bring_up() {
            Ok(()) => Ok(world),
            Err(error) => Err(Box::new((world.lab, error))),
        }
    }

    fn bring_up(&mut self) -> Result<()> {
        let mut init = self.lab.program("sluice-repo");
        init.args(["init", "--dev", "--data"]).arg(&self.repo);
        let printed = said(&mut init)?;
        ensure!(printed.code == 0, "sluice-repo init failed: {}{}", printed.out, printed.err);
        let token = find_token(&printed.out).context("sluice-repo init printed no admin token")?;
        let admin = Person { name: "admin", token };
        self.start_repository()?;
        self.alice.token = self.person_token(&admin, "alice", &["publisher", "approver"])?;
        self.bob.token = self.person_token(&admin, "bob", &["approver", "retractor", "admin"])?;
        for person in [self.alice.clone(), self.bob.clone()] {
            let url = self.lab.url().to_owned();
            self.lab.note(format!("{}: export SLUICE_URL={url} SLUICE_TOKEN={}", person.name, person.token));
        }
        Ok(())
    }

    /// The repository's data folder.
    pub fn repo_data(&self) -> &Path {
        &self.repo
    }

    /// Where the repository listens.
    pub fn repo_listening(&self) -> Result<&Listening> {
        self.repo_at.as_ref().context("the repository was never started")
    }

    /// Starts the repository, where it listened before if it did, so that nodes find it again.
    pub fn start_repository(&mut self) -> Result<()> {
        let mut serve = self.lab.program("sluice-repo");
        serve.args(["serve", "--data"]).arg(&self.repo).envs(self.repo_environment.clone());
        let any = || format!("{}:0", self.lab.address_of("repo"));
        // Tokens are taken from loopback only, nodes join from elsewhere.
        let http = || if self.lab.network().is_some() { "0.0.0.0:0".to_owned() } else { any() };
        let at = self.repo_at.clone().unwrap_or_else(|| Listening { http: http(), device: any(), overlay: any() });
        serve.env("SLUICE_LISTEN_HTTP", at.http).env("SLUICE_LISTEN_DEVICE", at.device);
        serve.env("SLUICE_LISTEN_OVERLAY", at.overlay).env("SLUICE_HTTPS_LISTEN", "127.0.0.1:0");
        self.lab.start("repo", &self.repo, &mut serve)?;
        let listening = self.lab.listening("repo")?;
        self.lab.set_url(&format!("http://{}", listening.http.replace("0.0.0.0", "127.0.0.1")));
        self.repo_at = Some(listening);
        Ok(())
    }

    /// A further person, made by bob.
    pub fn add_person(&self, person: &'static str, roles: &[&str]) -> Result<Person> {
        Ok(Person { name: person, token: self.person_token(&self.bob, person, roles)? })
    }

    fn person_token(&self, admin: &Person, person: &str, roles: &[&str]) -> Result<String> {
        let mut arguments = vec!["token", "new", "--kind", "person", "--person", person];
        arguments.extend(roles.iter().flat_map(|role| ["--role", role]));
        token_of(&self.lab.ask(admin, &arguments)?)
    }

    /// Adds a site with a boundary and a WAN cap such as `20mbit`.
    pub fn add_site(&self, site: &str, boundary: &str, wan_cap: &str) -> Result<()> {
        self.lab.ask(&self.bob, &["site", "add", site, "--boundary", boundary, "--wan-cap", wan_cap]).map(|_| ())
    }

    /// A token that enrols a node at `site`.
    pub fn node_token(&self, site: &str) -> Result<String> {
        token_of(&self.lab.ask(&self.bob, &["token", "new", "--kind", "node", "--site", site])?)
    }

    /// A token that enrols an endpoint.
    pub fn endpoint_token(&self, site: &str, ring: &str) -> Result<String> {
        let arguments = ["token", "new", "--kind", "endpoint", "--site", site, "--ring", ring];
        token_of(&self.lab.ask(&self.bob, &arguments)?)
    }

    /// Joins a node and starts it.
    pub fn add_node(&mut self, name: &str, site: &str) -> Result<()> {
        let token = self.node_token(site)?;
        let data = self.lab.dir().join(name);
        self.lab.place(name)?;
        let joined = self.lab.said_at(name, self.join(&token, &data).args(["--name", name]))?;
        ensure!(joined.code == 0, "{name} could not join: {}{}", joined.out, joined.err);
        let listening = self.start_node(name, &data, None)?;
        self.lab.note(format!("{name}: http://{}", listening.http));
        self.nodes.push(Node { name: name.to_owned(), site: site.to_owned(), data, listening });
        Ok(())
    }

    /// The join command, ready to run.
    pub fn join(&self, token: &str, data: &Path) -> Command {
        let mut join = self.lab.program("sluice-node");
        let repository = self.lab.url().replace("127.0.0.1", &self.lab.address_of("repo"));
        join.args(["join", "--repository", &repository, "--token", token, "--data"]).arg(data);
        join
    }

    /// Starts a node at the addresses `at`, or at any.
    fn start_node(&mut self, name: &str, data: &Path, at: Option<Listening>) -> Result<Listening> {
        let mut serve = self.lab.program("sluice-node");
        serve.args(["serve", "--data"]).arg(data);
        let any = || format!("{}:0", self.lab.address_of(name));
        let at = at.unwrap_or_else(|| Listening { http: any(), device: any(), overlay: any() });
        serve.env("SLUICE_LISTEN_HTTP", at.http).env("SLUICE_LISTEN_DEVICE", at.device);
        serve.env("SLUICE_LISTEN_OVERLAY", at.overlay);
        serve.env("SLUICE_ORIGIN_STATUS_MS", "500").env("SLUICE_ORIGIN_METADATA_POLL_MS", "2000");
        serve.env("SLUICE_ORIGIN_REPORT_RETRY_MS_MAX", "2000");
        serve.envs(self.node_environment.iter().map(|(key, value)| (key, value)));
        self.lab.start(name, data, &mut serve)?;
        self.lab.listening(name)
    }

    /// Starts a stopped or killed node again, where it listened before, as a node with fixed ports does.
    pub fn restart_node(&mut self, name: &str) -> Result<()> {
        let node = self.node(name)?;
        let (data, at) = (node.data.clone(), node.listening.clone());
        self.start_node(name, &data, Some(at)).map(|_| ())
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| anyhow!("no node {name}"))
    }

    /// The first node of a site.
    pub fn node_of(&self, site: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.site == site).ok_or_else(|| anyhow!("no node at {site}"))
    }

    /// Waits until every node's overlay link to the repository is up.
    pub fn until_connected(&self) -> Result<()> {
        let settled = wait(Duration::from_secs(15), || {
            let nodes = self.lab.ask(&self.bob, &["nodes"])?;
            Ok(rows(&nodes, "nodes").iter().filter(|node| node["link"] == "connected").count() >= self.nodes.len())
        })?;
        ensure!(settled, "not every node is connected");
        Ok(())
    }

    /// Waits until every node knows where the others listen.
    pub fn until_acquainted(&self) -> Result<()> {
        let listed = wait(Duration::from_secs(15), || {
            let nodes = self.lab.ask(&self.bob, &["nodes"])?;
            let is_listed = |node: &&Value| node["addresses"]["device"].as_array().is_some_and(|some| !some.is_empty());
            Ok(rows(&nodes, "nodes").iter().filter(is_listed).count() >= self.nodes.len())
        })?;
        ensure!(listed, "not every node said where it listens");
        self.until_current()
    }

    /// Waits until every node has the metadata that the repository serves now, and so lists what was approved before.
    pub fn until_current(&self) -> Result<()> {
        let newest = self.lab.ask(&self.bob, &["status"])?["timestamp_version"].as_u64().context("no version")?;
        let current = wait(Duration::from_secs(15), || {
            let nodes = self.lab.ask(&self.bob, &["nodes"])?;
            let is_current =
                |node: &&Value| node["timestamp_version"].as_u64().is_some_and(|version| version >= newest);
            Ok(rows(&nodes, "nodes").iter().filter(is_current).count() >= self.nodes.len())
        })?;
        ensure!(current, "not every node has timestamp version {newest}");
        Ok(())
    }

    /// Makes a package root in which `installed` count as installed, and enrols an endpoint for it.
    pub fn add_endpoint(
        &mut self,
        name: &str,
        (site, ring): (&str, &str),
        installed: &[(String, String)],
        architecture: &str,
    ) -> Result<()> {
        let root = self.lab.folder(&format!("root-{name}"))?;
        roots::make(&root, installed, architecture)?;
        let data = self.lab.dir().join(name);
        let token = self.endpoint_token(site, ring)?;
        let mut enrol = self.agent("enrol", &root, &data);
        enrol.args(["--repository", self.lab.url(), "--token", &token, "--name", name, "--accept-dev-root"]);
        let enrolled = said(&mut enrol)?;
        ensure!(enrolled.code == 0, "{name} could not enrol: {}{}", enrolled.out, enrolled.err);
        self.lab.note(format!("{name} ({ring}): dpkg-query --root={} --list", root.display()));
        self.endpoints.push(Endpoint { name: name.to_owned(), site: site.to_owned(), root, data });
        Ok(())
    }

    /// An agent's command, ready for more arguments.
    pub fn agent(&self, command: &str, root: &Path, data: &Path) -> Command {
        let mut agent = self.lab.program("sluice-agent");
        agent.arg(command).arg("--data").arg(data).env("SLUICE_DPKG_ROOT", root);
        agent.env("SLUICE_POLL_METADATA_MS", "300").env("SLUICE_POLL_RETRY_SECS", "600");
        if !rustix::process::geteuid().is_root() {
            agent.env("SLUICE_DPKG_FORCE_NOT_ROOT", "true");
        }
        agent
    }

    /// Starts an endpoint's agent.
    pub fn start_agent(&mut self, name: &str) -> Result<()> {
        let endpoint = self.endpoint(name)?;
        let (root, data) = (endpoint.root.clone(), endpoint.data.clone());
        let mut run = self.agent("run", &root, &data);
        self.lab.start(name, &data, &mut run)
    }

    /// The endpoint of that name.
    pub fn endpoint(&self, name: &str) -> Result<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.name == name).ok_or_else(|| anyhow!("no endpoint {name}"))
    }

    /// Publishes as alice; the repository must list the sha256 of every file.
    pub fn publish(&self, name: &str, version: &packages::Version, severity: &str, cve: &str) -> Result<Value> {
        let files: Vec<String> = version.debs.iter().map(|deb| deb.path.display().to_string()).collect();
        let mut arguments = vec!["publish"];
        arguments.extend(files.iter().map(String::as_str));
        arguments.extend(["--name", name, "--patch-version", version.number(), "--severity", severity, "--cve", cve]);
        let patch = self.lab.ask(&self.alice, &arguments)?;
        for deb in &version.debs {
            let listed = rows(&patch, "artifacts").iter().any(|artifact| artifact["sha256"] == deb.sha256.as_str());
            ensure!(listed, "the repository does not list the sha256 of {}", deb.path.display());
        }
        Ok(patch)
    }

    /// Approves as bob.
    pub fn approve(&self, patch: &str, ring: &str) -> Result<Value> {
        self.lab.ask(&self.bob, &["approve", patch, "--ring", ring])
    }

    /// The API's view of a site.
    pub fn site(&self, name: &str) -> Result<Value> {
        let sites = self.lab.ask(&self.bob, &["site", "list"])?;
        rows(&sites, "sites")
            .iter()
            .find(|site| site["name"] == name)
            .cloned()
            .with_context(|| format!("no site {name}"))
    }

    /// Whether dpkg says that every package of `version` is installed on all of `names`.
    pub fn all_have(&self, names: &[&str], version: &packages::Version) -> Result<bool> {
        for name in names {
            let endpoint = self.endpoint(name)?;
            for deb in &version.debs {
                if roots::installed_version(&endpoint.root, &deb.package)?.as_deref() != Some(deb.version.as_str()) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Waits until dpkg says so.
    pub fn until_on_disk(&self, names: &[&str], version: &packages::Version, at_most: Duration) -> Result<()> {
        let done = wait(at_most, || self.all_have(names, version))?;
        ensure!(done, "{} is not installed on all of {} after {at_most:?}", version.number(), names.join(", "));
        Ok(())
    }

    /// Waits for the compliance state of `patch`; returns the rows in the order of `names`.
    pub fn until_state(&self, names: &[&str], patch: &str, state: &str, at_most: Duration) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        let done = wait(at_most, || {
            let answer = self.lab.ask(&self.bob, &["compliance", "endpoints"])?;
            let row = |name: &&str| {
                let is_it = |row: &&Value| row["name"] == **name && row["patch"] == patch && row["state"] == state;
                rows(&answer, "rows").iter().find(is_it).cloned()
            };
            found = names.iter().filter_map(row).collect();
            Ok(found.len() == names.len())
        })?;
        ensure!(done, "the compliance store does not show {patch} as {state} on all of {}", names.join(", "));
        Ok(found)
    }

    /// Every outcome report that the repository has of `endpoint`, oldest first.
    pub fn outcomes_of(&self, endpoint: &str) -> Result<Vec<Value>> {
        let answer = self.lab.ask(&self.bob, &["outcomes"])?;
        Ok(rows(&answer, "outcomes").iter().filter(|row| row["endpoint_name"] == endpoint).cloned().collect())
    }
}

/// The list of that name in an answer.
pub fn rows<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn token_of(value: &Value) -> Result<String> {
    value["token"].as_str().map(str::to_owned).context("the answer holds no token")
}

/// A person's token in what `sluice-repo init` printed.
fn find_token(text: &str) -> Option<String> {
    let at = text.find("slp1-")?;
    Some(text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect())
}

/// What a foreign client was answered.
pub struct Answer {
    pub status: u16,
    /// Title of the problem, empty when the body is none.
    pub title: String,
}

/// A foreign client: curl with these arguments.
pub fn curl(arguments: &[&str]) -> Result<Answer> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "30", "--write-out", "\n%{http_code}"]).args(arguments);
    let output = command.output().context("cannot start curl")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').context("curl printed no status")?;
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    Ok(Answer { status: status.trim().parse()?, title: problem["title"].as_str().unwrap_or_default().to_owned() })
}

/// Where a node serves the first package of a version.
pub fn content_url(node: &Node, version: &packages::Version) -> String {
    format!("http://{}/content/sha256/{}", node.listening.http, version.debs[0].sha256)
}
