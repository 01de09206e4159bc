//! `revoke node`, `revoke endpoint`.

use crate::commands::endpoints;
use crate::failure::Failure;
use crate::output::{Output, Report};
use clap::Subcommand;
use serde::Serialize;
use sluice_api_client::AdminClient;
use sluice_model::{MemberKey, Timestamp};

/// Take a node or an endpoint out for good.
#[derive(Debug, clap::Args)]
pub struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take a node out of the roster: every other member closes its connections.
    #[command(after_help = "Example:\n  sluice revoke node 3b6a27bc...  (the whole key, from `sluice -o json nodes`)")]
    Node {
        /// Its whole key, in hex.
        key: MemberKey,
    },
    /// Take an endpoint out: no report of it is accepted any more.
    #[command(after_help = "Example:\n  sluice revoke endpoint lyon-desk-17")]
    Endpoint {
        /// Its id, the beginning of it, or its name.
        endpoint: String,
    },
}

#[derive(Serialize)]
struct Revoked {
    revoked: String,
}

impl Report for Revoked {
    fn text(&self, _now: Timestamp) -> String {
        format!("revoked {}\n", self.revoked)
    }
}

impl Group {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let revoked = match self.command {
            Command::Node { key } => {
                client.remove_node(&key).await?;
                key.to_string()
            }
            Command::Endpoint { endpoint } => {
                let id = endpoints::resolve(client, &endpoint).await?;
                client.remove_endpoint(&id).await?;
                id.to_string()
            }
        };
        output.report(&Revoked { revoked })
    }
}
