//! `retractions show`.

use crate::failure::Failure;
use crate::output::{Output, Report, fields, table};
use crate::units;
use clap::Subcommand;
use sluice_api::admin::{Retraction, Retractions as Answer};
use sluice_api_client::AdminClient;
use sluice_model::Timestamp;

/// Show retractions and how far they have come.
#[derive(Debug, clap::Args)]
pub struct Retractions {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List retractions, or show one: nodes that fenced it, endpoints that still have it.
    #[command(after_help = "Examples:\n  sluice retractions show\n  sluice retractions show 3")]
    Show {
        /// Serial of one retraction.
        serial: Option<u64>,
    },
}

impl Retractions {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        match self.command {
            Command::Show { serial: Some(serial) } => output.report(&client.retraction(serial).await?),
            Command::Show { serial: None } => output.report(&client.retractions().await?),
        }
    }
}

impl Report for Answer {
    fn text(&self, now: Timestamp) -> String {
        let heading = ["SERIAL", "PATCH", "WHEN", "BY", "NODES FENCED", "STILL INSTALLED", "ROLLED BACK", "REASON"];
        let rows = self.retractions.iter().map(|retraction| {
            vec![
                retraction.serial.to_string(),
                retraction.patch.to_string(),
                units::relative(retraction.at, now),
                retraction.by.to_string(),
                fenced(retraction),
                retraction.endpoints_installed.len().to_string(),
                retraction.endpoints_rolled_back.len().to_string(),
                retraction.reason.clone(),
            ]
        });
        table(&heading, rows, "nothing was retracted")
    }
}

fn fenced(retraction: &Retraction) -> String {
    format!("{} of {}", retraction.nodes.fenced, retraction.nodes.total)
}

impl Report for Retraction {
    fn text(&self, now: Timestamp) -> String {
        let nodes = &self.nodes;
        let waiting = match self.nodes_waiting.is_empty() {
            true => "none".to_owned(),
            false => format!(
                "{} ({} connected, {} offline, {} with an expired lease, {} never seen)",
                units::list(self.nodes_waiting.iter().map(|key| key.short())),
                nodes.connected,
                nodes.offline,
                nodes.expired,
                nodes.never_seen,
            ),
        };
        let blocked = match nodes.connected + nodes.offline {
            0 => "blocked everywhere".to_owned(),
            _ => format!("{} ({})", self.blocked_at_the_latest, units::relative(self.blocked_at_the_latest, now)),
        };
        let last = self.nodes_fenced.iter().map(|node| node.at).max();
        let fenced = match last {
            Some(last) => format!("{}, the last after {}", fenced(self), units::duration(last.since(self.at))),
            None => fenced(self),
        };
        fields([
            ("serial", self.serial.to_string()),
            ("patch", self.patch.to_string()),
            ("reason", self.reason.clone()),
            ("by", format!("{}, {} ({})", self.by, units::relative(self.at, now), self.at)),
            ("sha256", units::list(&self.sha256)),
            ("nodes fenced", fenced),
            ("nodes waiting", waiting),
            ("blocked at the latest", blocked),
            ("still installed", units::list(self.endpoints_installed.iter().map(|id| id.short()))),
            ("rolled back", units::list(self.endpoints_rolled_back.iter().map(|id| id.short()))),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use sluice_api::admin::{FencedNode, RetractionNodes};
    use sluice_model::{EndpointId, MemberKey, Sha256};

    #[test]
    fn a_retraction_says_who_is_fenced_who_waits_and_until_when() {
        let at = Timestamp::from_millis(1_000_000);
        let retraction = Retraction {
            serial: 1,
            patch: "openssl/3.0.22-1".parse().unwrap(),
            reason: "crashes at boot".into(),
            by: "rita".parse().unwrap(),
            at,
            sha256: vec![Sha256::from_bytes([1; 32])],
            nodes_fenced: vec![FencedNode {
                node: MemberKey::from_bytes([2; 32]),
                name: "lyon-1".into(),
                at: Timestamp::from_millis(1_000_640),
            }],
            nodes_waiting: vec![MemberKey::from_bytes([3; 32])],
            nodes: RetractionNodes { fenced: 1, offline: 1, total: 2, ..RetractionNodes::default() },
            blocked_at_the_latest: Timestamp::from_millis(8_200_000),
            endpoints_installed: vec![],
            endpoints_rolled_back: vec![EndpointId::from_bytes([4; 32])],
        };
        let now = Timestamp::from_millis(1_010_000);
        expect![[r#"
            serial                 1
            patch                  openssl/3.0.22-1
            reason                 crashes at boot
            by                     rita, 10 s ago (1970-01-01T00:16:40.000Z)
            sha256                 0101010101010101010101010101010101010101010101010101010101010101
            nodes fenced           1 of 2, the last after 640 ms
            nodes waiting          03030303 (0 connected, 1 offline, 0 with an expired lease, 0 never seen)
            blocked at the latest  1970-01-01T02:16:40.000Z (in 119 min)
            still installed        -
            rolled back            04040404
        "#]]
        .assert_eq(&retraction.text(now));
        expect![[r#"
            SERIAL  PATCH             WHEN      BY    NODES FENCED  STILL INSTALLED  ROLLED BACK  REASON
            1       openssl/3.0.22-1  10 s ago  rita  1 of 2        0                1            crashes at boot
        "#]]
        .assert_eq(&Answer { retractions: vec![retraction] }.text(now));
    }
}
