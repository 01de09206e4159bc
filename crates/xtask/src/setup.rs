//! Installs what the tests need. Everything comes from the package registries of the distribution, Python and npm.

use anyhow::{Context, Result, bail};
use sluice_xtask::cargo::{self, has_program, target_dir};
use sluice_xtask::lab::apt_root;
use std::path::PathBuf;
use std::process::Command;

/// Program that must be there, and the Debian package that brings it.
pub const PROGRAMS: &[(&str, &str)] = &[
    ("dpkg", "dpkg"),
    ("dpkg-deb", "dpkg"),
    ("dpkg-query", "dpkg"),
    ("curl", "curl"),
    ("python3", "python3"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("apt-get", "apt"),
    ("faketime", "faketime"),
    ("debootstrap", "debootstrap"),
    ("sqv", "sqv"),
    ("gpgv", "gpgv"),
    ("unshare", "util-linux"),
    ("node", "nodejs"),
    ("npm", "npm"),
];

/// python-tuf, the foreign client that reads our metadata, and libtorrent, which the benches compare us with.
const PYTHON_PACKAGES: &[&str] = &["tuf==7.0.1", "libtorrent==2.1.1"];

/// tuf-js, the second foreign client: version 3 is the newest for the Node.js 18 of Debian 12.
const NODE_PACKAGES: &[&str] = &["tuf-js@3.1.0"];

/// The Python environment of the foreign clients, below the target folder.
pub fn python_environment() -> PathBuf {
    target_dir().join("foreign-clients")
}

/// Where tuf-js is installed, below the target folder.
pub fn node_environment() -> PathBuf {
    target_dir().join("foreign-clients-js")
}

/// Whether both foreign clients are installed.
pub fn has_foreign_clients() -> bool {
    has_python_packages() && has_tuf_js()
}

fn has_tuf_js() -> bool {
    Command::new("node")
        .args(["-e", "require('tuf-js')"])
        .current_dir(target_dir())
        .env("NODE_PATH", node_environment().join("node_modules"))
        .output()
        .is_ok_and(|output| output.status.success())
}

fn has_python_packages() -> bool {
    python_environment().join("bin/python").is_file()
        && Command::new(python_environment().join("bin/python"))
            .args(["-c", "import tuf.ngclient, libtorrent"])
            .output()
            .is_ok_and(|output| output.status.success())
}

pub fn run_apt(packages: &[&str]) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("these packages are missing and need root to install: apt-get install {}", packages.join(" "));
    }
    cargo::run(Command::new("apt-get").args(["-qq", "update"]))?;
    cargo::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "-y", "--no-install-recommends", "install"])
            .args(packages),
    )
}

/// Installs what is missing and says what was there already.
pub fn run() -> Result<()> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !has_program(program)).map(|(_, package)| *package).collect();
    let has_venv = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_venv {
        missing.push("python3-venv");
    }
    missing.dedup();
    if missing.is_empty() {
        println!("setup: every program that the tests need is installed");
    } else {
        println!("setup: installing {}", missing.join(" "));
        run_apt(&missing)?;
    }
    make_apt_root()?;
    install_python_packages()?;
    install_tuf_js()
}

/// The root that tests with stock apt mount.
fn make_apt_root() -> Result<()> {
    if let Some(reason) = apt_root::lacking() {
        println!("setup: no root for stock apt: {reason}");
        return Ok(());
    }
    let root = apt_root::base()?;
    println!("setup: stock apt has its root in {}", root.display());
    Ok(())
}

fn install_python_packages() -> Result<()> {
    if has_python_packages() {
        println!("setup: python-tuf and libtorrent are installed");
        return Ok(());
    }
    println!("setup: installing {} below {}", PYTHON_PACKAGES.join(" "), python_environment().display());
    cargo::run(Command::new("python3").args(["-m", "venv"]).arg(python_environment()))?;
    cargo::run(Command::new(python_environment().join("bin/pip")).args(["install", "--quiet"]).args(PYTHON_PACKAGES))
}

fn install_tuf_js() -> Result<()> {
    if has_tuf_js() {
        println!("setup: tuf-js is installed");
        return Ok(());
    }
    let folder = node_environment();
    println!("setup: installing {} below {}", NODE_PACKAGES.join(" "), folder.display());
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    cargo::run(
        Command::new("npm")
            .args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&folder)
            .args(NODE_PACKAGES),
    )
}
