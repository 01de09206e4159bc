//! `retract`.

use crate::failure::Failure;
use crate::output::Output;
use sluice_api::admin::NewRetraction;
use sluice_api_client::AdminClient;
use sluice_model::PatchRef;

const AFTER_HELP: &str = "\
Every node stops serving the content, by hash; endpoints that have it go back to the version
before. It cannot be undone here: the same bytes can never be published again.

Examples:
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
    #[arg(long)]
    reason: String,
    /// Another patch that shares a file with it and goes too; may be repeated.
    #[arg(long, value_name = "NAME/VERSION")]
    also: Vec<PatchRef>,
}

impl Retract {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let retraction = NewRetraction { reason: self.reason, also: self.also };
        output.report(&client.retract(&self.patch, &retraction).await?)
    }
}
