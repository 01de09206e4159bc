//! Installs what the tests need. Everything comes from the distribution's and Python's own package registries.

use anyhow::{Result, bail};
use sluice_xtask::cargo::{self, has_program, target_dir};
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
    ("apt-get", "apt"),
];

/// python-tuf, the foreign client that reads our metadata.
const PYTHON_PACKAGES: &[&str] = &["tuf==7.0.1"];

/// The Python environment of the foreign clients, below the target folder.
pub fn python_environment() -> PathBuf {
    target_dir().join("foreign-clients")
}

/// Whether the foreign clients are installed.
pub fn has_foreign_clients() -> bool {
    python_environment().join("bin/python").is_file()
        && Command::new(python_environment().join("bin/python"))
            .args(["-c", "import tuf.ngclient"])
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
    if has_foreign_clients() {
        println!("setup: the foreign clients are installed");
        return Ok(());
    }
    println!("setup: installing {} below {}", PYTHON_PACKAGES.join(" "), python_environment().display());
    cargo::run(Command::new("python3").args(["-m", "venv"]).arg(python_environment()))?;
    cargo::run(Command::new(python_environment().join("bin/pip")).args(["install", "--quiet"]).args(PYTHON_PACKAGES))
}
