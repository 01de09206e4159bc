//! Builds the simulation in release and runs it.

use anyhow::Result;
use sluice_xtask::cargo;

/// Runs it with these arguments; fails when a rule was broken or a planted bug was not found.
pub fn run(arguments: &[String]) -> Result<()> {
    println!("sim: building in release");
    let mut command = cargo::cargo();
    command.args(["run", "--release", "--quiet", "--package", "sluice-sim", "--"]).args(arguments);
    cargo::run(&mut command)
}
