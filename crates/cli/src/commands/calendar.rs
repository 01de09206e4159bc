//! `calendar`.

use crate::failure::Failure;
use crate::output::{Output, Report, table};
use crate::units;
use sluice_api::ceremony::Calendar;
use sluice_api_client::AdminClient;
use sluice_model::Timestamp;

const AFTER_HELP: &str = "\
What only people can renew is warned of at 30, 14, 7 and 1 days before it runs out, here, in the
server's log and in its metrics. A ring that runs out stops alone; root and targets stop everything.

Examples:
  sluice calendar
  sluice -o json calendar | jq '.roles[] | select(.is_renewed_by_server | not)'";

/// Show who must sign what until when.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Show {}

impl Show {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        output.report(&client.calendar().await?)
    }
}

impl Report for Calendar {
    fn text(&self, now: Timestamp) -> String {
        let rows = self.roles.iter().map(|row| {
            let who = match row.is_renewed_by_server {
                true => "the server".to_owned(),
                false if row.role.starts_with("rel-") => {
                    format!("the server and {} of {}", row.threshold.saturating_sub(1), row.people.join(", "))
                }
                false => format!("{} of {}", row.threshold, row.people.join(", ")),
            };
            let next = if row.is_renewed_by_server { String::new() } else { row.next.clone() };
            vec![
                row.role.clone(),
                row.version.to_string(),
                units::relative(row.expires_at, now),
                if row.is_renewed_by_server { "-".to_owned() } else { row.nearness.clone() },
                who,
                next,
            ]
        });
        table(&["ROLE", "VERSION", "EXPIRES", "STATE", "SIGNED BY", "NEXT"], rows, "no roles")
    }
}
