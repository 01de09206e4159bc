//! `nodes`.

use crate::failure::{Failure, one_line};
use crate::output::{Output, Report, table};
use crate::units;
use sluice_api::admin::{Node, Nodes};
use sluice_api_client::AdminClient;
use sluice_model::Timestamp;

const AFTER_HELP: &str = "\
Counters begin at a node's start. Peers that a node banned, a node's troubles, and nodes that
endpoints caught withholding their reports follow the table.

Examples:
  sluice nodes
  sluice -o json nodes | jq '.nodes[] | {name, origin_bytes, peer_bytes}'";

/// List nodes with what they carried.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct List {}

impl List {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        output.report(&client.nodes().await?)
    }
}

impl Report for Nodes {
    fn text(&self, now: Timestamp) -> String {
        let heading = [
            "NODE",
            "SITE",
            "KEY",
            "LINK",
            "LAST WORD",
            "FROM ORIGIN",
            "FROM PEERS",
            "TO PEERS",
            "SERVED",
            "CHUNKS LED",
            "CORRUPT",
            "STORED",
            "SPOOLED",
            "FENCED",
            "METADATA",
        ];
        let rows = self.nodes.iter().map(|node| row(node, now));
        let mut text = table(&heading, rows, "no nodes; make a token with `sluice token new --kind node --site SITE`");
        for node in &self.nodes {
            if let Some(trouble) = &node.trouble {
                text += &format!("{}: {}\n", one_line(&node.name), one_line(trouble));
            }
            for word in &node.withheld {
                let (node, endpoint) = (one_line(&node.name), one_line(&word.endpoint_name));
                let (reports, when) = (word.reports, units::relative(word.at, now));
                let noun = if reports == 1 { "report" } else { "reports" };
                text += &format!(
                    "{node} took {reports} {noun} of {endpoint} and let none through, says {endpoint} {when}; it went round it\n"
                );
            }
            for ban in &node.banned {
                let peer = self.nodes.iter().find(|other| other.key == ban.peer);
                let peer = peer.map_or_else(|| ban.peer.short(), |peer| one_line(&peer.name));
                let when = units::relative(ban.at, now);
                text += &format!("{} banned {peer} {when}: {}\n", one_line(&node.name), one_line(&ban.reason));
            }
        }
        text
    }
}

fn row(node: &Node, now: Timestamp) -> Vec<String> {
    vec![
        node.name.clone(),
        node.site.to_string(),
        node.key.short(),
        node.link.clone(),
        units::relative_or_never(node.last_status_at, now),
        units::bytes(node.origin_bytes),
        units::bytes(node.peer_bytes),
        units::bytes(node.peer_served_bytes),
        units::bytes(node.served_bytes),
        node.chunks_led.to_string(),
        node.corrupt_chunks.to_string(),
        units::bytes(node.stored_bytes),
        node.spooled_reports.to_string(),
        node.fenced_serial.to_string(),
        node.timestamp_version.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use sluice_api::admin::WithheldReports;
    use sluice_api::device::BannedPeer;
    use sluice_model::{EndpointId, MemberAddresses, MemberKey};

    fn node(name: &str, byte: u8) -> Node {
        Node {
            key: MemberKey::from_bytes([byte; 32]),
            name: name.into(),
            site: "lyon".parse().unwrap(),
            link: "connected".into(),
            last_status_at: Some(Timestamp::from_millis(55_000)),
            addresses: MemberAddresses::default(),
            version: "0.1.0".into(),
            timestamp_version: 17,
            fenced_serial: 1,
            origin_bytes: 17_000_000,
            peer_bytes: 16_000_000,
            peer_served_bytes: 0,
            served_bytes: 34_000_000,
            metadata_bytes: 9_000,
            chunks_led: 17,
            corrupt_chunks: 0,
            stored_bytes: 34_000_000,
            spooled_reports: 0,
            banned: vec![],
            trouble: None,
            withheld: vec![],
        }
    }

    #[test]
    fn a_node_that_withholds_reports_is_named_with_who_says_so() {
        let mut nodes = Nodes { nodes: vec![node("lyon-1", 1)] };
        nodes.nodes[0].withheld.push(WithheldReports {
            endpoint: EndpointId::from_bytes([3; 32]),
            endpoint_name: "desk".into(),
            reports: 4,
            at: Timestamp::from_millis(50_000),
        });
        let text = nodes.text(Timestamp::from_millis(60_000));
        let last = text.lines().last().unwrap();
        assert_eq!(last, "lyon-1 took 4 reports of desk and let none through, says desk 10 s ago; it went round it");
    }

    #[test]
    fn bans_are_named_and_follow_the_table() {
        let mut nodes = Nodes { nodes: vec![node("lyon-1", 1), node("lyon-2", 2)] };
        nodes.nodes[0].last_status_at = None;
        nodes.nodes[0].banned.push(BannedPeer {
            peer: MemberKey::from_bytes([2; 32]),
            at: Timestamp::from_millis(50_000),
            reason: "wrong bytes in chunk 3 of 0a0b0c0d".into(),
        });
        expect![[r#"
            NODE    SITE  KEY       LINK       LAST WORD  FROM ORIGIN  FROM PEERS  TO PEERS  SERVED   CHUNKS LED  CORRUPT  STORED   SPOOLED  FENCED  METADATA
            lyon-1  lyon  01010101  connected  never      17.0 MB      16.0 MB     0 B       34.0 MB  17          0        34.0 MB  0        1       17
            lyon-2  lyon  02020202  connected  5 s ago    17.0 MB      16.0 MB     0 B       34.0 MB  17          0        34.0 MB  0        1       17
            lyon-1 banned lyon-2 10 s ago: wrong bytes in chunk 3 of 0a0b0c0d
        "#]]
        .assert_eq(&nodes.text(Timestamp::from_millis(60_000)));
    }
}
