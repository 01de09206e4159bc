//! The whole job with real processes on loopback: the project's first impression, and its widest check.
//!
//! Invariants
//! - Every step either holds, or the demo ends with an error that names the step and the logs' folder.
//! - Nothing is printed that was not asked of a running program; ratios come from the programs' own socket counters.
//! - What it started it ends, and its folder goes away, unless `--keep` was given or a step failed.

mod story;
mod tables;

use anyhow::{Context, Result, bail};
use clap::Args;
use sluice_xtask::cargo::{self, has_program, target_dir};
use sluice_xtask::lab::{Lab, packages::Versions};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Args)]
pub struct DemoArguments {
    /// Leave everything running and print URL, tokens and folders
    #[arg(long)]
    keep: bool,
    /// Write what was seen as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Use these packages as the old version (without maintainer scripts); the new version follows after --
    #[arg(long, value_name = "OLD.deb", num_args = 1.., requires = "new")]
    deb: Vec<PathBuf>,
    /// The new version of the same packages
    #[arg(last = true, value_name = "NEW.deb", requires = "deb")]
    new: Vec<PathBuf>,
}

/// Builds in release and plays the story.
pub fn run(arguments: &DemoArguments) -> Result<()> {
    for (program, package) in [("curl", "curl"), ("dpkg", "dpkg"), ("dpkg-deb", "dpkg"), ("sha256sum", "coreutils")] {
        if !has_program(program) {
            bail!("the demo needs {program}; install it with: apt-get install {package}");
        }
    }
    println!("building in release (the first time takes some minutes)");
    let packages = ["sluice-repo-server", "sluice-node", "sluice-agent", "sluice-cli"];
    let flags = packages.iter().flat_map(|package| ["--package", package]);
    cargo::run(cargo::cargo().args(["build", "--release", "--quiet", "--bins"]).args(flags))?;
    let begun = Instant::now();
    let lab = Lab::new("sluice-demo", target_dir().join("release"))?;
    let versions = Versions::prepare(&lab.folder("packages")?, &arguments.deb, &arguments.new)?;
    let (mut lab, outcome) = story::play(lab, &versions);
    let seconds = begun.elapsed().as_secs_f64();
    match outcome {
        Ok(seen) => {
            if let Some(file) = &arguments.json {
                let text = serde_json::to_string_pretty(&seen)?;
                std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
            }
            println!("\nevery step held; {seconds:.1} s after the build");
            if arguments.keep { lab.keep() } else { lab.clean_up() }
        }
        Err(error) => {
            lab.stop_all();
            lab.keep_folder();
            lab.show_last_lines();
            Err(error.context(format!(
                "the demo failed after {seconds:.1} s; logs and data are kept in {}",
                lab.dir().display()
            )))
        }
    }
}
