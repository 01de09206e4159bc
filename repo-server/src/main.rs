//! `sluice-repo`: the repository server. Arguments, settings, exit code; `wiring` builds and runs it.

mod authority;
mod authorize;
mod clock;
mod counters;
mod device_loop;
mod draft;
mod gauges;
mod http;
mod http_loop;
mod init;
mod node_board;
mod operations;
mod origin;
mod overlay_links;
mod overlay_loop;
mod served;
mod state;
mod sweep_loop;
mod timestamp_loop;
mod wiring;

#[cfg(test)]
mod tests;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use sluice_model::RingName;
use sluice_settings::{LogFormat, RepoSettings};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// The Sluice repository server: signs patches, serves them to sites, and keeps what endpoints report.
#[derive(Parser)]
#[command(name = "sluice-repo", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a new repository in an empty folder
    Init(InitArgs),
    /// Runs the repository
    Serve(ServeArgs),
    /// Prints the OpenAPI document of the admin API
    Openapi,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  sluice-repo init --dev --data /var/lib/sluice-repo --rings validation,pilot,production"
)]
struct InitArgs {
    /// Every signing key on this server, every threshold 1. Not for production
    #[arg(long)]
    dev: bool,
    /// The data folder; must be empty or absent
    #[arg(long, default_value = "/var/lib/sluice-repo")]
    data: PathBuf,
    /// Rings in lifecycle order
    #[arg(long, value_delimiter = ',', default_value = "validation,pilot,production")]
    rings: Vec<RingName>,
    /// Id of the repository: lower-case letters, digits and '-'
    #[arg(long, default_value = "sluice")]
    name: String,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  sluice-repo serve --data /var/lib/sluice-repo --config /etc/sluice/sluice-repo.toml"
)]
struct ServeArgs {
    /// The data folder that init made
    #[arg(long, default_value = "/var/lib/sluice-repo")]
    data: PathBuf,
    /// Settings file; without it the defaults
    #[arg(long)]
    config: Option<PathBuf>,
    /// Overrides listen.http
    #[arg(long)]
    http: Option<SocketAddr>,
    /// Overrides listen.device
    #[arg(long)]
    device: Option<SocketAddr>,
    /// Overrides listen.overlay
    #[arg(long)]
    overlay: Option<SocketAddr>,
    /// Overrides lease.serving_secs
    #[arg(long)]
    lease_secs: Option<u64>,
}

fn main() -> ExitCode {
    sluice_identity::install_provider();
    let done = match Cli::parse().command {
        Command::Init(args) => init(args),
        Command::Serve(args) => serve(args),
        Command::Openapi => openapi(),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("sluice-repo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn init(args: InitArgs) -> anyhow::Result<ExitCode> {
    if !args.dev {
        let text = "key ceremonies do not exist yet: run `sluice-repo init --dev`, which keeps every signing key on this \
                    server (profile dev, not for production)";
        Cli::command().error(clap::error::ErrorKind::MissingRequiredArgument, text).print()?;
        return Ok(ExitCode::from(2));
    }
    let made = runtime()?.block_on(init::run(&args.data, args.rings, &args.name))?;
    say(&format!(
        "Repository {} made in {} with profile dev: every key is on this server. Not for production.\n\n\
         Token of the first admin, shown once, valid until {}:\n\n    {}\n\n\
         Next: sluice-repo serve --data {}\n\
         then: sluice login http://127.0.0.1:8470",
        args.name,
        args.data.display(),
        made.token_expires_at.to_seconds_text(),
        made.token,
        args.data.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let mut settings: RepoSettings = sluice_settings::load(args.config.as_deref(), std::env::vars())?;
    settings.listen.http = args.http.unwrap_or(settings.listen.http);
    settings.listen.device = args.device.unwrap_or(settings.listen.device);
    settings.listen.overlay = args.overlay.unwrap_or(settings.listen.overlay);
    settings.lease.serving_secs = args.lease_secs.unwrap_or(settings.lease.serving_secs);
    sluice_telemetry::log::init(settings.log.format == LogFormat::Json, &settings.log.filter)?;
    runtime()?.block_on(wiring::serve(settings, args.data))?;
    Ok(ExitCode::SUCCESS)
}

fn openapi() -> anyhow::Result<ExitCode> {
    say(&http::openapi().to_pretty_json()?)?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the async runtime")
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).context("writing to standard output")
}

fn complain(text: &str) {
    // There is nowhere left to complain to when this fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}
