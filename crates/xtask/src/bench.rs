//! Builds the programs and the benches in release and measures.

use anyhow::Result;
use sluice_xtask::cargo;

/// The real programs that some benches start: the set that the demo builds, so that both share it.
const PACKAGES: &[&str] = &["sluice-repo-server", "sluice-node", "sluice-agent", "sluice-cli"];

/// Runs the benches with these arguments: goal ids, `--list`, `--slow RATE` and others that `--help` lists.
pub fn run(arguments: &[String]) -> Result<()> {
    if !arguments.iter().any(|argument| argument == "--list" || argument == "--help") {
        println!("bench: building in release");
        let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
        cargo::run(cargo::cargo().args(["build", "--release", "--quiet", "--bins"]).args(packages))?;
    }
    let mut command = cargo::cargo();
    command.args(["run", "--release", "--quiet", "--package", "sluice-benches", "--"]).args(arguments);
    cargo::run(&mut command)
}
