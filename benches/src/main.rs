//! Measures Sluice against what it must not lose to, control and product alternating in one run.
//!
//! A run is a process of its own, so that its CPU seconds and its peak memory are those of one transfer, both sides
//! together. Figures are ratios; when the control itself varies too much the machine was noisy, and only CPU is judged.
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

mod control;
mod data;
mod measure;
mod product;
mod report;

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use data::Data;
use measure::Measured;
use report::{Pair, Report};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[derive(Parser)]
#[command(name = "sluice-bench", about = "Measures Sluice against what it must not lose to", version)]
struct Arguments {
    /// Print the goals that can be measured, and stop.
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    bench: Option<Bench>,
}

#[derive(Subcommand)]
enum Bench {
    /// G1 and G2: node to node, verified and written, against plain TCP with sendfile, BLAKE3 and pwrite.
    #[command(visible_alias = "g2")]
    G1(G1),
    /// One run in this process: what G1 starts.
    #[command(hide = true)]
    Run(Run),
}

#[derive(clap::Args)]
struct G1 {
    /// Size of the artifact in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Pairs of control and product; the first pair warms up and is not counted.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Connections of the product (a busy pair of nodes uses two); the control always uses one.
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// What carries the product's frames: tcp or quic.
    #[arg(long, default_value = "tcp")]
    carrier: String,
    /// Slows the product to this rate, to see that it can lose.
    #[arg(long)]
    slow: Option<String>,
    /// Folder for the data, on a disk file system (a tmpfs page costs more than TLS).
    #[arg(long, default_value = "target/bench-data")]
    dir: PathBuf,
    /// Where the figures go as JSON.
    #[arg(long, default_value = "target/bench/g1.json")]
    json: PathBuf,
    /// Exit 1 when a goal is missed.
    #[arg(long)]
    enforce: bool,
}

#[derive(clap::Args)]
struct Run {
    /// control or product
    side: String,
    dir: PathBuf,
    connections: usize,
    carrier: String,
    slow: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.bench {
        _ if arguments.list => {
            println!("g1  throughput, node to node, verified and written: >= {:.2} x control", report::G1_RATIO_MIN);
            println!("g2  CPU of both sides for g1: <= {:.2} x control", report::G2_RATIO_MAX);
            Ok(true)
        }
        Some(Bench::G1(options)) => g1(&options),
        Some(Bench::Run(options)) => run(&options).map(|()| true),
        None => Err(anyhow::anyhow!("name a bench, or --list")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn g1(options: &G1) -> anyhow::Result<bool> {
    ensure!(options.pairs > 0 && options.mib > 0 && options.connections > 0, "counts start at 1");
    std::fs::create_dir_all(&options.dir).with_context(|| format!("cannot create {}", options.dir.display()))?;
    let folder = tempfile::tempdir_in(&options.dir).context("cannot create a folder for the data")?;
    println!("preparing {} MiB in {}", options.mib, folder.path().display());
    Data::create(folder.path(), options.mib << 20)?;
    let mut pairs = Vec::new();
    for number in 0..=options.pairs {
        let control = measure(folder.path(), options, "control")?;
        let product = measure(folder.path(), options, "product")?;
        let pair = Pair { control, product };
        println!("{:>7}  {pair}", if number == 0 { "warm-up".to_owned() } else { format!("pair {number}") });
        if number > 0 {
            pairs.push(pair);
        }
    }
    let report = Report::of(options.mib, pairs);
    println!("{report}");
    if let Some(parent) = options.json.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&options.json, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("cannot write {}", options.json.display()))?;
    Ok(report.holds() || !options.enforce)
}

/// One run in a process of its own.
fn measure(folder: &Path, options: &G1, side: &str) -> anyhow::Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("run").arg(side).arg(folder).arg(options.connections.to_string()).arg(&options.carrier);
    if let Some(slow) = &options.slow {
        command.arg(slow);
    }
    let output = command.output().context("cannot start a run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("the {side} failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_str(&text).with_context(|| format!("the {side} said {text:?}"))
}

fn run(options: &Run) -> anyhow::Result<()> {
    let data = Data::open(&options.dir)?;
    let measured = match options.side.as_str() {
        "control" => control::transfer(&data)?,
        "product" => {
            let slow = options.slow.as_deref().map(str::parse).transpose()?;
            product::transfer(data, options.connections, options.carrier.parse()?, slow)?
        }
        other => bail!("no side {other}"),
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
