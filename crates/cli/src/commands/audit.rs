//! `audit`: pages are joined up to `--limit`.

use crate::failure::Failure;
use crate::output::{Output, Report, table};
use sluice_api::admin::AuditEntries;
use sluice_api_client::AdminClient;
use sluice_model::Timestamp;

const AFTER_HELP: &str = "\
Oldest first. Each line carries a hash over the line before it and itself (JSON form).

Examples:
  sluice audit
  sluice audit --after 1200 --limit 50";

/// List who did what.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct List {
    /// After this line.
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// At most so many.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
}

impl List {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let mut after = self.after;
        let mut all = AuditEntries { entries: Vec::new(), next: None };
        loop {
            let left = self.limit.saturating_sub(all.entries.len() as u64);
            let page = client.audit(after, Some(left)).await?;
            let is_empty = page.entries.is_empty();
            all.entries.extend(page.entries);
            all.next = page.next;
            // A page without rows that promises more would go on for ever.
            if page.next.is_none() || is_empty || all.entries.len() as u64 >= self.limit {
                break;
            }
            after = page.next;
        }
        output.report(&all)
    }
}

impl Report for AuditEntries {
    fn text(&self, _now: Timestamp) -> String {
        let rows = self.entries.iter().map(|entry| {
            vec![
                entry.seq.to_string(),
                entry.at.to_string(),
                entry.who.clone(),
                entry.action.clone(),
                entry.subject.clone(),
                entry.result.clone(),
                entry.detail.clone(),
            ]
        });
        let mut text = table(&["SEQ", "AT", "WHO", "ACTION", "SUBJECT", "RESULT", "DETAIL"], rows, "no audit lines");
        if let Some(next) = self.next {
            text += &format!("there are more: --after {next}\n");
        }
        text
    }
}
