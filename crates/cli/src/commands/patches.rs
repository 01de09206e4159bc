//! `patches`: the list, or one patch with its files and approvals.

use crate::failure::Failure;
use crate::output::{Output, Report, fields, table};
use crate::units;
use sluice_api::admin::{Patch, Patches};
use sluice_api_client::AdminClient;
use sluice_model::{PatchRef, Timestamp};

/// List patches, or show one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice patches\n  sluice patches openssl/3.0.22-1")]
pub struct List {
    /// Show this one with its files.
    #[arg(value_name = "NAME/VERSION")]
    patch: Option<PatchRef>,
}

impl List {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        match self.patch {
            Some(patch) => output.report(&client.patch(&patch).await?),
            None => output.report(&client.patches().await?),
        }
    }
}

impl Report for Patches {
    fn text(&self, now: Timestamp) -> String {
        let heading = ["PATCH", "STATE", "SEVERITY", "RINGS", "FILES", "SIZE", "PUBLISHED", "BY", "CVES"];
        let rows = self.patches.iter().map(|patch| {
            vec![
                format!("{}/{}", patch.name, patch.version),
                patch.state.clone(),
                patch.severity.to_string(),
                units::list(patch.approvals.iter().map(|approval| &approval.ring)),
                patch.artifacts.len().to_string(),
                units::bytes(patch.artifacts.iter().map(|artifact| artifact.length).sum()),
                units::relative(patch.published_at, now),
                patch.published_by.to_string(),
                units::list(&patch.cves),
            ]
        });
        table(&heading, rows, "no patches; publish one with `sluice publish FILE...`")
    }
}

impl Report for Patch {
    fn text(&self, now: Timestamp) -> String {
        let approvals = self
            .approvals
            .iter()
            .map(|approval| format!("{} (by {}, {})", approval.ring, approval.by, units::relative(approval.at, now)));
        let mut text = fields([
            ("patch", format!("{}/{}", self.name, self.version)),
            ("state", self.state.clone()),
            ("severity", self.severity.to_string()),
            ("cves", units::list(&self.cves)),
            ("supersedes", units::list(&self.supersedes)),
            ("published", format!("{} by {}", units::relative(self.published_at, now), self.published_by)),
            ("approved", units::list(approvals)),
            ("retraction", units::or_dash(self.retraction)),
        ]);
        let rows = self.artifacts.iter().map(|artifact| {
            vec![
                artifact.file_name.clone(),
                artifact.package.clone(),
                artifact.package_version.clone(),
                artifact.architecture.clone(),
                units::bytes(artifact.length),
                artifact.chunks.to_string(),
                artifact.sha256.to_string(),
            ]
        });
        text.push('\n');
        text += &table(&["FILE", "PACKAGE", "VERSION", "ARCH", "SIZE", "CHUNKS", "SHA256"], rows, "no files");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use sluice_api::admin::{Artifact, RingApproval};
    use sluice_model::{ArtifactId, Severity, Sha256};

    #[test]
    fn a_patch_shows_its_rings_and_files() {
        let patch = Patch {
            name: "openssl".parse().unwrap(),
            version: "3.0.22-1".parse().unwrap(),
            state: "released".into(),
            severity: Severity::Critical,
            cves: vec!["CVE-2026-12345".parse().unwrap()],
            supersedes: vec![],
            published_by: "alice".parse().unwrap(),
            published_at: Timestamp::from_millis(0),
            artifacts: vec![Artifact {
                file_name: "openssl.deb".into(),
                length: 17_000_000,
                sha256: Sha256::from_bytes([1; 32]),
                blake3: ArtifactId::from_bytes([2; 32]),
                chunks: 17,
                package: "openssl".into(),
                package_version: "3.0.22-1".into(),
                architecture: "amd64".into(),
            }],
            proposed_into: Vec::new(),
            approvals: vec![RingApproval {
                ring: "pilot".parse().unwrap(),
                by: "bob".parse().unwrap(),
                at: Timestamp::from_millis(30_000),
                release_version: 2,
            }],
            retraction: None,
        };
        let now = Timestamp::from_millis(60_000);
        expect![[r#"
            patch       openssl/3.0.22-1
            state       released
            severity    critical
            cves        CVE-2026-12345
            supersedes  -
            published   60 s ago by alice
            approved    pilot (by bob, 30 s ago)
            retraction  -

            FILE         PACKAGE  VERSION   ARCH   SIZE     CHUNKS  SHA256
            openssl.deb  openssl  3.0.22-1  amd64  17.0 MB  17      0101010101010101010101010101010101010101010101010101010101010101
        "#]]
        .assert_eq(&patch.text(now));
        expect![[r#"
            PATCH             STATE     SEVERITY  RINGS  FILES  SIZE     PUBLISHED  BY     CVES
            openssl/3.0.22-1  released  critical  pilot  1      17.0 MB  60 s ago   alice  CVE-2026-12345
        "#]]
        .assert_eq(&Patches { patches: vec![patch] }.text(now));
    }
}
