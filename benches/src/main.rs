//! Measures Sluice against what it must not lose to, control and product alternating in one run.
//!
//! Figures are ratios; when the control itself varies too much the machine was noisy, and only CPU is judged. `goals`
//! says what is measured where; `harness` is what a bench is written with.
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

mod control;
mod data;
mod g1;
mod g11;
mod g3;
mod g6;
mod g8;
mod goals;
mod harness;
mod latency;
mod measure;
mod peers;
mod product;
mod relay;
mod report;
mod site;
mod stream;

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use data::Data;
use harness::Options;
use sluice_model::ByteRate;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Control and product alternate at least so often.
const PAIRS_MIN: usize = 5;

#[derive(Parser)]
#[command(name = "sluice-bench", about = "Measures Sluice against what it must not lose to", version)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Goals to measure (g1, g6); without any, all that can be measured
    ids: Vec<String>,
    /// Print the goals and what can be measured, and stop
    #[arg(long)]
    list: bool,
    /// Pairs of control and product; one more warms up and does not count
    #[arg(long, default_value_t = PAIRS_MIN)]
    pairs: usize,
    /// Size of what is moved in MiB, where a bench leaves a choice
    #[arg(long)]
    mib: Option<u64>,
    /// Slow the product to this rate, to see that the bench says so
    #[arg(long, env = "SLUICE_BENCH_SLOW")]
    slow: Option<ByteRate>,
    /// Folder for the data, on a disk file system (a tmpfs page costs more than TLS)
    #[arg(long, default_value = "target/bench-data")]
    dir: PathBuf,
    /// Where the figures go as JSON, and the table of all that is there
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Exit 1 when a goal is missed
    #[arg(long)]
    enforce: bool,
    #[command(subcommand)]
    inner: Option<Inner>,
}

#[derive(Subcommand)]
enum Inner {
    /// One run in this process: what a bench starts.
    #[command(hide = true)]
    Side(Side),
    /// One end of a plain TCP connection.
    #[command(hide = true)]
    Stream { end: String, address: SocketAddr, bytes: u64 },
}

#[derive(clap::Args)]
struct Side {
    /// control or product
    side: String,
    dir: PathBuf,
    #[arg(default_value_t = 1)]
    connections: usize,
    #[arg(default_value = "tcp")]
    carrier: String,
    slow: Option<ByteRate>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.inner {
        Some(Inner::Side(options)) => side(options).map(|()| true),
        Some(Inner::Stream { end, address, bytes }) => stream_end(end, *address, *bytes).map(|()| true),
        None if arguments.list => {
            list();
            Ok(true)
        }
        None => run(&arguments),
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

fn list() {
    for goal in goals::GOALS {
        let measured = match goal.bench {
            Some((bench, _)) if bench == goal.id => String::new(),
            Some((bench, _)) => format!(" (measured with {bench})"),
            None => " (not measured yet)".to_owned(),
        };
        println!("{:<4} {}{measured}", goal.id.to_uppercase(), goal.claim);
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    ensure!(arguments.pairs > 0 && arguments.mib != Some(0), "counts start at 1");
    let benches = goals::benches(&arguments.ids)?;
    let own = std::env::current_exe()?;
    let options = Options {
        pairs: arguments.pairs,
        mib: arguments.mib,
        slow: arguments.slow,
        dir: std::path::absolute(&arguments.dir)?,
        programs: own.parent().map(Path::to_owned).context("this program lies in no folder")?,
    };
    if options.pairs < PAIRS_MIN {
        println!("fewer than {PAIRS_MIN} pairs: a look, no measurement");
    }
    let (mut all_hold, mut failed) = (true, Vec::new());
    for (name, bench) in benches {
        println!("\n{}", name.to_uppercase());
        match bench(&options) {
            Ok(outcome) => {
                print!("{outcome}");
                outcome.keep(&arguments.out)?;
                all_hold &= outcome.holds();
            }
            // The other goals are measured nevertheless.
            Err(error) => {
                println!("{name} failed: {error:#}");
                failed.push(name);
            }
        }
    }
    println!("\nfigures and table: {}", arguments.out.display());
    if !failed.is_empty() {
        bail!("these benches did not run to their end: {}", failed.join(", "));
    }
    Ok(all_hold || !arguments.enforce)
}

fn side(options: &Side) -> anyhow::Result<()> {
    let data = Data::open(&options.dir)?;
    let measured = match options.side.as_str() {
        "control" => control::transfer(&data)?,
        "product" => product::transfer(data, options.connections, options.carrier.parse()?, options.slow)?,
        other => bail!("no side {other}"),
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

fn stream_end(end: &str, address: SocketAddr, bytes: u64) -> anyhow::Result<()> {
    match end {
        "send" => stream::send(address, bytes),
        "receive" => {
            println!("{}", serde_json::to_string(&stream::receive(address, bytes)?)?);
            Ok(())
        }
        other => bail!("no end {other}"),
    }
}
