//! `sluice-agent`: arguments, settings, exit codes.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use sluice_agent::operations::{enrol, explain, run};
use sluice_settings::{AgentSettings, LogFormat};
use sluice_state_store::hold;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// An install or a rollback failed; its outcome is in the journal.
const EXIT_ATTEMPT_FAILED: u8 = 3;

/// Keeps this machine patched from its site's Sluice nodes.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 error, 2 wrong usage, 3 an install or rollback failed (run --once).\n\n\
    Examples:\n  sluice-agent enrol --repository http://repo.example:8470 --token slt1-...\n  sluice-agent run\n  \
    sluice-agent hold --reason 'the auditor is here'\n  sluice-agent explain"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take part: verify the repository that the token names, and enrol with this machine's own key.
    Enrol {
        #[command(flatten)]
        common: Common,
        /// Base URL of the repository.
        #[arg(long)]
        repository: String,
        /// Enrolment token, from `sluice token new --kind endpoint`.
        #[arg(long, env = "SLUICE_TOKEN", hide_env_values = true)]
        token: String,
        /// What people call this machine; the host name by default.
        #[arg(long)]
        name: Option<String>,
        /// Take a repository whose keys all lie on one server (`sluice-repo init --dev`).
        #[arg(long)]
        accept_dev_root: bool,
    },
    /// Look, decide, install, report; until stopped.
    Run {
        #[command(flatten)]
        common: Common,
        /// One pass only.
        #[arg(long)]
        once: bool,
    },
    /// Change nothing on this machine until `release`; works while the agent runs, with or without the network.
    Hold {
        #[command(flatten)]
        common: Common,
        /// Why; reported to the repository.
        #[arg(long)]
        reason: String,
    },
    /// Lift the hold of this machine.
    Release {
        #[command(flatten)]
        common: Common,
    },
    /// Say for each patch what is decided, and why.
    Explain {
        #[command(flatten)]
        common: Common,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Common {
    /// Where keys, metadata, journal and packages are kept.
    #[arg(long, default_value = "/var/lib/sluice-agent")]
    data: PathBuf,
    /// Settings file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Root of the system to manage, `/` by default.
    #[arg(long)]
    root: Option<PathBuf>,
}

impl Common {
    fn settings(&self) -> anyhow::Result<AgentSettings> {
        let mut settings: AgentSettings = sluice_settings::load(self.config.as_deref(), std::env::vars())?;
        if let Some(root) = &self.root {
            settings.dpkg.root.clone_from(root);
        }
        // dpkg resolves a relative root against its own working directory, so it is made absolute here.
        settings.dpkg.root = std::path::absolute(&settings.dpkg.root).context("the root is not a path")?;
        Ok(settings)
    }
}

fn main() -> ExitCode {
    sluice_identity::install_provider();
    let arguments = Arguments::parse();
    match start(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "sluice-agent: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, each said once.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = if text.is_empty() { words } else { format!("{text}: {words}") };
        }
    }
    text
}

fn start(command: Command) -> anyhow::Result<ExitCode> {
    let (Command::Enrol { common, .. }
    | Command::Run { common, .. }
    | Command::Hold { common, .. }
    | Command::Release { common }
    | Command::Explain { common, .. }) = &command;
    let settings = common.settings()?;
    let filter = if matches!(command, Command::Explain { .. }) { "warn" } else { settings.log.filter.as_str() };
    sluice_telemetry::log::init(settings.log.format == LogFormat::Json, filter)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(carry_out(command, settings))
}

async fn carry_out(command: Command, settings: AgentSettings) -> anyhow::Result<ExitCode> {
    match command {
        Command::Enrol { common, repository, token, name, accept_dev_root } => {
            let request = enrol::EnrolRequest { repository, token, data: common.data.clone(), name, accept_dev_root };
            let enrolled = enrol::run(request).await?;
            let ring = enrolled.ring.as_ref().map_or("none", |ring| ring.as_str());
            say(&format!(
                "enrolled as {} at site {}, ring {ring}\nnext: sluice-agent run --data {}",
                enrolled.endpoint,
                enrolled.site,
                common.data.display()
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { common, once: true } => {
            let done = until_stopped(|stop| run::once(&common.data, settings, stop)).await?;
            Ok(if done.failures > 0 { ExitCode::from(EXIT_ATTEMPT_FAILED) } else { ExitCode::SUCCESS })
        }
        Command::Run { common, once: false } => {
            until_stopped(|stop| run::forever(&common.data, settings, stop)).await?;
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Command::Hold { common, reason } => {
            let hold = hold::set(&common.data, &reason, sluice_agent::clock::timestamp())?;
            let data = common.data.display();
            say(&format!(
                "held since {}: {}\nnext: sluice-agent release --data {data}, when it is over",
                hold.since, hold.reason
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Release { common } => {
            match hold::lift(&common.data)? {
                Some(hold) => say(&format!("lifted; it was held since {}: {}", hold.since, hold.reason))?,
                None => say("there was no hold")?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Explain { common, json } => {
            let explanation = explain::run(&common.data, settings).await?;
            if json {
                say(&serde_json::to_string_pretty(&explanation)?)?;
            } else {
                let ring = explanation.ring.as_ref().map_or("none", |ring| ring.as_str());
                say(&format!("site {}, ring {ring}, metadata {}", explanation.site, explanation.metadata))?;
                for line in &explanation.lines {
                    say(line)?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")
}

/// Runs `work`, which gets a token that SIGTERM or SIGINT cancels, to its own end.
async fn until_stopped<T, W>(work: impl FnOnce(CancellationToken) -> W) -> anyhow::Result<T>
where
    W: Future<Output = Result<T, run::RunError>>,
{
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = CancellationToken::new();
    let mut work = std::pin::pin!(work(stop.clone()));
    loop {
        tokio::select! {
            done = &mut work => return Ok(done?),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; a running dpkg is waited for");
        stop.cancel();
    }
}
