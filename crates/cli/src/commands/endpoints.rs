//! `endpoints`, and how a person may name one.

use crate::failure::{Failure, one_line};
use crate::output::{Output, Report, table};
use crate::units;
use sluice_api::admin::{Endpoint, EndpointQuarantine, Endpoints};
use sluice_api_client::AdminClient;
use sluice_model::{EndpointId, Timestamp};

const AFTER_HELP: &str = "\
REPORTS counts outcome reports without a gap; those that wait for an earlier one stand behind it.
Endpoints in quarantine, and what to do about them, follow the table.

Examples:
  sluice endpoints
  sluice -o json endpoints | jq '.endpoints[] | select(.state == \"quarantined\")'";

/// List endpoints.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct List {}

impl List {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        output.report(&client.endpoints().await?)
    }
}

impl Report for Endpoints {
    fn text(&self, now: Timestamp) -> String {
        let rows = self.endpoints.iter().map(|endpoint| {
            vec![
                endpoint.name.clone(),
                endpoint.site.to_string(),
                endpoint.ring.to_string(),
                endpoint.state.clone(),
                units::relative(endpoint.enrolled_at, now),
                last_report(endpoint, now),
                reports(endpoint),
                endpoint.id.to_string(),
            ]
        });
        let heading = ["ENDPOINT", "SITE", "RING", "STATE", "ENROLLED", "LAST REPORT", "REPORTS", "ID"];
        let mut text = table(
            &heading,
            rows,
            "no endpoints; make a token with `sluice token new --kind endpoint --site SITE --ring RING`",
        );
        for endpoint in &self.endpoints {
            if let Some(quarantine) = &endpoint.quarantine {
                text += &quarantined(&endpoint.name, quarantine, now);
            }
        }
        text
    }
}

/// Silence is told where it counts: nothing is known of an active endpoint that says nothing.
fn last_report(endpoint: &Endpoint, now: Timestamp) -> String {
    let when = units::relative_or_never(endpoint.last_report_at, now);
    let is_told = endpoint.is_silent && endpoint.state == "active" && endpoint.last_report_at.is_some();
    if is_told { format!("{when}, silent") } else { when }
}

fn reports(endpoint: &Endpoint) -> String {
    match endpoint.waiting_reports {
        0 => endpoint.reports.to_string(),
        waiting => format!("{}, {waiting} waiting for {}", endpoint.reports, endpoint.reports + 1),
    }
}

/// Two lines about an endpoint in quarantine: what was found, and what to do.
pub fn quarantined(name: &str, quarantine: &EndpointQuarantine, now: Timestamp) -> String {
    let (name, reason, remedy) = (one_line(name), one_line(&quarantine.reason), one_line(&quarantine.remedy));
    let since = units::relative(quarantine.since, now);
    format!(
        "{name} is in quarantine since {since}: {reason}; nothing from report {} on counts\n  to end it: {remedy}\n",
        quarantine.seq
    )
}

/// The endpoint that a person means: its id, the beginning of it (4 characters or more), or its name.
pub async fn resolve(client: &AdminClient, text: &str) -> Result<EndpointId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    choose(&client.endpoints().await?.endpoints, text)
}

fn choose(endpoints: &[Endpoint], text: &str) -> Result<EndpointId, Failure> {
    let is_meant = |endpoint: &&Endpoint| {
        endpoint.name == text || (text.len() >= 4 && endpoint.id.to_hex().starts_with(&text.to_ascii_lowercase()))
    };
    let found: Vec<&Endpoint> = endpoints.iter().filter(is_meant).collect();
    match found.as_slice() {
        [one] => Ok(one.id),
        [] => Err(Failure::Usage(format!("no endpoint is called {text:?}; `sluice endpoints` lists them"))),
        several => {
            let ids = units::list(several.iter().map(|endpoint| endpoint.id));
            Err(Failure::Usage(format!("{text:?} may be {ids}: write more of the id")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn an_endpoint_is_meant_by_id_beginning_or_name_but_never_by_a_guess() {
        let endpoint = |name: &str, byte| Endpoint {
            id: EndpointId::from_bytes([byte; 32]),
            name: name.into(),
            site: "lyon".parse().unwrap(),
            ring: "pilot".parse().unwrap(),
            state: "active".into(),
            enrolled_at: Timestamp::default(),
            last_report_at: None,
            is_silent: true,
            epoch: 1,
            reports: 0,
            waiting_reports: 0,
            quarantine: None,
        };
        let all = [endpoint("desk", 0xab), endpoint("desk", 0xcd), endpoint("till", 0xef)];
        assert_eq!(choose(&all, "till").unwrap(), all[2].id);
        assert_eq!(choose(&all, "ABAB").unwrap(), all[0].id);
        for text in ["desk", "aba", "none"] {
            assert!(choose(&all, text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_quarantine_is_shown_with_what_ends_it_and_silence_and_gaps_in_their_columns() {
        let endpoint = |name: &str, byte, state: &str| Endpoint {
            id: EndpointId::from_bytes([byte; 32]),
            name: name.into(),
            site: "lyon".parse().unwrap(),
            ring: "pilot".parse().unwrap(),
            state: state.into(),
            enrolled_at: Timestamp::from_millis(0),
            last_report_at: Some(Timestamp::from_millis(1_000)),
            is_silent: true,
            epoch: 1,
            reports: 17,
            waiting_reports: 0,
            quarantine: None,
        };
        let mut endpoints =
            Endpoints { endpoints: vec![endpoint("desk", 0xab, "active"), endpoint("till", 0xcd, "quarantined")] };
        endpoints.endpoints[0].waiting_reports = 3;
        endpoints.endpoints[1].quarantine = Some(EndpointQuarantine {
            kind: "cloned".into(),
            reason: "two different reports have number 9: the device's key is used twice".into(),
            seq: 9,
            since: Timestamp::from_millis(2_000),
            remedy: "enrol each machine anew".into(),
        });
        let text = endpoints
            .text(Timestamp::from_millis(62_000))
            .replace(&"ab".repeat(32), "ID1")
            .replace(&"cd".repeat(32), "ID2");
        expect![[r#"
            ENDPOINT  SITE  RING   STATE        ENROLLED  LAST REPORT       REPORTS               ID
            desk      lyon  pilot  active       62 s ago  61 s ago, silent  17, 3 waiting for 18  ID1
            till      lyon  pilot  quarantined  62 s ago  61 s ago          17                    ID2
            till is in quarantine since 60 s ago: two different reports have number 9: the device's key is used twice; nothing from report 9 on counts
              to end it: enrol each machine anew
        "#]]
        .assert_eq(&text);
    }
}
