use super::*;
use serde_json::{Value, json};
use sluice_content::{ChunkerParams, Cutter};
use sluice_metadata::RoleName;

fn now() -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000)
}

fn measured(path: &str, bytes: &[u8]) -> Measured {
    let mut cutter = Cutter::new(ChunkerParams::for_length(bytes.len() as u64));
    cutter.push(bytes);
    Measured { path: path.into(), cut: cutter.finish() }
}

/// The row of an artifact as an honest server writes it, changed by `change`.
fn row(file: &str, bytes: &[u8], set: (u32, u32), change: impl FnOnce(&mut Value)) -> (TargetName, TargetEntry) {
    let cut = measured(file, bytes).cut;
    let mut custom = json!({"patch": {
        "schema": 1, "patch": "openssl", "patch_version": "3.0.22-1", "blake3": cut.artifact, "sha512": cut.sha512,
        "manifest": cut.manifest.reference(),
        "artifact": {"kind": "deb", "package": "openssl", "version": "3.0.22-1", "architecture": "amd64"},
        "set": {"index": set.0, "count": set.1}, "severity": "critical", "cves": ["CVE-2026-12345"], "supersedes": [],
        "approved_serial": 1, "approved_at": 1_795_000_000_000_u64,
    }});
    change(&mut custom);
    let entry = TargetEntry { length: cut.length, sha256: cut.sha256, custom: Some(custom) };
    (format!("patches/production/{file}").parse().unwrap(), entry)
}

fn plan(version: u64, rows: Vec<(TargetName, TargetEntry)>) -> ReleasePlan {
    let role: RoleName = "rel-production".parse().unwrap();
    ReleasePlan { version, entries: rows.into_iter().collect(), ..ReleasePlan::first(role, now()) }
}

fn judged(
    live: &ReleasePlan,
    proposal: &DraftFile,
    artifacts: &[Measured],
    retracted: &[Sha256],
) -> Result<Vec<String>, Vec<String>> {
    let retracted = retracted.iter().map(|sha256| (*sha256, [1].into())).collect();
    judge(proposal, &Ground { live: Some(live), retracted: &retracted, artifacts, now: now() })
}

fn honest(_: &mut Value) {}

/// The proposal adds b.deb to a.deb.
fn scene() -> (ReleasePlan, ReleasePlan, Vec<Measured>) {
    let known = row("a.deb", b"known", (0, 1), honest);
    let live = plan(4, vec![known.clone()]);
    let proposal = plan(5, vec![known, row("b.deb", b"new", (0, 1), honest)]);
    (live, proposal, vec![measured("mine/b.deb", b"new")])
}

#[test]
fn an_honest_proposal_is_shown_with_everything_that_it_adds() {
    let (live, proposal, artifacts) = scene();
    let lines = judged(&live, &proposal.to_draft().unwrap(), &artifacts, &[]).unwrap();
    assert_eq!(lines[0], "ring production, version 5");
    assert_eq!(lines.len(), 3, "{lines:?}");
    for word in ["adds openssl/3.0.22-1", "amd64", "3 bytes", "critical", "CVE-2026-12345", "b.deb", "sha256"] {
        assert!(lines[2].contains(word), "{word}: {}", lines[2]);
    }
}

#[test]
fn what_changes_more_than_it_shows_is_refused_with_the_reason() {
    let (live, proposal, artifacts) = scene();
    let refused = |change: &dyn Fn(&mut ReleasePlan), word: &str| {
        let mut changed = proposal.clone();
        change(&mut changed);
        let reasons = judged(&live, &changed.to_draft().unwrap(), &artifacts, &[]).unwrap_err();
        assert!(reasons.iter().any(|reason| reason.contains(word)), "{word}: {reasons:?}");
    };
    let set = |(name, entry): (TargetName, TargetEntry)| {
        move |plan: &mut ReleasePlan| {
            plan.entries.insert(name.clone(), entry.clone());
        }
    };
    refused(&set(row("a.deb", b"swapped", (0, 1), honest)), "stand for something else");
    refused(
        &set(row("a.deb", b"known", (0, 1), |custom| custom["patch"]["approved_serial"] = 99.into())),
        "something else",
    );
    refused(&set(row("c.deb", b"smuggled", (0, 1), honest)), "none of your files is c.deb");
    refused(&set(row("b.deb", b"new", (0, 1), |custom| custom["note"] = "hidden".into())), "cannot show wholly");
    refused(&set(row("b.deb", b"new", (0, 1), |custom| custom["patch"]["x"] = 1.into())), "cannot show wholly");
    refused(
        &set(row("b.deb", b"new", (0, 1), |custom| custom["patch"]["blake3"] = "11".repeat(32).into())),
        "another length",
    );
    refused(
        &set(row("b.deb", b"new", (0, 1), |custom| custom["patch"]["manifest"]["length"] = 1.into())),
        "another length",
    );
    refused(&set(row("b.deb", b"new", (0, 2), honest)), "some of its 2 files are missing");
    refused(&|plan| plan.version = 6, "version 5 is next");
    refused(&|plan| plan.role = "rel-pilot".parse().unwrap(), "is next");
    refused(&|plan| plan.expires = now().plus(VALID_MAX * 2), "90 days");
    refused(&|plan| plan.expires = now(), "90 days");
    refused(
        &|plan| {
            let (_, entry) = row("b.deb", b"new", (0, 1), honest);
            plan.entries.insert("patches/pilot/b.deb".parse().unwrap(), entry);
        },
        "not in the folder of its ring",
    );
}

#[test]
fn a_member_that_this_program_does_not_know_is_refused() {
    let (live, proposal, artifacts) = scene();
    let text = String::from_utf8(proposal.to_draft().unwrap().to_bytes()).unwrap();
    let hidden = text.replace("\"version\":5}", "\"version\":5,\"x-more\":1}");
    assert_ne!(hidden, text);
    let draft = DraftFile::read(&"rel-production".parse().unwrap(), hidden.as_bytes()).unwrap();
    let reasons = judged(&live, &draft, &artifacts, &[]).unwrap_err();
    assert!(reasons[0].contains("cannot show"), "{reasons:?}");
}

#[test]
fn what_was_retracted_is_not_signed_in_again_and_may_go() {
    let (live, proposal, artifacts) = scene();
    let reasons = judged(&live, &proposal.to_draft().unwrap(), &artifacts, &[artifacts[0].cut.sha256]).unwrap_err();
    assert!(reasons[0].contains("was retracted"), "{reasons:?}");
    let lines = judged(&live, &plan(5, Vec::new()).to_draft().unwrap(), &[], &[]).unwrap();
    assert!(lines[2].starts_with("removes openssl/3.0.22-1"), "{lines:?}");
}

#[test]
fn a_reinstatement_is_shown_and_lets_its_patch_come_back() {
    let (live, mut proposal, artifacts) = scene();
    let custom = json!({"reinstatement": {
        "schema": 1, "serial": 1, "patch": "openssl/3.0.22-1", "reason": "a false alarm", "by": ["ann", "ben"],
        "at": 1_795_000_000_000_u64,
    }});
    let entry = TargetEntry { length: 1, sha256: artifacts[0].cut.sha256, custom: Some(custom) };
    proposal.entries.insert("patches/production/reinstated-1".parse().unwrap(), entry);
    let retracted = [artifacts[0].cut.sha256];
    let lines = judged(&live, &proposal.to_draft().unwrap(), &artifacts, &retracted).unwrap();
    assert!(lines.iter().any(|line| line.contains("retraction 1 of openssl/3.0.22-1 no longer counts")), "{lines:?}");
}

#[test]
fn a_file_that_is_not_part_of_the_set_is_named() {
    let (live, proposal, mut artifacts) = scene();
    artifacts.push(measured("mine/other.deb", b"other"));
    let lines = judged(&live, &proposal.to_draft().unwrap(), &artifacts, &[]).unwrap();
    assert_eq!(lines.last().unwrap(), "note: mine/other.deb is not part of it");
}
