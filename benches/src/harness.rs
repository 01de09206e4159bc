//! What every bench shares: its options, the alternation of control and product, and runs in a process of their own.
//!
//! A bench is a function from [`Options`] to an [`Outcome`]. It measures a control and the product by turns with
//! [`Options::alternate`], which prints every pair, and turns the series into findings, one for each goal.

use crate::measure::Measured;
use crate::report::{Outcome, Pair, Series};
use anyhow::{Context, bail};
use sluice_model::ByteRate;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How a bench is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pairs that count; one more warms up.
    pub pairs: usize,
    /// Size of what is moved, where the bench leaves a choice.
    pub mib: Option<u64>,
    /// The product is held to this rate, to see that the bench can say so.
    pub slow: Option<ByteRate>,
    /// Folder for data, on a disk file system.
    pub dir: PathBuf,
    /// Folder of the product's programs.
    pub programs: PathBuf,
}

impl Options {
    /// A folder below [`Options::dir`] that goes away with the bench.
    pub fn folder(&self) -> anyhow::Result<tempfile::TempDir> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("cannot create {}", self.dir.display()))?;
        tempfile::tempdir_in(&self.dir).context("cannot create a folder for the data")
    }

    /// Measures control and product by turns, and prints every pair. The first pair warms up and does not count.
    pub fn alternate(
        &self,
        name: &str,
        mut control: impl FnMut() -> anyhow::Result<Measured>,
        mut product: impl FnMut() -> anyhow::Result<Measured>,
    ) -> anyhow::Result<Series> {
        println!("against {name}");
        let mut pairs = Vec::new();
        for number in 0..=self.pairs {
            let control = control().with_context(|| format!("the control failed: {name}"))?;
            let product = product().with_context(|| format!("the product failed, against {name}"))?;
            let pair = Pair { control, product };
            println!("{:>7}  {pair}", if number == 0 { "warm-up".to_owned() } else { format!("pair {number}") });
            if number > 0 {
                pairs.push(pair);
            }
        }
        Ok(Series::of(name, pairs))
    }

    /// An outcome without findings yet.
    pub fn outcome(&self, bench: &str) -> Outcome {
        Outcome {
            bench: bench.to_owned(),
            slowed_to: self.slow.map(|rate| rate.to_string()),
            is_release: !cfg!(debug_assertions),
            ..Outcome::default()
        }
    }
}

/// One run in a process of its own (`sluice-bench side <arguments>`), so that its CPU seconds and its peak memory are
/// those of one transfer.
pub fn in_own_process(arguments: &[&str]) -> anyhow::Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.arg("side").args(arguments).stdin(Stdio::null()).output().context("cannot start a run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{} failed: {text}{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_str(&text).with_context(|| format!("{} said {text:?}", arguments.join(" ")))
}

/// Whether a program is on the path.
pub fn has_program(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}
