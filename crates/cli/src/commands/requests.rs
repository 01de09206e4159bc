//! `requests`, `requests withdraw`.

use crate::failure::Failure;
use crate::output::{Output, Report, table};
use crate::units;
use clap::Subcommand;
use serde::Serialize;
use sluice_api::requests::PendingRequests;
use sluice_api_client::AdminClient;
use sluice_model::Timestamp;

const AFTER_HELP: &str = "\
A second person completes a request by asking for the same thing with the same command.

Examples:
  sluice requests
  sluice requests withdraw 1f2e3d4c5b6a7988";

/// What waits for a second person.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Requests {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take a request back: whoever asked, or an admin.
    Withdraw {
        /// From the list.
        id: String,
    },
}

#[derive(Serialize)]
struct Withdrawn {
    withdrawn: String,
}

impl Report for Withdrawn {
    fn text(&self, _now: Timestamp) -> String {
        format!("request {} is taken back\n", self.withdrawn)
    }
}

impl Requests {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        match self.command {
            None => output.report(&client.requests().await?),
            Some(Command::Withdraw { id }) => {
                client.withdraw_request(&id).await?;
                output.report(&Withdrawn { withdrawn: id })
            }
        }
    }
}

impl Report for PendingRequests {
    fn text(&self, now: Timestamp) -> String {
        let rows = self.requests.iter().map(|request| {
            vec![
                request.id.clone(),
                request.kind.clone(),
                request.subject.clone(),
                request.by.to_string(),
                units::relative(request.expires_at, now),
            ]
        });
        table(&["ID", "WHAT", "SUBJECT", "ASKED BY", "ENDS"], rows, "nothing waits for a second person")
    }
}
