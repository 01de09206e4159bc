//! `compliance`.

use crate::commands::outcomes::change;
use crate::failure::Failure;
use crate::output::{Output, Report, table};
use crate::units;
use clap::ValueEnum;
use sluice_api::admin::{ComplianceByEndpoint, ComplianceByPatch, ComplianceBySite, ComplianceCounts};
use sluice_api_client::{AdminClient, ComplianceBy};
use sluice_model::Timestamp;

const AFTER_HELP: &str = "\
`unknown` counts endpoints without a fresh word; nothing is assumed of them. Only `installed` is
proven.

Examples:
  sluice compliance patches
  sluice compliance sites
  sluice compliance endpoints --csv > endpoints.csv";

/// Show who has what, by patch, site or endpoint.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Show {
    /// A row for each.
    #[arg(value_enum)]
    by: By,
    /// Print CSV with a heading, whatever --output says.
    #[arg(long)]
    csv: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    #[value(alias = "patch")]
    Patches,
    #[value(alias = "site")]
    Sites,
    #[value(alias = "endpoint")]
    Endpoints,
}

impl Show {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        if self.csv {
            let by = match self.by {
                By::Patches => ComplianceBy::Patch,
                By::Sites => ComplianceBy::Site,
                By::Endpoints => ComplianceBy::Endpoint,
            };
            return output.raw(&client.compliance_csv(by).await?);
        }
        match self.by {
            By::Patches => output.report(&client.compliance_by_patch().await?),
            By::Sites => output.report(&client.compliance_by_site().await?),
            By::Endpoints => output.report(&client.compliance_by_endpoint().await?),
        }
    }
}

const COUNTS: [&str; 7] = ["ENDPOINTS", "INSTALLED", "MISSING", "FAILED", "INST. RETRACTED", "ROLLED BACK", "UNKNOWN"];

/// A count with its share of the row, for instance `3 (60 %)`.
fn counts(counts: &ComplianceCounts) -> impl Iterator<Item = String> {
    let whole = counts.endpoints;
    let share = move |count: u64| match (count * 100).checked_div(whole) {
        Some(percent) if count > 0 => format!("{count} ({percent} %)"),
        _ => count.to_string(),
    };
    let parts = [
        counts.installed,
        counts.missing,
        counts.failed,
        counts.installed_retracted,
        counts.rolled_back,
        counts.unknown,
    ];
    std::iter::once(whole.to_string()).chain(parts.into_iter().map(share))
}

fn with_age(table: String, as_of: Timestamp, now: Timestamp) -> String {
    format!("{table}as of {}\n", units::relative(as_of, now))
}

impl Report for ComplianceByPatch {
    fn text(&self, now: Timestamp) -> String {
        let rows = self.rows.iter().map(|row| {
            let name = [row.patch.to_string(), row.ring.to_string(), row.severity.to_string(), row.state.clone()];
            name.into_iter().chain(counts(&row.counts)).collect()
        });
        let heading: Vec<&str> = ["PATCH", "RING", "SEVERITY", "STATE"].into_iter().chain(COUNTS).collect();
        with_age(table(&heading, rows, "no patch is approved"), self.as_of, now)
    }
}

impl Report for ComplianceBySite {
    fn text(&self, now: Timestamp) -> String {
        let rows = self.rows.iter().map(|row| {
            let name = std::iter::once(row.site.to_string());
            name.chain(counts(&row.counts)).collect()
        });
        let mut heading: Vec<&str> = std::iter::once("SITE").chain(COUNTS).collect();
        // A row counts pairs of an endpoint and a patch that it is offered.
        heading[1] = "PAIRS";
        with_age(table(&heading, rows, "no sites"), self.as_of, now)
    }
}

impl Report for ComplianceByEndpoint {
    fn text(&self, now: Timestamp) -> String {
        let heading = ["ENDPOINT", "SITE", "RING", "PATCH", "STATE", "CHANGE", "BYTES FROM", "TOOK", "WHEN"];
        let rows = self.rows.iter().map(|row| {
            let state = match &row.class {
                Some(class) => format!("{} ({class})", row.state),
                None => row.state.clone(),
            };
            vec![
                row.name.clone(),
                row.site.to_string(),
                row.ring.to_string(),
                row.patch.to_string(),
                state,
                change(&row.before, &row.after),
                units::list(row.sources.iter().map(|s| format!("{} {}", s.node.short(), units::bytes(s.bytes)))),
                units::duration(std::time::Duration::from_millis(row.duration_ms)),
                units::relative_or_never(row.at, now),
            ]
        });
        with_age(table(&heading, rows, "no endpoint is offered a patch"), self.as_of, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use sluice_api::admin::PatchCompliance;
    use sluice_model::Severity;

    #[test]
    fn shares_are_of_all_endpoints_and_the_unknown_ones_stand_beside() {
        let counts = ComplianceCounts { endpoints: 5, installed: 3, failed: 1, unknown: 1, ..Default::default() };
        let row = PatchCompliance {
            patch: "openssl/3.0.22-1".parse().unwrap(),
            ring: "production".parse().unwrap(),
            severity: Severity::Critical,
            state: "released".into(),
            counts,
        };
        let answer = ComplianceByPatch { as_of: Timestamp::from_millis(1_000), rows: vec![row] };
        expect![[r#"
            PATCH             RING        SEVERITY  STATE     ENDPOINTS  INSTALLED  MISSING  FAILED    INST. RETRACTED  ROLLED BACK  UNKNOWN
            openssl/3.0.22-1  production  critical  released  5          3 (60 %)   0        1 (20 %)  0                0            1 (20 %)
            as of 2 s ago
        "#]]
        .assert_eq(&answer.text(Timestamp::from_millis(3_000)));
    }
}
