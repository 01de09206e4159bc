//! `suspend` and `suspensions`.

use crate::failure::Failure;
use crate::output::{Output, Report, fields, table};
use crate::units;
use clap::Subcommand;
use sluice_api::admin::{NewLift, NewSuspension, Suspension, Suspensions as Answer};
use sluice_api_client::AdminClient;
use sluice_model::{PackageName, PatchName, SiteName, SuspensionScope, SuspensionSubject, Timestamp, VersionRange};

const AFTER_HELP: &str = "\
Downloads end, what is staged stays locked, nothing is installed. It never lifts itself: two people
lift it with `sluice suspensions lift`. With --everything it is the kill switch.

Examples:
  sluice suspend --patch openssl --from 3.0.22-1 --to 3.0.22-9 --reason 'reports of crashes'
  sluice suspend --package libssl3 --site lyon --reason 'the plant runs'
  sluice suspend --everything --reason 'under attack'";

/// Stop a patch, a package or everything, for the fleet or one site.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
#[group(skip)]
pub struct Suspend {
    /// A patch name.
    #[arg(long, conflicts_with_all = ["package", "everything"], required_unless_present_any = ["package", "everything"])]
    patch: Option<PatchName>,
    /// A package name: every patch that brings it.
    #[arg(long, conflicts_with = "everything")]
    package: Option<PackageName>,
    /// The kill switch.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    everything: bool,
    /// The lowest version, included.
    #[arg(long, value_name = "VERSION")]
    from: Option<String>,
    /// The highest version, included.
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    /// At this site only.
    #[arg(long)]
    site: Option<SiteName>,
    /// Why; every endpoint's owner is told.
    #[arg(long)]
    reason: String,
}

impl Suspend {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let versions = VersionRange { from: self.from, to: self.to };
        let subject = match (self.patch, self.package) {
            (Some(name), _) => SuspensionSubject::Patch { name, versions },
            (None, Some(name)) => SuspensionSubject::Package { name, versions },
            (None, None) => SuspensionSubject::Everything,
        };
        let scope = self.site.map_or(SuspensionScope::Fleet, SuspensionScope::Site);
        output.report(&client.suspend(&NewSuspension { subject, scope, reason: self.reason }).await?)
    }
}

/// Show suspensions, and lift them.
#[derive(Debug, clap::Args)]
pub struct Suspensions {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the suspensions in force.
    #[command(after_help = "Example:\n  sluice suspensions list")]
    List,
    /// Lift a suspension; two people run it, the second one's does it.
    #[command(after_help = "Example:\n  sluice suspensions lift 3 --reason 'it was the kernel'")]
    Lift {
        /// Its number.
        id: u64,
        /// Why, for the record.
        #[arg(long)]
        reason: String,
    },
}

impl Suspensions {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        match self.command {
            Command::List => output.report(&client.suspensions().await?),
            Command::Lift { id, reason } => output.report(&client.lift_suspension(id, &NewLift { reason }).await?),
        }
    }
}

fn what(subject: &SuspensionSubject) -> String {
    let range = |versions: &VersionRange| match (&versions.from, &versions.to) {
        (None, None) => String::new(),
        (from, to) => format!(" {}..{}", from.as_deref().unwrap_or(""), to.as_deref().unwrap_or("")),
    };
    match subject {
        SuspensionSubject::Everything => "everything".to_owned(),
        SuspensionSubject::Patch { name, versions } => format!("patch {name}{}", range(versions)),
        SuspensionSubject::Package { name, versions } => format!("package {name}{}", range(versions)),
    }
}

fn reach(scope: &SuspensionScope) -> String {
    match scope {
        SuspensionScope::Fleet => "fleet".to_owned(),
        SuspensionScope::Site(site) => format!("site {site}"),
    }
}

impl Report for Answer {
    fn text(&self, now: Timestamp) -> String {
        let heading = ["ID", "WHAT", "WHERE", "WHEN", "BY", "REASON"];
        let rows = self.suspensions.iter().map(|suspension| {
            vec![
                suspension.id.to_string(),
                what(&suspension.subject),
                reach(&suspension.scope),
                units::relative(suspension.at, now),
                suspension.by.to_string(),
                suspension.reason.clone(),
            ]
        });
        table(&heading, rows, "nothing is suspended")
    }
}

impl Report for Suspension {
    fn text(&self, now: Timestamp) -> String {
        fields([
            ("suspension", self.id.to_string()),
            ("what", what(&self.subject)),
            ("where", reach(&self.scope)),
            ("reason", self.reason.clone()),
            ("by", format!("{}, {}", self.by, units::relative(self.at, now))),
            ("stops now", units::list(&self.stops)),
        ])
    }
}
