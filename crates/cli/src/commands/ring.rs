//! `ring list`.

use crate::failure::Failure;
use crate::output::{Output, Report, table};
use clap::Subcommand;
use sluice_api::admin::Rings;
use sluice_api_client::AdminClient;
use sluice_model::Timestamp;

/// Rings.
#[derive(Debug, clap::Args)]
pub struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List rings in lifecycle order.
    #[command(after_help = "Example:\n  sluice ring list")]
    List,
}

impl Group {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        match self.command {
            Command::List => output.report(&client.rings().await?),
        }
    }
}

impl Report for Rings {
    fn text(&self, _now: Timestamp) -> String {
        let rows = self.rings.iter().map(|ring| {
            vec![
                ring.name.to_string(),
                ring.patches.to_string(),
                ring.endpoints.to_string(),
                ring.threshold.to_string(),
            ]
        });
        table(&["RING", "PATCHES", "ENDPOINTS", "SIGNATURES"], rows, "no rings")
    }
}
