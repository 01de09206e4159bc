//! A machine with stock apt: a root made by debootstrap, one overlay mount for each endpoint, and a network namespace in
//! which nothing but our programs can be reached.
//!
//! The root is made once below the target folder. Where packages come from, this machine's own apt sources say.

use super::{Said, said};
use crate::cargo::{self, target_dir};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the roots are, below the target folder.
const FOLDER: &str = "apt-root";
/// What every apt in it is told besides its defaults: an update that failed in part is an error, and it wants translations.
const CONF: &str =
    "APT::Update::Error-Mode \"any\";\nAPT::Install-Recommends \"false\";\nAcquire::Languages { \"en\"; \"de\"; };\n";

/// What a root cannot be made or used without; `None` when everything is there.
pub fn lacking() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("a chroot with stock apt needs root");
    }
    ["debootstrap", "ip", "unshare", "apt-get"]
        .iter()
        .any(|program| !cargo::has_program(program))
        .then_some("debootstrap, ip, unshare or apt-get is not installed; cargo xtask setup installs them")
}

/// The root of this machine's release, made when it is not there: two minutes and 220 MB, once.
pub fn base() -> Result<PathBuf> {
    let codename = codename()?;
    let folder = target_dir().join(FOLDER);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = File::create(folder.join("lock"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).context("waiting for another debootstrap")?;
    let root = folder.join(&codename);
    if root.is_dir() {
        return Ok(root);
    }
    let partial = folder.join(format!("{codename}.partial"));
    if partial.is_dir() {
        std::fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &codename]).arg(&partial).arg(mirror(&codename)?);
    cargo::output(&mut debootstrap)?;
    std::fs::rename(&partial, &root)?;
    Ok(root)
}

fn codename() -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("/etc/os-release names no release")?.trim_matches('"').to_owned())
}

/// The archive from which this machine has the release.
fn mirror(codename: &str) -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]);
    let text = cargo::output(&mut targets)?;
    let uri = text.lines().find_map(|line| line.strip_prefix(codename)?.strip_prefix(' '));
    Ok(uri.with_context(|| format!("this machine's apt sources have no {codename}; run apt-get update"))?.to_owned())
}

/// Islands that this process made.
static ISLANDS: AtomicU32 = AtomicU32::new(0);

/// A network of two ends, ours and the endpoints'; removed on drop. Nothing in it has a way to anywhere else.
pub struct Island {
    name: String,
    /// Our address in it.
    pub host: String,
    /// Another one, for a second node: apt gives an address up, whatever the port, once it refused a connection.
    pub second: String,
}

impl Island {
    /// Makes it.
    pub fn new() -> Result<Self> {
        let number = ISLANDS.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let name = format!("sa{pid}-{number}");
        let (ours, theirs) = (format!("{name}h"), format!("{name}e"));
        // A subnet of its own for each process and island: 10.192.0.0/10 in pieces of 8.
        let block = (pid.wrapping_mul(7).wrapping_add(number) % (1 << 19)) * 8;
        let address = |last: u32| std::net::Ipv4Addr::from((10 << 24) | (192 << 16) | (block + last)).to_string();
        let island = Self { name: name.clone(), host: address(1), second: address(3) };
        let ip = |arguments: &str| {
            cargo::output(Command::new("ip").args(arguments.split(' ')))
                .map(|_| ())
                .with_context(|| arguments.to_owned())
        };
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {ours} type veth peer name {theirs} netns {name}"))?;
        ip(&format!("addr add {}/29 dev {ours}", address(1)))?;
        ip(&format!("addr add {}/29 dev {ours}", address(3)))?;
        ip(&format!("link set {ours} up"))?;
        ip(&format!("-n {name} addr add {}/29 dev {theirs}", address(2)))?;
        ip(&format!("-n {name} link set {theirs} up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        Ok(island)
    }

    /// A command that runs in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &format!("{}h", self.name)]).output();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// An endpoint with stock apt, its own changes over the shared root; unmounted on drop.
pub struct AptRoot {
    /// What it sees as `/`.
    pub root: PathBuf,
}

impl AptRoot {
    /// Mounts it below `folder`, which is made.
    pub fn new(base: &Path, folder: &Path) -> Result<Self> {
        let (root, upper, work) = (folder.join("root"), folder.join("upper"), folder.join("work"));
        for path in [&root, &upper, &work] {
            std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let options = format!("lowerdir={},upperdir={},workdir={}", base.display(), upper.display(), work.display());
        let mounted = said(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&root))?;
        if mounted.code != 0 {
            // Some containers have no overlay: a copy does as well.
            cargo::output(Command::new("cp").arg("-a").arg(base.join(".")).arg(&root))?;
        }
        let made = Self { root };
        cargo::output(Command::new("mount").args(["-t", "proc", "proc"]).arg(made.root.join("proc")))?;
        cargo::output(Command::new("mount").args(["--bind", "/dev/pts"]).arg(made.root.join("dev/pts")))?;
        made.write("etc/apt/apt.conf.d/99sluice-test", CONF)?;
        // The root is thrown away: what a disk would do to it does not matter.
        made.write("etc/dpkg/dpkg.cfg.d/sluice-test", "force-unsafe-io\n")?;
        made.write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")?;
        cargo::output(Command::new("chmod").arg("755").arg(made.root.join("usr/sbin/policy-rc.d")))?;
        std::fs::remove_file(made.root.join("etc/apt/sources.list")).context("the root has no sources.list")?;
        Ok(made)
    }

    /// Writes a file in it.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.root.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A command inside, in the network of `island`.
    pub fn command(&self, island: &Island, program: &str) -> Command {
        let mut command = island.command("chroot");
        command.arg(&self.root).arg(program);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C").env_remove("TMPDIR");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// What stock apt says.
    pub fn apt(&self, island: &Island, arguments: &[&str]) -> Result<Said> {
        said(self.command(island, "apt-get").arg("-y").args(arguments))
    }

    /// The version of a package that is installed in it.
    pub fn installed(&self, package: &str) -> Result<Option<String>> {
        super::roots::installed_version(&self.root, package)
    }

    /// Its dpkg database.
    pub fn status(&self) -> PathBuf {
        self.root.join("var/lib/dpkg/status")
    }
}

impl Drop for AptRoot {
    fn drop(&mut self) {
        for below in ["dev/pts", "proc"] {
            let _ = Command::new("umount").arg("-l").arg(self.root.join(below)).output();
        }
        let _ = Command::new("umount").arg("-l").arg(&self.root).output();
    }
}

/// This machine's own apt, with the database of another: fetches what that machine would need for `arguments` into
/// `folder`, and names the files.
pub fn fetch_for(status: &Path, folder: &Path, arguments: &[&str]) -> Result<Vec<PathBuf>> {
    let archives = folder.join("archives");
    std::fs::create_dir_all(archives.join("partial"))?;
    let mut apt = Command::new("apt-get");
    apt.arg("-o").arg(format!("Dir::State::status={}", status.display()));
    apt.arg("-o").arg(format!("Dir::Cache::archives={}", archives.display()));
    apt.args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "-o", "APT::Install-Recommends=false"]);
    apt.args(["-y", "-qq", "--download-only"]).args(arguments);
    cargo::output(&mut apt)?;
    let mut debs = Vec::new();
    for entry in std::fs::read_dir(&archives)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.ends_with(".deb") {
            // apt writes the colon of an epoch so; it is no character of a published file.
            let plain = archives.join(name.replace("%3a", "."));
            std::fs::rename(&path, &plain)?;
            debs.push(plain);
        }
    }
    debs.sort();
    ensure!(!debs.is_empty(), "apt-get {} needed nothing", arguments.join(" "));
    Ok(debs)
}

/// Fetches one package in one version with this machine's own apt.
pub fn fetch_version(folder: &Path, package: &str, version: &str) -> Result<PathBuf> {
    let folder = folder.join(format!("{package}-old"));
    std::fs::create_dir_all(&folder)?;
    let mut apt = Command::new("apt-get");
    apt.current_dir(&folder).args([
        "-o",
        "APT::Sandbox::User=root",
        "-qq",
        "download",
        &format!("{package}={version}"),
    ]);
    cargo::output(&mut apt)?;
    let found = std::fs::read_dir(&folder)?.filter_map(|entry| entry.ok().map(|entry| entry.path())).next();
    found.with_context(|| format!("{package} {version} could not be fetched"))
}

/// Brings this machine's package lists up to date when they are missing.
pub fn update_lists() -> Result<()> {
    let known = said(Command::new("apt-cache").args(["policy", "libc6"]))?;
    if !known.out.contains("://") {
        cargo::output(Command::new("apt-get").args(["-qq", "update"]))?;
    }
    Ok(())
}
