//! Everything a developer does with this project: `cargo xtask <command>`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool talks on the terminal")]
#![allow(clippy::disallowed_methods, reason = "it measures how long real processes take")]

mod bench;
mod check;
mod demo;
mod setup;
mod sim;
mod test_run;
mod tidy;

use clap::{Parser, Subcommand};
use sluice_xtask::cargo;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything a developer does with Sluice", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests need, through apt-get (as root)
    Setup,
    /// Build in release, run the whole job with real processes on loopback, and check every step
    Demo(demo::DemoArguments),
    /// Run the tests of every run, or with --full the figures before a release too
    Test(test_run::TestArguments),
    /// Change the corpora of the fuzz targets and run what comes of it: cargo xtask fuzz [TARGET...] [--secs N]
    Fuzz {
        /// Handed on to the fuzzer; --help lists what it takes
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Format, lint and tidy: what a change must pass besides the tests
    Check,
    /// Run the simulation: one seed with its log, or many (see cargo xtask sim -- --help)
    Sim {
        /// A seed, or --seeds N
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure the goals against their controls: cargo xtask bench [--list] [GOAL...] (see cargo xtask bench -- --help)
    Bench {
        /// Goal ids and options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check arrows between crates, banned crates, licences, sources, the code map and the table of attacks
    Tidy,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup => setup::run(),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => test_run::run(&arguments),
        Command::Fuzz { arguments } => {
            let mut fuzz = cargo::cargo();
            cargo::run(fuzz.args(["run", "--quiet", "--package", "sluice-fuzz", "--bin", "fuzz", "--"]).args(arguments))
        }
        Command::Check => check::run(),
        Command::Sim { arguments } => sim::run(&arguments),
        Command::Bench { arguments } => bench::run(&arguments),
        Command::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
