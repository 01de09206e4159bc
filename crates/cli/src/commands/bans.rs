//! `bans list`, `bans lift`.

use crate::failure::{Failure, one_line};
use crate::output::{Output, Report, table};
use crate::units;
use clap::Subcommand;
use serde::Serialize;
use sluice_api::bans::{BanList, BanRow, NewLift};
use sluice_api_client::AdminClient;
use sluice_model::{MemberKey, Timestamp};

/// Members whose bytes nobody takes: each signed bytes that were wrong.
#[derive(Debug, clap::Args)]
pub struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List bans, those in force first, and nodes whose accusations were false.
    #[command(after_help = "Example:\n  sluice -o json bans list | jq '.bans[] | {name, artifact, chunk, evidence}'")]
    List,
    /// Lift a ban: every node takes bytes of that member again.
    #[command(after_help = "Example:\n  sluice bans lift 3b6a27bc... --reason 'its memory was replaced'")]
    Lift {
        /// The member's whole key, in hex, from `sluice -o json bans list`.
        key: MemberKey,
        /// Why; it stays beside the ban and in the audit log.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Serialize)]
struct Lifted {
    lifted: MemberKey,
}

impl Report for Lifted {
    fn text(&self, _now: Timestamp) -> String {
        format!("the ban of {} is lifted; the nodes follow within seconds\n", self.lifted)
    }
}

impl Group {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        match self.command {
            Command::List => output.report(&client.bans().await?),
            Command::Lift { key, reason } => {
                client.lift_ban(&key, &NewLift { reason }).await?;
                output.report(&Lifted { lifted: key })
            }
        }
    }
}

impl Report for BanList {
    fn text(&self, now: Timestamp) -> String {
        let heading = ["MEMBER", "KEY", "SITE", "SINCE", "ACCUSED BY", "ARTIFACT", "CHUNK", "LIFTED"];
        let mut text = table(&heading, self.bans.iter().map(|ban| row(ban, now)), "nobody is banned");
        for ban in &self.bans {
            if let Some(lifted) = &ban.lifted {
                text += &format!("{}: lifted by {}: {}\n", one_line(&ban.name), lifted.by, one_line(&lifted.reason));
            }
        }
        for node in &self.false_evidence {
            text += &format!(
                "{} accused falsely {} times, last {}: {}\n",
                one_line(&node.name),
                node.count,
                units::relative(node.last_at, now),
                one_line(&node.last_reason)
            );
        }
        text
    }
}

fn row(ban: &BanRow, now: Timestamp) -> Vec<String> {
    vec![
        one_line(&ban.name),
        ban.key.short(),
        ban.site.as_ref().map_or_else(String::new, ToString::to_string),
        units::relative(ban.since, now),
        one_line(&ban.accuser_name),
        ban.artifact.short(),
        ban.chunk.to_string(),
        ban.lifted.as_ref().map_or_else(|| "no".to_owned(), |lifted| units::relative(lifted.at, now)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use sluice_api::bans::{FalseEvidence, Lift};
    use sluice_model::{ArtifactId, BanEvidence};

    #[test]
    fn bans_name_the_proof_and_false_accusers_follow() {
        let key = |byte| MemberKey::from_bytes([byte; 32]);
        let ban = |byte, lifted| BanRow {
            key: key(byte),
            name: format!("lyon-{byte}"),
            site: Some("lyon".parse().unwrap()),
            since: Timestamp::from_millis(50_000),
            accuser: key(9),
            accuser_name: "lyon-9".into(),
            artifact: ArtifactId::from_bytes([0xab; 32]),
            chunk: 3,
            evidence: BanEvidence { statement: String::new(), signature: String::new() },
            lifted,
        };
        let lift = Lift { at: Timestamp::from_millis(58_000), by: "ada".parse().unwrap(), reason: "new\ndisk".into() };
        let list = BanList {
            bans: vec![ban(1, None), ban(2, Some(lift))],
            false_evidence: vec![FalseEvidence {
                node: key(5),
                name: "lyon-5".into(),
                count: 2,
                last_at: Timestamp::from_millis(59_000),
                last_reason: "the statement vouches for the right bytes".into(),
            }],
        };
        expect![[r#"
            MEMBER  KEY       SITE  SINCE     ACCUSED BY  ARTIFACT  CHUNK  LIFTED
            lyon-1  01010101  lyon  10 s ago  lyon-9      abababab  3      no
            lyon-2  02020202  lyon  10 s ago  lyon-9      abababab  3      2 s ago
            lyon-2: lifted by ada: new disk
            lyon-5 accused falsely 2 times, last 1 s ago: the statement vouches for the right bytes
        "#]]
        .assert_eq(&list.text(Timestamp::from_millis(60_000)));
    }
}
