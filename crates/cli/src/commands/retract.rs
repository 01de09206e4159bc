//! `retract` and `reinstate`.

use crate::failure::Failure;
use crate::output::{Output, Report, fields};
use crate::units;
use sluice_api::admin::{Asked, NewReinstatement, NewRetraction, RetractionPlan, RetractionScope, WaitingRequest};
use sluice_api_client::AdminClient;
use sluice_model::{PatchRef, RingName, Timestamp};

const AFTER_HELP: &str = "\
Every node stops serving the content, by hash; endpoints that have it go back to the version
before. The same bytes can never be published again; only two people can take it back, in one
ring, with `sluice reinstate`. More than five in an hour need a second person, too.

Examples:
  sluice retract openssl/3.0.22-1 --plan          what it would do
  sluice retract openssl/3.0.22-1 --reason 'crashes at boot'
  sluice retract openssl/3.0.22-1 --reason 'crashes at boot' --also openssl-all/2026-11
  sluice retractions show                          how far it has come";

/// Retract a patch everywhere, by content.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Retract {
    /// Which patch.
    #[arg(value_name = "NAME/VERSION")]
    patch: PatchRef,
    /// Why, for the record and for every endpoint's owner.
    #[arg(long, required_unless_present = "plan")]
    reason: Option<String>,
    /// Another patch that shares a file with it and goes too; may be repeated.
    #[arg(long, value_name = "NAME/VERSION")]
    also: Vec<PatchRef>,
    /// Show what it would do, and do nothing.
    #[arg(long, conflicts_with = "reason")]
    plan: bool,
}

impl Retract {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        if self.plan {
            let scope = RetractionScope { also: self.also };
            return output.report(&client.retraction_plan(&self.patch, &scope).await?);
        }
        let retraction = NewRetraction { reason: self.reason.unwrap_or_default(), also: self.also };
        output.report(&client.retract(&self.patch, &retraction).await?)
    }
}

const REINSTATE_HELP: &str = "\
For a retraction that was a mistake. Two people who did not publish the patch run the same command;
the second one's does it. The ring's release role then names the retraction that no longer counts
there; in other rings it counts as before.

Example:
  sluice reinstate 7 --ring production --reason 'the crash was another patch'";

/// Take a retraction back in one ring; two people.
#[derive(Debug, clap::Args)]
#[command(after_help = REINSTATE_HELP)]
pub struct Reinstate {
    /// Serial of the retraction, from `sluice retractions show`.
    serial: u64,
    /// Where.
    #[arg(long)]
    ring: RingName,
    /// Why; it is signed with it.
    #[arg(long)]
    reason: String,
}

impl Reinstate {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let new = NewReinstatement { serial: self.serial, ring: self.ring, reason: self.reason };
        output.report(&client.reinstate(&new).await?)
    }
}

impl<T: Report> Report for Asked<T> {
    fn text(&self, now: Timestamp) -> String {
        match self {
            Self::Done(done) => done.text(now),
            Self::Waiting(waiting) => waiting.text(now),
        }
    }
}

impl Report for WaitingRequest {
    fn text(&self, now: Timestamp) -> String {
        fields([
            ("not yet", self.missing.clone()),
            ("request", format!("{}: {} of {}", self.id, self.kind, self.subject)),
            ("runs out", units::relative(self.expires_at, now)),
        ])
    }
}

impl Report for RetractionPlan {
    fn text(&self, _now: Timestamp) -> String {
        let files = self.artifacts.iter().map(|artifact| {
            format!("{} {} (in {})", artifact.file_name, artifact.sha256, units::list(&artifact.patches))
        });
        let ways = self.ways_back.iter().map(|way| match &way.to {
            Some(to) => format!("{}: {} to {to}", way.ring, way.from),
            None => format!("{}: {} has nothing to go back to", way.ring, way.from),
        });
        let brake = match self.needs_second_person {
            true => format!("yes, after {} in the last hour", self.tombstones_last_hour),
            false => "no".to_owned(),
        };
        fields([
            ("would retract", units::list(&self.patches)),
            ("files", units::list(files)),
            ("not named", units::list(&self.not_named)),
            ("back to", units::list(ways)),
            ("nodes", self.nodes.to_string()),
            ("installed on", units::list(self.endpoints_installed.iter().map(|id| id.short()))),
            ("second person", brake),
        ])
    }
}
