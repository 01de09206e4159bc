//! `sluice`: the administrator's command.
//!
//! Asks the repo server's admin API and prints what it answers; it decides nothing itself. Results go to stdout, everything
//! else (progress, warnings, errors) to stderr, so that `-o json` can be piped.
//!
//! Invariants
//! - A token is sent only to the address that it was stored or given for, and never in clear across a network.
//! - Every failure ends with an exit code of [`failure::Exit`] and says what to do next.

mod approval;
mod arguments;
mod clock;
mod commands;
mod consent;
mod credentials;
mod drafting;
mod failure;
mod hidden_input;
mod key_file;
mod output;
mod progress;
mod signing;
mod trust;
mod units;

use arguments::Arguments;
use clap::Parser;
use failure::Failure;
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // `--help` and `--version` come this way too, with code 0.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let printed = error.print();
            return if printed.is_ok() { ExitCode::from(code) } else { ExitCode::from(2) };
        }
    };
    let output = Output::new(arguments.output);
    match run(arguments, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::file("the async runtime of this machine", source))?;
    runtime.block_on(commands::run(arguments, output))
}
