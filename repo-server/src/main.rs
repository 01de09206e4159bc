//! `sluice-repo`: the repository server. Arguments, settings, exit code; `wiring` builds and runs it.

mod apt_loop;
mod archive_key;
mod authority;
mod authorize;
mod certificate_loop;
mod clock;
mod counters;
mod device_loop;
mod draft;
mod gauges;
mod http;
mod http_loop;
mod https_loop;
mod init;
mod init_args;
mod key_files;
mod node_board;
mod operations;
mod origin;
mod overlay_links;
mod overlay_loop;
mod proposals;
mod quotas;
mod restore_loop;
mod restore_room;
mod served;
mod state;
mod sweep_loop;
mod timestamp_loop;
mod wiring;

#[cfg(test)]
mod tests;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use init_args::{ApproverKey, HolderKey};
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
    /// Makes a new repository in an empty folder, or prepares one whose keys people hold
    Init(InitArgs),
    /// Brings root, targets and ring files that people signed into force while the server does not run
    Publish(PublishArgs),
    /// Says that the data folder is a restored backup: the next start first learns from the nodes what it forgot
    Restore(RestoreArgs),
    /// Runs the repository
    Serve(ServeArgs),
    /// Prints the fingerprint of the internal CA, which `sluice login` asks for
    Fingerprint(FingerprintArgs),
    /// Prints the public key of the apt indices, or replaces it by a new one
    AptKey(AptKeyArgs),
    /// Prints the OpenAPI document of the admin API
    Openapi,
}

#[derive(Args)]
#[command(after_help = INIT_EXAMPLES)]
struct InitArgs {
    /// Every signing key on this server, every threshold 1. Not for production
    #[arg(long, conflicts_with = "profile")]
    dev: bool,
    /// A production profile: holders sign root and targets; `strict` has a lease of at most an hour
    #[arg(long, value_parser = ["standard", "strict"])]
    profile: Option<String>,
    /// The data folder; must be empty or absent
    #[arg(long, default_value = "/var/lib/sluice-repo")]
    data: PathBuf,
    /// Rings in lifecycle order
    #[arg(long, value_delimiter = ',', default_value = "validation,pilot,production")]
    rings: Vec<RingName>,
    /// Id of the repository: lower-case letters, digits and '-'
    #[arg(long, default_value = "sluice")]
    name: String,
    /// A holder of root: his name and the file of his public key; may be repeated
    #[arg(long = "root-key", value_name = "NAME=FILE", conflicts_with = "dev")]
    root_keys: Vec<HolderKey>,
    /// A holder of targets; may be repeated
    #[arg(long = "targets-key", value_name = "NAME=FILE", conflicts_with = "dev")]
    targets_keys: Vec<HolderKey>,
    /// How many holders of root must sign
    #[arg(long, default_value_t = 2)]
    root_threshold: u32,
    /// How many holders of targets must sign
    #[arg(long, default_value_t = 2)]
    targets_threshold: u32,
    /// An approver whose own key must sign every patch of a ring; may be repeated
    #[arg(long = "approver", value_name = "RING:NAME=FILE", conflicts_with = "dev")]
    approvers: Vec<ApproverKey>,
}

const INIT_EXAMPLES: &str = "Examples:
  sluice-repo init --dev --data /var/lib/sluice-repo --rings validation,pilot,production
  sluice-repo init --profile standard --data /var/lib/sluice-repo \\
      --root-key ann=ann.pub --root-key ben=ben.pub --root-key cat=cat.pub \\
      --targets-key ann=ann.pub --targets-key ben=ben.pub --targets-key cat=cat.pub \\
      --approver production:dora=dora.pub

The public keys are made by `sluice key new`. docs/ceremonies.md is the guide.";

#[derive(Args)]
#[command(
    after_help = "Example:\n  sluice-repo publish --data /var/lib/sluice-repo 1.root.json 1.targets.json 1.rel-production.json\n\nWhile the server runs, `sluice root publish` does the same over the admin API."
)]
struct PublishArgs {
    /// The data folder that init prepared
    #[arg(long, default_value = "/var/lib/sluice-repo")]
    data: PathBuf,
    /// Signed files, each named VERSION.ROLE.json; copies with other signatures may be given too
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  sluice-repo restore --data /var/lib/sluice-repo --by ann --reason 'the disk died; backup of Sunday'\n  sluice-repo serve --data /var/lib/sluice-repo\n\nTo be given while the server does not run, before its first start from the backup. docs/restore.md is the guide."
)]
struct RestoreArgs {
    /// The data folder, as it came from the backup
    #[arg(long, default_value = "/var/lib/sluice-repo")]
    data: PathBuf,
    /// Who restores it: stands in the audit log for good
    #[arg(long)]
    by: sluice_model::PersonName,
    /// Why, and from when the backup is: stands in the audit log for good
    #[arg(long)]
    reason: String,
    /// How long nodes that do not answer are waited for; at least one must. 0: there is no node to ask
    #[arg(long, default_value_t = 600)]
    wait_secs: u64,
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
    /// Overrides https.listen
    #[arg(long)]
    https: Option<SocketAddr>,
    /// Overrides listen.device
    #[arg(long)]
    device: Option<SocketAddr>,
    /// Overrides listen.overlay
    #[arg(long)]
    overlay: Option<SocketAddr>,
    /// Overrides lease.serving_secs
    #[arg(long)]
    lease_secs: Option<u64>,
    /// Sign although the clock stands before the newest timestamp: you vouch that it is right now
    #[arg(long)]
    accept_clock: bool,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  sluice-repo apt-key --data /var/lib/sluice-repo\n\ndocs/apt.md says how machines get it."
)]
struct AptKeyArgs {
    /// The data folder that init made
    #[arg(long, default_value = "/var/lib/sluice-repo")]
    data: PathBuf,
    /// Keeps the old key in the same folder and makes a new one; stop the server first
    #[arg(long)]
    rotate: bool,
    /// Id of the repository, for the name in a new key
    #[arg(long, default_value = "sluice")]
    name: String,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  sluice-repo fingerprint --data /var/lib/sluice-repo\n\nThe same number: openssl x509 -noout -fingerprint -sha256 -in /var/lib/sluice-repo/https/ca.pem"
)]
struct FingerprintArgs {
    /// The data folder that init made
    #[arg(long, default_value = "/var/lib/sluice-repo")]
    data: PathBuf,
}

fn main() -> ExitCode {
    sluice_identity::install_provider();
    let done = match Cli::parse().command {
        Command::Init(args) => init(args),
        Command::Publish(args) => publish(args),
        Command::Restore(args) => restore(args),
        Command::Serve(args) => serve(args),
        Command::Fingerprint(args) => fingerprint(args),
        Command::AptKey(args) => apt_key(args),
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
    if args.profile.is_some() {
        return prepare(args);
    }
    if !args.dev {
        let text = "choose --dev (every signing key on this server, not for production), or --profile standard with the \
                    public keys of the holders: docs/ceremonies.md is the guide";
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

fn prepare(args: InitArgs) -> anyhow::Result<ExitCode> {
    let (data, name) = (args.data.clone(), args.name.clone());
    let plan = init_args::plan(args)?;
    let people = init_args::people(&plan);
    let paths = init::prepare(&data, plan)?;
    let drafts = paths.iter().map(|path| format!("    {}", path.display())).collect::<Vec<_>>().join("\n");
    let files = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
    say(&format!(
        "Repository {name} is prepared in {}: this server made its own keys, and people sign the rest.\n\n\
         To be signed:\n{drafts}\n\nBy whom:\n{people}\n\
         Each of them, on a machine of his own, reads what it says and signs:\n\
         \x20   sluice root sign 1.root.json --key FILE\n\
         \x20   sluice targets sign 1.targets.json --key FILE\n\
         \x20   sluice approve --draft 1.rel-RING.json --key FILE\n\n\
         Then, here: sluice-repo publish --data {} {files}",
        data.display(),
        data.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn publish(args: PublishArgs) -> anyhow::Result<ExitCode> {
    match runtime()?.block_on(init::publish(&args.data, &args.files))? {
        init::Published::First(made) => say(&format!(
            "The repository exists.\n\nToken of the first admin, shown once, valid until {}:\n\n    {}\n\n\
             Next: sluice-repo serve --data {}\nthen: sluice login http://127.0.0.1:8470",
            made.token_expires_at.to_seconds_text(),
            made.token,
            args.data.display()
        ))?,
        init::Published::Next(done) => say(&format!(
            "In force: {}.\nSigned anew by this server: {}.\nKeys of this server that lost their role and were deleted: {}.",
            done.published.join(", "),
            done.signed_by_server.join(", "),
            done.keys_deleted.len()
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn restore(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let reason = args.reason.trim();
    if reason.is_empty() || reason.chars().count() > sluice_model::limits::TEXT_CHARS_MAX {
        anyhow::bail!(
            "say why in 1 to {} characters: --reason 'the disk died; backup of Sunday'",
            sluice_model::limits::TEXT_CHARS_MAX
        );
    }
    let path = args.data.join("repo.redb");
    if !path.is_file() {
        anyhow::bail!(
            "{0} holds no repository; put the backup there first, or name its folder with --data",
            args.data.display()
        );
    }
    let store = sluice_repo_store::Store::open(&path).context("is sluice-repo serving this folder? Stop it first")?;
    let done = operations::restore::declare(&store, args.by.as_str(), reason, args.wait_secs)?;
    say(&format!(
        "Noted: a backup with {} entries in its audit log and timestamp {}. {} unused enrolment tokens ended, because they may \
         have been used since.\n\n\
         Next: sluice-repo serve --data {}\n\
         It signs nothing until its nodes, which come by themselves, have shown what they hold. Then look at `sluice audit`, \
         and at `sluice token list`: tokens of people that were revoked after the backup are good again.",
        done.backup.size,
        done.timestamp_version,
        done.tokens_ended,
        args.data.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let mut settings: RepoSettings = sluice_settings::load(args.config.as_deref(), std::env::vars())?;
    settings.listen.http = args.http.unwrap_or(settings.listen.http);
    settings.https.listen = args.https.unwrap_or(settings.https.listen);
    settings.listen.device = args.device.unwrap_or(settings.listen.device);
    settings.listen.overlay = args.overlay.unwrap_or(settings.listen.overlay);
    settings.lease.serving_secs = args.lease_secs.unwrap_or(settings.lease.serving_secs);
    sluice_telemetry::log::init(settings.log.format == LogFormat::Json, &settings.log.filter)?;
    runtime()?.block_on(wiring::serve(settings, args.data, args.accept_clock))?;
    Ok(ExitCode::SUCCESS)
}

fn fingerprint(args: FingerprintArgs) -> anyhow::Result<ExitCode> {
    if !args.data.join("repo.redb").is_file() {
        anyhow::bail!("{0} holds no repository; name its folder with --data", args.data.display());
    }
    let folder = args.data.join(certificate_loop::CA_FOLDER);
    let ca = sluice_identity::InternalCa::load_or_create(&folder, clock::timestamp())?;
    say(&ca.fingerprint().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn apt_key(args: AptKeyArgs) -> anyhow::Result<ExitCode> {
    let folder = args.data.join("keys");
    let key = if args.rotate {
        archive_key::rotate(&folder, &args.name, clock::timestamp())?
    } else {
        archive_key::load(&folder)?
    };
    let public = key.public_armor()?;
    say(&format!("{}\nFingerprint: {}", public.trim_end(), key.fingerprint()))?;
    if args.rotate {
        say("Start sluice-repo anew, and give every machine the new key: apt takes no index until it has it.")?;
    }
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
