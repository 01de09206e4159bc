//! `status`.

use crate::failure::Failure;
use crate::output::{Output, Report, fields};
use crate::units;
use sluice_api::admin::Status;
use sluice_api_client::AdminClient;
use sluice_model::Timestamp;

/// Show the repository at a glance.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sluice -o json status | jq .lease_until")]
pub struct Show {}

impl Show {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        output.report(&client.status().await?)
    }
}

impl Report for Status {
    fn text(&self, now: Timestamp) -> String {
        let lease = match self.lease_until > now {
            true => format!("ends {} ({})", units::relative(self.lease_until, now), self.lease_until),
            false => {
                format!("EXPIRED {} ({}): nothing is served", units::relative(self.lease_until, now), self.lease_until)
            }
        };
        fields([
            ("repository", format!("{} (profile {}, server {})", self.repository, self.profile, self.version)),
            ("root sha256", self.root_sha256.to_string()),
            (
                "timestamp",
                format!("version {}, issued {}", self.timestamp_version, units::relative(self.issued_at, now)),
            ),
            ("lease", lease),
            ("patches", self.patches.to_string()),
            ("retractions", self.retractions.to_string()),
            ("sites", self.sites.to_string()),
            ("nodes", format!("{} ({} connected)", self.nodes, self.nodes_connected)),
            ("endpoints", self.endpoints.to_string()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use sluice_model::Sha256;

    #[test]
    fn an_expired_lease_cannot_be_overlooked() {
        let mut status = Status {
            repository: "acme".into(),
            profile: "dev".into(),
            version: "0.1.0".into(),
            timestamp_version: 17,
            issued_at: Timestamp::from_millis(1_000_000),
            lease_until: Timestamp::from_millis(87_400_000),
            patches: 2,
            retractions: 1,
            sites: 2,
            nodes: 5,
            nodes_connected: 4,
            endpoints: 5,
            root_sha256: Sha256::from_bytes([7; 32]),
        };
        expect![[r#"
            repository   acme (profile dev, server 0.1.0)
            root sha256  0707070707070707070707070707070707070707070707070707070707070707
            timestamp    version 17, issued 20 s ago
            lease        ends in 23 h (1970-01-02T00:16:40.000Z)
            patches      2
            retractions  1
            sites        2
            nodes        5 (4 connected)
            endpoints    5
        "#]]
        .assert_eq(&status.text(Timestamp::from_millis(1_020_000)));
        status.lease_until = Timestamp::from_millis(1_010_000);
        let text = status.text(Timestamp::from_millis(1_020_000));
        assert!(text.contains("EXPIRED 10 s ago"), "{text}");
    }
}
