//! `outcomes`: pages are joined up to `--limit`.

use crate::commands::endpoints;
use crate::failure::Failure;
use crate::output::{Output, Report, table};
use crate::units;
use sluice_api::admin::{Outcome, Outcomes, PackageState};
use sluice_api_client::{AdminClient, OutcomeQuery};
use sluice_model::{PatchRef, SiteName, Timestamp};

const AFTER_HELP: &str = "\
Oldest first. Reports of an endpoint in quarantine are listed up to the one that is in doubt; why, and what to do,
follows the table. When there are more than --limit, the JSON form has `next`, to be given as --after.

Examples:
  sluice outcomes --patch openssl/3.0.22-1
  sluice outcomes --endpoint lyon-desk-17 --limit 20";

/// List what endpoints reported.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct List {
    /// Of one endpoint: its id, the beginning of it, or its name.
    #[arg(long)]
    endpoint: Option<String>,
    /// Of one patch.
    #[arg(long, value_name = "NAME/VERSION")]
    patch: Option<PatchRef>,
    /// Of one site.
    #[arg(long)]
    site: Option<SiteName>,
    /// After this position.
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// At most so many.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
}

impl List {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let endpoint = match &self.endpoint {
            Some(text) => Some(endpoints::resolve(client, text).await?),
            None => None,
        };
        let mut query = OutcomeQuery { endpoint, patch: self.patch, site: self.site, after: self.after, limit: None };
        let mut all = Outcomes { outcomes: Vec::new(), next: None, quarantined: Vec::new() };
        loop {
            let left = self.limit.saturating_sub(all.outcomes.len() as u64);
            query.limit = Some(left);
            let page = client.outcomes(&query).await?;
            let is_empty = page.outcomes.is_empty();
            all.outcomes.extend(page.outcomes);
            all.quarantined.extend(page.quarantined);
            all.next = page.next;
            // A page without rows that promises more would go on for ever.
            if page.next.is_none() || is_empty || all.outcomes.len() as u64 >= self.limit {
                break;
            }
            query.after = page.next;
        }
        output.report(&all)
    }
}

impl Report for Outcomes {
    fn text(&self, now: Timestamp) -> String {
        let rows = self.outcomes.iter().map(|outcome| {
            vec![
                units::relative(outcome.received_at, now),
                outcome.endpoint_name.clone(),
                outcome.site.to_string(),
                outcome.ring.to_string(),
                units::or_dash(outcome.patch.as_ref()),
                verdict(outcome),
                change(&outcome.before, &outcome.after),
                units::list(outcome.sources.iter().map(|s| format!("{} {}", s.node.short(), units::bytes(s.bytes)))),
                units::duration(std::time::Duration::from_millis(outcome.duration_ms)),
                outcome.detail.lines().next().unwrap_or_default().to_owned(),
            ]
        });
        let heading =
            ["RECEIVED", "ENDPOINT", "SITE", "RING", "PATCH", "OUTCOME", "CHANGE", "BYTES FROM", "TOOK", "DETAIL"];
        let mut text = table(&heading, rows, "no outcomes");
        for one in &self.quarantined {
            text += &endpoints::quarantined(&one.endpoint_name, &one.quarantine, now);
        }
        if let Some(next) = self.next {
            text += &format!("there are more: --after {next}\n");
        }
        text
    }
}

fn verdict(outcome: &Outcome) -> String {
    match &outcome.class {
        Some(class) => format!("{} ({class})", outcome.outcome),
        None => outcome.outcome.clone(),
    }
}

/// `openssl 3.0.20-1 -> 3.0.22-1`, for each package.
pub fn change(before: &[PackageState], after: &[PackageState]) -> String {
    let version = |states: &[PackageState], package: &str| {
        let state = states.iter().find(|state| state.package == package);
        state.and_then(|state| state.version.clone()).unwrap_or_else(|| "none".to_owned())
    };
    units::list(after.iter().map(|state| {
        let (was, is) = (version(before, &state.package), version(after, &state.package));
        if was == is { format!("{} {is}", state.package) } else { format!("{} {was} -> {is}", state.package) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use sluice_api::admin::Source;
    use sluice_model::{EndpointId, MemberKey};

    #[test]
    fn a_failure_shows_its_class_and_the_first_line_of_the_package_manager() {
        let state =
            |version: Option<&str>| PackageState { package: "openssl".into(), version: version.map(str::to_owned) };
        let outcome = Outcome {
            position: 7,
            endpoint: EndpointId::from_bytes([1; 32]),
            endpoint_name: "brno-bare".into(),
            site: "brno".parse().unwrap(),
            ring: "production".parse().unwrap(),
            epoch: 1,
            seq: 3,
            patch: Some("openssl/3.0.22-1".parse().unwrap()),
            outcome: "failed".into(),
            class: Some("dependency".into()),
            detail: "openssl depends on libssl3\n and more".into(),
            before: vec![state(Some("3.0.20-1"))],
            after: vec![state(Some("3.0.20-1"))],
            sources: vec![Source { node: MemberKey::from_bytes([2; 32]), bytes: 17_000_000 }],
            duration_ms: 1_400,
            device_time: Timestamp::default(),
            received_at: Timestamp::default(),
        };
        expect![[r#"
            RECEIVED  ENDPOINT   SITE  RING        PATCH             OUTCOME              CHANGE            BYTES FROM        TOOK  DETAIL
            9 s ago   brno-bare  brno  production  openssl/3.0.22-1  failed (dependency)  openssl 3.0.20-1  02020202 17.0 MB  1 s   openssl depends on libssl3
            there are more: --after 7
        "#]]
        .assert_eq(&Outcomes { outcomes: vec![outcome], next: Some(7), quarantined: Vec::new() }.text(Timestamp::from_millis(9_000)));
        assert_eq!(change(&[state(None)], &[state(Some("2"))]), "openssl none -> 2");
        assert_eq!(change(&[], &[]), "-");
    }
}
