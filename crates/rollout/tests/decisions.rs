//! What an endpoint does, as scripts: facts in, the line of `explain` out.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixture;

use fixture::{packages, part, row, tombstone};
use sluice_model::{
    PatchName, ReleasedArtifact, Sha256, Suspension, SuspensionScope, SuspensionSubject, Suspensions, Timestamp,
    Tombstone, VersionRange,
};
use sluice_rollout::{
    Attempt, Decision, Facts, Freshness, InForce, Installed, Memory, Offers, RetryPolicy, Tombstones, decide,
};
use std::collections::BTreeMap;
use std::time::Duration;

struct Endpoint {
    rows: Vec<ReleasedArtifact>,
    tombstones: Vec<Tombstone>,
    packages: Vec<(&'static str, &'static str)>,
    memory: BTreeMap<PatchName, Memory>,
    freshness: Freshness,
    suspensions: Suspensions,
    hold: Option<&'static str>,
    now: Timestamp,
}

fn endpoint(rows: Vec<ReleasedArtifact>, installed: &[(&'static str, &'static str)]) -> Endpoint {
    Endpoint {
        rows,
        tombstones: Vec::new(),
        packages: installed.to_vec(),
        memory: BTreeMap::new(),
        freshness: Freshness::Fresh { age: Duration::from_secs(1) },
        suspensions: Suspensions::default(),
        hold: None,
        now: Timestamp::from_millis(1_000_000),
    }
}

impl Endpoint {
    fn decisions(&self) -> Vec<sluice_rollout::PatchDecision> {
        let tombstones = Tombstones::new(&self.tombstones);
        decide(&Facts {
            offers: &Offers::of(&self.rows, &tombstones),
            tombstones: &tombstones,
            packages: &packages(&self.packages),
            architecture: Some("amd64"),
            memory: &self.memory,
            suspensions: &InForce::at(&self.suspensions, &"lyon".parse().unwrap()),
            hold: self.hold,
            freshness: self.freshness,
            retry: RetryPolicy { first: Duration::from_secs(60), most: Duration::from_secs(600) },
            now: self.now,
        })
    }

    fn line(&self) -> String {
        let lines: Vec<String> = self.decisions().iter().map(ToString::to_string).collect();
        lines.join("\n")
    }

    fn remember(mut self, patch: &str, version: &str, hash: u8) -> Self {
        let name: PatchName = patch.parse().unwrap();
        self.memory.entry(name).or_default().installed = Some(Installed {
            patch: format!("{patch}/{version}").parse().unwrap(),
            sha256: vec![Sha256::from_bytes([hash; 32])],
            packages: vec![(patch.parse().unwrap(), version.to_owned())],
            added: Vec::new(),
            at: Timestamp::from_millis(5),
        });
        self
    }

    fn retract(mut self, serial: u64, patch: &str, hash: u8) -> Self {
        self.tombstones.push(tombstone(serial, patch, &[hash]));
        self
    }
}

fn two_versions() -> Vec<ReleasedArtifact> {
    vec![row("pilot", "jq", "1.6", 1, 1), row("pilot", "jq", "1.7", 2, 2)]
}

#[test]
fn what_is_missing_or_older_is_installed_and_what_is_equal_is_left() {
    assert_eq!(endpoint(two_versions(), &[]).line(), "jq: install jq/1.7");
    assert_eq!(endpoint(two_versions(), &[("jq", "1.6")]).line(), "jq: install jq/1.7");
    assert_eq!(endpoint(two_versions(), &[("jq", "1.7")]).line(), "jq: up to date with jq/1.7");
}

#[test]
fn a_package_that_is_newer_than_the_patch_is_not_downgraded_by_an_ordinary_install() {
    let line = endpoint(two_versions(), &[("jq", "1.8~rc1")]).line();
    assert_eq!(line, "jq: not now, jq/1.7: jq 1.8~rc1 is newer than 1.7 and is not downgraded");
}

#[test]
fn a_set_in_which_one_package_is_newer_and_one_is_missing_is_not_installed() {
    let rows = vec![part("pilot", "jq", "1.7", 1, 1, "jq", (0, 2)), part("pilot", "jq", "1.7", 1, 2, "libjq1", (1, 2))];
    assert_eq!(endpoint(rows.clone(), &[("jq", "1.7")]).line(), "jq: install jq/1.7");
    let line = endpoint(rows, &[("libjq1", "1.8")]).line();
    assert_eq!(line, "jq: not now, jq/1.7: libjq1 1.8 is newer than 1.7 and is not downgraded");
}

#[test]
fn the_order_is_the_order_of_approval_even_when_the_version_goes_down() {
    let rows = vec![row("pilot", "jq", "1.7", 1, 2), row("pilot", "jq", "1.6", 2, 1)];
    assert_eq!(endpoint(rows, &[]).line(), "jq: install jq/1.6");
}

#[test]
fn nothing_is_installed_outside_the_lease_or_without_a_trusted_clock() {
    let mut late = endpoint(two_versions(), &[]);
    late.freshness = Freshness::Expired { since: Duration::from_secs(7) };
    assert_eq!(late.line(), "jq: not now, jq/1.7: the metadata is expired 7 s ago; nothing is installed on it");
    late.freshness = Freshness::ClockBehind;
    assert!(matches!(late.decisions()[0].decision, Decision::NotNow { .. }));
}

#[test]
fn an_installed_version_that_is_retracted_goes_back_to_the_one_before_even_after_the_lease() {
    let mut back = endpoint(two_versions(), &[("jq", "1.7")]).remember("jq", "1.7", 2).retract(1, "jq/1.7", 2);
    assert_eq!(back.line(), "jq: roll back to jq/1.6: jq/1.7 is retracted (#1: breaks boot)");
    back.freshness = Freshness::Expired { since: Duration::from_secs(7) };
    assert_eq!(back.line(), "jq: roll back to jq/1.6: jq/1.7 is retracted (#1: breaks boot)");
    // The rows of a retracted patch leave the role in the same commit: the tombstone alone leads to the same end.
    back.rows.pop();
    assert_eq!(back.line(), "jq: roll back to jq/1.6: jq/1.7 is retracted (#1: breaks boot)");
}

#[test]
fn once_back_the_retracted_version_is_blocked_and_said_so() {
    let back = endpoint(two_versions(), &[("jq", "1.6")]).remember("jq", "1.6", 1).retract(1, "jq/1.7", 2);
    assert_eq!(back.line(), "jq: up to date with jq/1.6; blocked: jq/1.7 is retracted (#1: breaks boot)");
}

#[test]
fn a_retracted_version_with_nothing_before_it_is_reported_and_left() {
    let stuck = endpoint(vec![row("pilot", "jq", "1.7", 1, 2)], &[("jq", "1.7")])
        .remember("jq", "1.7", 2)
        .retract(1, "jq/1.7", 2);
    assert_eq!(
        stuck.line(),
        "jq: installed, and jq/1.7 is retracted (#1: breaks boot); there is no earlier version to go back to"
    );
}

#[test]
fn from_a_retracted_version_the_way_is_forward_when_a_newer_one_is_offered() {
    let mut forward = endpoint(two_versions(), &[("jq", "1.7")]).remember("jq", "1.7", 2).retract(1, "jq/1.7", 2);
    forward.rows.push(row("pilot", "jq", "1.7.1", 3, 3));
    assert_eq!(forward.line(), "jq: install jq/1.7.1; blocked: jq/1.7 is retracted (#1: breaks boot)");
}

#[test]
fn an_endpoint_that_never_had_the_retracted_version_is_blocked_from_it() {
    let blocked = endpoint(Vec::new(), &[]).retract(4, "jq/1.7", 2);
    assert_eq!(blocked.line(), "jq: not installed: jq/1.7 is retracted (#4: breaks boot)");
}

#[test]
fn one_retracted_artifact_takes_its_whole_set_with_it() {
    let rows = vec![part("pilot", "jq", "1.7", 1, 1, "jq", (0, 2)), part("pilot", "jq", "1.7", 1, 2, "libjq1", (1, 2))];
    let blocked = endpoint(rows, &[]).retract(1, "other/1", 2);
    assert_eq!(
        blocked.line(),
        "jq: not installed: jq/1.7 is retracted (#1: breaks boot)\n\
         other: not installed: other/1 is retracted (#1: breaks boot)"
    );
}

#[test]
fn a_version_removed_by_hand_after_its_retraction_is_not_rolled_back() {
    let gone = endpoint(Vec::new(), &[]).remember("jq", "1.7", 2).retract(1, "jq/1.7", 2);
    assert_eq!(gone.line(), "jq: not installed: jq/1.7 is retracted (#1: breaks boot)");
}

#[test]
fn a_failed_attempt_is_repeated_only_after_a_wait_that_doubles() {
    let mut failed = endpoint(two_versions(), &[]);
    let attempt = Attempt {
        patch: "jq/1.7".parse().unwrap(),
        failures: 3,
        at: Timestamp::from_millis(1_000_000),
        class: "dependency".into(),
    };
    failed.memory.entry("jq".parse().unwrap()).or_default().failed = Some(attempt.clone());
    assert_eq!(
        failed.line(),
        "jq: not now, jq/1.7: failed 3 times (dependency); next attempt after 1970-01-01T00:20:40Z"
    );
    failed.now = Timestamp::from_millis(1_240_000);
    assert_eq!(failed.line(), "jq: install jq/1.7");
    let policy = RetryPolicy { first: Duration::from_secs(60), most: Duration::from_secs(600) };
    let many = Attempt { failures: u32::MAX, ..attempt };
    assert_eq!(policy.next_at(&many), Timestamp::from_millis(1_600_000));
}

#[test]
fn a_failed_download_is_repeated_after_seconds_and_never_later_than_the_first_wait_of_other_failures() {
    let policy = RetryPolicy { first: Duration::from_secs(60), most: Duration::from_secs(600) };
    let attempt = |failures| Attempt {
        patch: "jq/1.7".parse().unwrap(),
        failures,
        at: Timestamp::from_millis(0),
        class: "download".into(),
    };
    assert_eq!(policy.next_at(&attempt(1)), Timestamp::from_millis(5_000));
    assert_eq!(policy.next_at(&attempt(9)), Timestamp::from_millis(60_000));
}

#[test]
fn a_failure_of_an_older_offer_does_not_delay_a_newer_one() {
    let mut failed = endpoint(two_versions(), &[]);
    failed.memory.entry("jq".parse().unwrap()).or_default().failed =
        Some(Attempt { patch: "jq/1.6".parse().unwrap(), failures: 9, at: failed.now, class: "dependency".into() });
    assert_eq!(failed.line(), "jq: install jq/1.7");
}

#[test]
fn a_hold_an_incomplete_set_and_a_foreign_architecture_stop_an_install_and_say_why() {
    let mut held = endpoint(two_versions(), &[]);
    held.memory.entry("jq".parse().unwrap()).or_default().held = Some("freeze until Monday".into());
    assert_eq!(held.line(), "jq: not now, jq/1.7: held at this machine: freeze until Monday");

    let half = vec![part("pilot", "jq", "1.7", 1, 1, "jq", (0, 2))];
    assert_eq!(endpoint(half, &[]).line(), "jq: not now, jq/1.7: the ring lists 1 of its 2 artifacts");

    let mut foreign = row("pilot", "jq", "1.7", 1, 1);
    let sluice_model::ArtifactKind::Deb(deb) = &mut foreign.custom.artifact;
    deb.architecture = "arm64".into();
    assert_eq!(endpoint(vec![foreign], &[]).line(), "jq: not now, jq/1.7: jq is for arm64, this machine is amd64");
}

#[test]
fn an_incomplete_newer_set_leaves_the_older_whole_one_on_offer() {
    let mut rows = two_versions();
    rows.push(part("pilot", "jq", "1.8", 3, 3, "jq", (1, 2)));
    assert_eq!(endpoint(rows, &[]).line(), "jq: install jq/1.7");
}

impl Endpoint {
    fn suspend(mut self, subject: SuspensionSubject, scope: SuspensionScope) -> Self {
        self.suspensions.suspensions.push(Suspension {
            id: 4,
            subject,
            scope,
            reason: "under investigation".into(),
            by: "rita".parse().unwrap(),
            at: Timestamp::from_millis(1),
        });
        self
    }
}

fn range(from: Option<&str>, to: Option<&str>) -> VersionRange {
    VersionRange { from: from.map(str::to_owned), to: to.map(str::to_owned) }
}

#[test]
fn a_suspension_stops_the_versions_it_names_here_or_everywhere_and_nothing_else() {
    const STOPPED: &str = "jq: not now, jq/1.7: suspended (#4: under investigation) until two people lift it";
    let lyon = || SuspensionScope::Site("lyon".parse().unwrap());
    let patch = |versions| SuspensionSubject::Patch { name: "jq".parse().unwrap(), versions };
    let package = |versions| SuspensionSubject::Package { name: "jq".parse().unwrap(), versions };
    let line = |subject, scope| endpoint(two_versions(), &[]).suspend(subject, scope).line();
    assert_eq!(line(SuspensionSubject::Everything, SuspensionScope::Fleet), STOPPED);
    assert_eq!(line(SuspensionSubject::Everything, lyon()), STOPPED);
    assert_eq!(line(patch(range(Some("1.7~rc1"), Some("1.7"))), lyon()), STOPPED);
    assert_eq!(line(package(range(Some("1.7"), None)), SuspensionScope::Fleet), STOPPED);
    let brno = SuspensionScope::Site("brno".parse().unwrap());
    assert_eq!(line(SuspensionSubject::Everything, brno), "jq: install jq/1.7");
    assert_eq!(line(patch(range(None, Some("1.7~rc9"))), lyon()), "jq: install jq/1.7");
    let other = SuspensionSubject::Patch { name: "vim".parse().unwrap(), versions: range(None, None) };
    assert_eq!(line(other, SuspensionScope::Fleet), "jq: install jq/1.7");
}

#[test]
fn a_suspension_or_a_hold_stops_the_way_back_too_and_what_is_installed_stays() {
    let back = || endpoint(two_versions(), &[("jq", "1.7")]).remember("jq", "1.7", 2).retract(1, "jq/1.7", 2);
    assert_eq!(
        back().suspend(SuspensionSubject::Everything, SuspensionScope::Fleet).line(),
        "jq: not now, jq/1.6: suspended (#4: under investigation) until two people lift it; blocked: jq/1.7 is retracted \
         (#1: breaks boot)"
    );
    let mut held = back();
    held.hold = Some("the auditor is here");
    assert!(held.line().starts_with("jq: not now, jq/1.6: held at this machine: the auditor is here"));
    let same = endpoint(two_versions(), &[("jq", "1.7")]);
    let same = same.suspend(SuspensionSubject::Everything, SuspensionScope::Fleet);
    assert_eq!(same.line(), "jq: up to date with jq/1.7");
}

#[test]
fn after_the_lease_the_way_from_a_retracted_version_is_back_and_never_forward() {
    let rows = vec![row("pilot", "jq", "1.6", 1, 1), row("pilot", "jq", "1.8", 3, 3)];
    let mut late = endpoint(rows, &[("jq", "1.7")]).remember("jq", "1.7", 2).retract(1, "jq/1.7", 2);
    late.tombstones[0].approved.insert(fixture::ring("pilot"), 2);
    assert_eq!(late.line(), "jq: install jq/1.8; blocked: jq/1.7 is retracted (#1: breaks boot)");
    late.freshness = Freshness::Expired { since: Duration::from_secs(7) };
    assert_eq!(late.line(), "jq: roll back to jq/1.6: jq/1.7 is retracted (#1: breaks boot)");
    late.rows.remove(0);
    assert_eq!(
        late.line(),
        "jq: not now, jq/1.8: the metadata is expired 7 s ago; nothing is installed on it; blocked: jq/1.7 is retracted \
         (#1: breaks boot)"
    );
}

#[test]
fn a_reinstated_tombstone_does_not_count_and_another_one_of_the_same_content_does() {
    let twice = [tombstone(1, "jq/1.7", &[2]), tombstone(2, "copy/1", &[2])];
    let once = Tombstones::new(&twice[..1]).lifting([1]);
    let offers = Offers::of(&two_versions(), &once);
    let jq = offers.patch(&"jq".parse().unwrap()).unwrap();
    assert_eq!(jq.offered.as_ref().unwrap().patch.to_string(), "jq/1.7");
    assert!(jq.retracted.is_empty());
    let both = Offers::of(&two_versions(), &Tombstones::new(&twice).lifting([1]));
    assert_eq!(both.patch(&"jq".parse().unwrap()).unwrap().offered.as_ref().unwrap().patch.to_string(), "jq/1.6");
}
