//! Tests of whole programs: real processes, real sockets, real dpkg, foreign clients. This library is what they share.
#![allow(clippy::print_stdout, reason = "tests talk on the terminal")]
#![allow(clippy::disallowed_methods, reason = "tests measure time")]

pub mod foreign;

pub mod poll;

use anyhow::{Context, Result, anyhow};
use sluice_xtask::lab::Lab;
use sluice_xtask::lab::world::World;
use std::path::{Path, PathBuf};

/// A running repository without sites; `name` names its folder below the system's temporary one.
///
/// # Errors
/// The programs are not built (`cargo build --workspace --bins`), or the repository does not start.
pub fn world(name: &str) -> Result<World> {
    world_with(name, &[])
}

/// The same with settings of the repository overridden through its environment.
///
/// # Errors
/// As [`world`].
pub fn world_with(name: &str, environment: &[(&str, &str)]) -> Result<World> {
    let lab = Lab::new(&format!("sluice-test-{name}"), programs()?)?;
    World::start(lab, environment).map_err(|failed| {
        let (lab, error) = *failed;
        lab.show_last_lines();
        error
    })
}

/// Where this build's programs are: beside the folder of the test's own executable.
///
/// # Errors
/// They are not built.
pub fn programs() -> Result<PathBuf> {
    let folder = std::env::current_exe()?.ancestors().nth(2).map(Path::to_owned).context("no folder of the build")?;
    for program in ["sluice-repo", "sluice-node", "sluice-agent", "sluice"] {
        if !folder.join(program).is_file() {
            return Err(anyhow!(
                "{program} is not in {}; build it first: cargo build --workspace --bins",
                folder.display()
            ));
        }
    }
    Ok(folder)
}

/// Whether the long figures are asked for (`cargo xtask test --full`).
pub fn is_full_tier() -> bool {
    std::env::var_os("SLUICE_TEST_FULL").is_some()
}

/// Says visibly that `test` could not run, and why; `cargo xtask test` lists it and CI refuses it.
pub fn skip(test: &str, reason: &str) {
    println!("skipped: {test}: {reason}");
    if let Some(folder) = std::env::var_os("SLUICE_SKIPPED_DIR") {
        let _ = std::fs::write(Path::new(&folder).join(test), reason);
    }
}

/// The Python with the foreign clients in it, when it is installed.
pub fn foreign_python() -> Option<PathBuf> {
    let python = PathBuf::from(std::env::var_os("SLUICE_FOREIGN_PYTHON")?);
    python.is_file().then_some(python)
}

/// Copies a folder with everything in it.
///
/// # Errors
/// Something cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// The value of a metric of a program (`name` with labels as exposed), read from its `/metrics`.
///
/// # Errors
/// The program does not answer, or has no such metric.
pub fn metric(http: &str, name: &str) -> Result<f64> {
    let mut command = std::process::Command::new("curl");
    command.args(["--silent", "--max-time", "5", &format!("http://{http}/metrics")]);
    let text = sluice_xtask::cargo::output(&mut command)?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        .with_context(|| format!("{http} exposes no {name}; it has:\n{text}"))
}

/// Peak resident memory of a process so far, bytes.
///
/// # Errors
/// The process is gone.
pub fn peak_memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM line")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
