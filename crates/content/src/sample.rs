//! A released artifact for tests.

use crate::{ChunkerParams, Cutter};
use sluice_model::{ArtifactKind, ArtifactSet, DebFields, PatchTarget, ReleasedArtifact, Severity, Timestamp};

/// 2026-11-21T20:37:45Z and a bit.
pub const APPROVED_AT: Timestamp = Timestamp::from_millis(1_795_293_465_678);

/// `bytes` as a package in production.
pub fn released(bytes: &[u8]) -> ReleasedArtifact {
    let mut cutter = Cutter::new(ChunkerParams::SMALL);
    cutter.push(bytes);
    let cut = cutter.finish();
    ReleasedArtifact {
        target: "patches/production/demo_1.0-1_all.deb".parse().unwrap(),
        ring: "production".parse().unwrap(),
        length: cut.length,
        sha256: cut.sha256,
        custom: PatchTarget {
            schema: 1,
            patch: "demo".parse().unwrap(),
            patch_version: "1.0-1".parse().unwrap(),
            blake3: cut.artifact,
            sha512: cut.sha512,
            manifest: cut.manifest.reference(),
            artifact: ArtifactKind::Deb(DebFields {
                package: "demo".parse().unwrap(),
                version: "1.0-1".into(),
                architecture: "all".into(),
            }),
            set: ArtifactSet { index: 0, count: 1 },
            severity: Severity::High,
            cves: Vec::new(),
            supersedes: Vec::new(),
            approved_serial: 1,
            approved_at: APPROVED_AT,
        },
    }
}
