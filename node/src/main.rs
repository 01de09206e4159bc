//! `sluice-node`: a site's caching node.

mod backoff;
mod chunk_source;
mod clock;
mod counters;
mod device_loop;
mod exchange;
mod exchange_loop;
mod exchange_server;
mod fetch;
mod gate;
mod hold_loop;
mod http;
mod http_loop;
mod limit_loop;
mod listening;
mod metadata_loop;
mod operations;
mod origin;
mod overlay_loop;
mod report_loop;
mod show_loop;
mod status_loop;
#[cfg(test)]
mod testing;
mod trouble;
mod view;
mod wiring;
mod witness_loop;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use operations::join::{self, JoinRequest};
use sluice_settings::{LogFormat, NodeSettings};
use sluice_state_store::hold;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Examples:
  sluice-node join --repository http://repo.example:8470 --token slt1-... --data /var/lib/sluice-node
  sluice-node serve --data /var/lib/sluice-node
  sluice-node serve --config /etc/sluice/sluice-node.toml --data /var/lib/sluice-node
  sluice-node hold --reason 'the auditor is here'
  sluice-node release

Exit codes: 0 stopped cleanly or joined, 1 failed (the reason is on standard error), 2 wrong use.";

/// A site's caching node: fetches each chunk across the WAN once, shares it on the LAN, serves endpoints.
#[derive(Parser)]
#[command(name = "sluice-node", version, about, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Enrol this machine with a token from `sluice token new --kind node --site SITE`.
    Join(JoinArguments),
    /// Run the node.
    Serve(ServeArguments),
    /// Stop serving at this node until `release`, with or without the WAN; works while the node runs.
    Hold(HoldArguments),
    /// Lift the hold of this node.
    Release(DataFolder),
}

#[derive(Args)]
struct DataFolder {
    /// Folder of this node's key, state and content.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/sluice-node")]
    data: PathBuf,
}

#[derive(Args)]
struct HoldArguments {
    #[command(flatten)]
    folder: DataFolder,
    /// Why; clients are told, and the repository once it is reached.
    #[arg(long)]
    reason: String,
}

#[derive(Args)]
struct JoinArguments {
    /// The repository, for instance http://repo.example:8470.
    #[arg(long, value_name = "URL")]
    repository: String,
    /// The enrolment token; also read from SLUICE_TOKEN, so that it need not stand in the process list.
    #[arg(long, env = "SLUICE_TOKEN", hide_env_values = true)]
    token: String,
    /// Folder of this node's key, state and content.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/sluice-node")]
    data: PathBuf,
    /// A name for people; the host's name when left out.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args)]
struct ServeArguments {
    /// Settings file; defaults apply without one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of this node's key, state and content.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/sluice-node")]
    data: PathBuf,
    /// Plain HTTP for endpoints, ADDRESS:PORT.
    #[arg(long, value_name = "ADDRESS")]
    listen_http: Option<SocketAddr>,
    /// TLS for agents and nodes, ADDRESS:PORT.
    #[arg(long, value_name = "ADDRESS")]
    listen_device: Option<SocketAddr>,
    /// Overlay, ADDRESS:PORT.
    #[arg(long, value_name = "ADDRESS")]
    listen_overlay: Option<SocketAddr>,
}

fn main() -> ExitCode {
    sluice_identity::install_provider();
    let outcome = match Arguments::parse().command {
        Command::Join(arguments) => run_join(arguments),
        Command::Serve(arguments) => run_serve(arguments),
        Command::Hold(arguments) => run_hold(&arguments),
        Command::Release(folder) => run_release(&folder),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("sluice-node: {}", http::problem::chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

fn run_join(arguments: JoinArguments) -> anyhow::Result<()> {
    sluice_telemetry::log::init(false, "warn")?;
    let data = arguments.data.display().to_string();
    let request = JoinRequest {
        repository: arguments.repository,
        token: arguments.token,
        data: arguments.data,
        name: arguments.name,
    };
    let joined = runtime()?.block_on(join::run(request))?;
    say(&format!("joined site {} as {}\nnext: sluice-node serve --data {data}", joined.place.site, joined.place.key));
    Ok(())
}

fn run_hold(arguments: &HoldArguments) -> anyhow::Result<()> {
    let hold = hold::set(&arguments.folder.data, &arguments.reason, clock::timestamp())?;
    let data = arguments.folder.data.display();
    say(&format!(
        "held since {}: {}\nnext: sluice-node release --data {data}, when it is over",
        hold.since, hold.reason
    ));
    Ok(())
}

fn run_release(folder: &DataFolder) -> anyhow::Result<()> {
    match hold::lift(&folder.data)? {
        Some(hold) => say(&format!("lifted; it was held since {}: {}", hold.since, hold.reason)),
        None => say("there was no hold"),
    }
    Ok(())
}

fn run_serve(arguments: ServeArguments) -> anyhow::Result<()> {
    let mut settings: NodeSettings = sluice_settings::load(arguments.config.as_deref(), std::env::vars())?;
    let listen = &mut settings.listen;
    listen.http = arguments.listen_http.unwrap_or(listen.http);
    listen.device = arguments.listen_device.unwrap_or(listen.device);
    listen.overlay = arguments.listen_overlay.unwrap_or(listen.overlay);
    sluice_telemetry::log::init(settings.log.format == LogFormat::Json, &settings.log.filter)?;
    runtime()?.block_on(wiring::serve(settings, arguments.data))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

#[expect(clippy::print_stderr, reason = "what a command says to the person who ran it")]
fn say(text: &str) {
    eprintln!("{text}");
}
