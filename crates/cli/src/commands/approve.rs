//! `approve`.

use crate::failure::Failure;
use crate::output::Output;
use sluice_api::admin::NewApproval;
use sluice_api_client::AdminClient;
use sluice_model::{PatchRef, RingName};

const AFTER_HELP: &str = "\
Endpoints of the ring are offered the patch as soon as their site has the new metadata.
A publisher cannot approve what he published.

Example:
  sluice approve openssl/3.0.22-1 --ring pilot";

/// Approve a patch into a ring.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Approve {
    /// Which patch.
    #[arg(value_name = "NAME/VERSION")]
    patch: PatchRef,
    /// Into which ring.
    #[arg(long)]
    ring: RingName,
}

impl Approve {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        output.report(&client.approve(&self.patch, &NewApproval { ring: self.ring }).await?)
    }
}
