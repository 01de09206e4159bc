//! Network namespaces of one site: a repository's headquarters, one shaped WAN link, and nodes on a LAN bridge.
//!
//! ```text
//!   hq (10.77.0.1) h0 ══ shaped ══ w0 lan (bridge) ─┬─ e0 node 1 (10.77.1.1)
//!                                                   └─ e0 node 2 (10.77.1.2) ...
//! ```
//!
//! Invariants
//! - Nothing here leaves the namespaces: they have no route but to each other.
//! - Names carry the process id. What a process left that was killed is removed by the next that starts one.

use crate::cargo;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What begins the name of every namespace here; the process id and a number follow.
const PREFIX: &str = "slu";
/// Nodes of one site: addresses 10.77.1.1 to 10.77.1.200.
const NODES_MAX: usize = 200;
/// Bytes that the shaper lets through at once, and how long a packet may wait in it.
const SHAPER: [&str; 4] = ["burst", "64kb", "latency", "100ms"];
/// Waits of the removal of what was left for its processes to end.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// Counts the networks of this process.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A site's namespaces; they go away with this value.
#[derive(Debug)]
pub struct Network {
    base: String,
    /// Names of programs, in the order of their namespaces.
    placed: Vec<String>,
    nodes_max: usize,
    /// Keeps a process in hq, through which the counters of its link are read.
    holder: Option<Child>,
}

/// The two ends of the WAN link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where the repository is.
    Hq,
    /// The site's.
    Site,
}

impl Network {
    /// Whether this machine lets us make one; otherwise why not.
    pub fn is_possible() -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root".to_owned());
        }
        let missing: Vec<&str> =
            ["ip", "tc", "nft", "curl"].into_iter().filter(|name| !cargo::has_program(name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("not installed: {}", missing.join(", "))) }
    }

    /// Headquarters, and a site with room for `nodes_max` nodes behind a link of `rate` (such as `100mbit`) each way.
    pub fn site(nodes_max: usize, rate: &str) -> Result<Self> {
        ensure!(nodes_max <= NODES_MAX, "a site here has at most {NODES_MAX} nodes");
        let mut network = Self::bare(nodes_max)?;
        network.make("lan")?;
        let (hq, lan) = (network.namespace("hq"), network.namespace("lan"));
        ip(&["link", "add", "h0", "netns", &hq, "type", "veth", "peer", "name", "w0", "netns", &lan])?;
        ip(&["-n", &lan, "link", "add", "br0", "type", "bridge"])?;
        network.bring_up("hq", "h0", Some("10.77.0.1/16"))?;
        network.bring_up("lan", "br0", None)?;
        ip(&["-n", &lan, "link", "set", "w0", "master", "br0"])?;
        network.bring_up("lan", "w0", None)?;
        for number in 1..=nodes_max {
            let (place, port) = (format!("n{number}"), format!("p{number}"));
            network.make(&place)?;
            let node = network.namespace(&place);
            ip(&["link", "add", "e0", "netns", &node, "type", "veth", "peer", "name", &port, "netns", &lan])?;
            ip(&["-n", &lan, "link", "set", &port, "master", "br0"])?;
            network.bring_up("lan", &port, None)?;
            network.bring_up(&place, "e0", Some(&format!("10.77.1.{number}/16")))?;
        }
        network.shape_wan(rate)?;
        network.hold()?;
        Ok(network)
    }

    /// Headquarters and one node without a link between them: whoever calls this makes it, as `wan0` of both.
    pub fn pair() -> Result<Self> {
        let mut network = Self::bare(1)?;
        network.make("n1")?;
        network.hold()?;
        Ok(network)
    }

    fn bare(nodes_max: usize) -> Result<Self> {
        Self::is_possible().map_err(anyhow::Error::msg)?;
        remove_what_was_left()?;
        let base = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let network = Self { base, placed: Vec::new(), nodes_max, holder: None };
        network.make("hq")?;
        Ok(network)
    }

    fn hold(&mut self) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace("hq"), "sleep", "infinity"]);
        self.holder = Some(command.stdin(Stdio::null()).spawn().context("cannot start sleep")?);
        Ok(())
    }

    fn make(&self, place: &str) -> Result<()> {
        let name = self.namespace(place);
        ip(&["netns", "add", &name])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])
    }

    fn bring_up(&self, place: &str, link: &str, address: Option<&str>) -> Result<()> {
        let name = self.namespace(place);
        if let Some(address) = address {
            ip(&["-n", &name, "address", "add", address, "dev", link])?;
        }
        ip(&["-n", &name, "link", "set", link, "up"])
    }

    /// The name of `hq`, `lan`, `n1` and so on, as `ip netns` knows it.
    pub fn namespace(&self, place: &str) -> String {
        format!("{}-{place}", self.base)
    }

    /// Gives the program `name` a node's namespace; all others are in hq.
    pub fn place(&mut self, name: &str) -> Result<()> {
        if self.placed.iter().any(|placed| placed == name) {
            return Ok(());
        }
        ensure!(self.placed.len() < self.nodes_max, "no room for {name}: the site was made for {}", self.nodes_max);
        self.placed.push(name.to_owned());
        Ok(())
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.placed.iter().position(|placed| placed == name).map(|at| at + 1)
    }

    /// The namespace of the program `name`.
    pub fn namespace_of(&self, name: &str) -> String {
        self.number(name).map_or_else(|| self.namespace("hq"), |number| self.namespace(&format!("n{number}")))
    }

    /// Where the program `name` is to listen.
    pub fn address_of(&self, name: &str) -> String {
        self.number(name).map_or_else(|| "10.77.0.1".to_owned(), |number| format!("10.77.1.{number}"))
    }

    /// Shapes both directions of the WAN link.
    pub fn shape_wan(&self, rate: &str) -> Result<()> {
        self.shape("hq", "h0", rate)?;
        self.shape("lan", "w0", rate)
    }

    /// Shapes both directions of a node's own link.
    pub fn shape_node(&self, name: &str, rate: &str) -> Result<()> {
        let number = self.number(name).with_context(|| format!("{name} is no node of this site"))?;
        self.shape("lan", &format!("p{number}"), rate)?;
        self.shape(&format!("n{number}"), "e0", rate)
    }

    fn shape(&self, place: &str, link: &str, rate: &str) -> Result<()> {
        let name = self.namespace(place);
        let mut command = Command::new("tc");
        command.args(["-n", &name, "qdisc", "replace", "dev", link, "root", "tbf", "rate", rate]).args(SHAPER);
        cargo::output(&mut command).map(|_| ())
    }

    /// Takes the WAN link down, or up again.
    pub fn set_wan(&self, is_up: bool) -> Result<()> {
        ip(&["-n", &self.namespace("hq"), "link", "set", "h0", if is_up { "up" } else { "down" }])
    }

    /// Adds rules for what the program `name`'s namespace receives, in nft's words (`meta l4proto udp drop`).
    pub fn filter(&self, name: &str, rules: &[&str]) -> Result<()> {
        let mut script = "add table inet lab; add chain inet lab in { type filter hook input priority 0; }".to_owned();
        script.extend(rules.iter().map(|rule| format!("; add rule inet lab in {rule}")));
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace_of(name), "nft", &script]);
        cargo::output(&mut command).map(|_| ())
    }

    /// Removes them.
    pub fn unfilter(&self, name: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace_of(name), "nft", "delete table inet lab"]);
        cargo::output(&mut command).map(|_| ())
    }

    /// Bytes that left hq over the WAN link so far, all headers included.
    pub fn wan_bytes(&self) -> Result<u64> {
        let pid = self.holder.as_ref().context("the network has no holder")?.id();
        sent_bytes(&Path::new("/proc").join(pid.to_string()).join("net/dev"))
    }
}

/// What the one link besides loopback has sent.
fn sent_bytes(file: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let line =
        text.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| matches!(name.trim(), "h0" | "wan0"));
    // Eight numbers of what was received come first.
    let sent = line.and_then(|(_, numbers)| numbers.split_whitespace().nth(8)).context("hq has no WAN link")?;
    sent.parse().context("not a counter")
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            let _ = holder.kill();
            let _ = holder.wait();
        }
        for name in namespaces().unwrap_or_default() {
            if name.starts_with(&format!("{}-", self.base)) {
                let _ = ip(&["netns", "delete", &name]);
            }
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    cargo::output(Command::new("ip").args(arguments)).map(|_| ())
}

/// Every namespace of ours on this machine, whoever made it.
fn namespaces() -> Result<Vec<String>> {
    let text = cargo::output(Command::new("ip").args(["netns", "list"]))?;
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| name.starts_with(PREFIX)).map(str::to_owned).collect())
}

/// Removes the namespaces of processes that are gone, and ends what still runs in them.
fn remove_what_was_left() -> Result<()> {
    for name in namespaces()? {
        let maker = name[PREFIX.len()..].split('-').next().and_then(|pid| pid.parse::<u32>().ok());
        let Some(maker) = maker else { continue };
        if Path::new("/proc").join(maker.to_string()).exists() {
            continue;
        }
        // What is not mounted here (another mount namespace made it) has no processes to find.
        let pids = cargo::output(Command::new("ip").args(["netns", "pids", &name])).unwrap_or_default();
        for pid in pids.split_whitespace() {
            end(pid)?;
        }
        ip(&["netns", "delete", &name])?;
    }
    Ok(())
}

fn end(pid: &str) -> Result<()> {
    let raw = pid.parse().ok().and_then(rustix::process::Pid::from_raw).context("no process id")?;
    // It may have ended by itself.
    let _ = rustix::process::kill_process(raw, rustix::process::Signal::KILL);
    let gone = super::wait(KILLED_WITHIN, || Ok(has_ended(pid)))?;
    if !gone {
        bail!("process {pid} of an earlier run does not end");
    }
    Ok(())
}

/// Gone, or only waited for by its parent.
fn has_ended(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.map_or(true, |stat| stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_the_wan_link_is_the_ninth_number() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dev");
        let text = "Inter-|   Receive\n face |bytes\n    lo: 7 1 0 0 0 0 0 0 7 1\n  h0: 11 2 0 0 0 0 0 0 2222 3 0\n";
        std::fs::write(&file, text).unwrap();
        assert_eq!(sent_bytes(&file).unwrap(), 2222);
        std::fs::write(&file, "    lo: 7 1 0 0 0 0 0 0 7 1\n").unwrap();
        assert!(sent_bytes(&file).is_err());
    }
}
