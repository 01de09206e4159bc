//! `explain endpoint`.

use crate::commands::endpoints;
use crate::failure::{Failure, one_line};
use crate::output::{Output, Report};
use clap::Subcommand;
use sluice_api::admin::Explanation;
use sluice_api_client::AdminClient;
use sluice_model::Timestamp;

/// Say why an endpoint has what it has.
#[derive(Debug, clap::Args)]
pub struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One line a patch, in the words that the endpoint's agent prints.
    #[command(after_help = "Examples:\n  sluice explain endpoint lyon-desk-17\n  sluice explain endpoint 9f86d081")]
    Endpoint {
        /// Its id, the beginning of it, or its name.
        #[arg(value_name = "ID")]
        endpoint: String,
    },
}

impl Group {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let Command::Endpoint { endpoint } = self.command;
        let id = endpoints::resolve(client, &endpoint).await?;
        output.report(&client.explanation(&id).await?)
    }
}

impl Report for Explanation {
    fn text(&self, _now: Timestamp) -> String {
        let mut text =
            format!("{} ({}), site {}, ring {}\n", one_line(&self.name), self.endpoint.short(), self.site, self.ring);
        for line in &self.lines {
            text += &format!("  {}\n", one_line(line));
        }
        if self.lines.is_empty() {
            text += "  nothing is approved into its ring\n";
        }
        text
    }
}
