//! `whoami`.

use crate::failure::Failure;
use crate::output::{Output, Report, fields};
use crate::units;
use sluice_api::admin::WhoAmI;
use sluice_api_client::AdminClient;
use sluice_model::Timestamp;

/// Show whose token this is and what it may do.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sluice whoami")]
pub struct Whoami {}

impl Whoami {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        output.report(&client.whoami().await?)
    }
}

impl Report for WhoAmI {
    fn text(&self, now: Timestamp) -> String {
        fields([
            ("person", self.person.to_string()),
            ("roles", units::list(&self.roles)),
            ("scope", self.scope.clone()),
            ("token", format!("{}, expires {}", self.token, units::relative(self.expires_at, now))),
            ("repository", self.repository.clone()),
            ("profile", self.profile.clone()),
        ])
    }
}
