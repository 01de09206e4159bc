use super::*;
use sluice_model::{
    ArtifactId, ArtifactKind, ArtifactSet, DebFields, ManifestId, ManifestRef, PatchTarget, ReleasedArtifact, Severity,
    Timestamp,
};
use std::time::Duration;

const CONTROL: &str = "Package: liar\nVersion: 9\nArchitecture: sparc\nDepends: libc6 (>= 2.36)\nFilename: ../../x\n\
                       Description: data\n that is carried\n .\n far\n";
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

fn row(package: &str, version: &str, architecture: &str, serial: u64) -> ReleasedArtifact {
    let byte = sha256(format!("{package}{version}{architecture}{serial}").as_bytes());
    ReleasedArtifact {
        target: format!("patches/pilot/{package}_{serial}.deb").parse().unwrap(),
        ring: "pilot".parse().unwrap(),
        length: 1_000 + serial,
        sha256: byte,
        custom: PatchTarget {
            schema: 1,
            patch: package.parse().unwrap(),
            patch_version: "1".parse().unwrap(),
            blake3: ArtifactId::from_bytes(*byte.as_bytes()),
            sha512: sha512(byte.as_bytes()),
            manifest: ManifestRef { blake3: ManifestId::from_bytes([4; 32]), length: 52, chunker: "x".into() },
            artifact: ArtifactKind::Deb(DebFields {
                package: package.parse().unwrap(),
                version: version.into(),
                architecture: architecture.into(),
            }),
            set: ArtifactSet { index: 0, count: 1 },
            severity: Severity::High,
            cves: Vec::new(),
            supersedes: Vec::new(),
            approved_serial: serial,
            approved_at: Timestamp::from_millis(1),
        },
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis((1_790_000_000 + seconds) * 1_000)
}

fn planned(before: Option<&AptDocument>, rows: &[ReleasedArtifact], now: Timestamp, control: &str) -> Plan {
    let ring = "pilot".parse().unwrap();
    let terms = Terms { repo_id: "demo", ring: &ring, key: "KEY", now, valid_for: WEEK };
    let rows: Vec<Row<'_>> = rows.iter().map(|released| Row { released, control: Some(control) }).collect();
    plan(before, &rows, &terms)
}

fn next(before: Option<&AptDocument>, rows: &[ReleasedArtifact], now: Timestamp) -> AptDocument {
    match planned(before, rows, now, CONTROL) {
        Plan::Sign(planned) => planned.signed("IN".into(), "GPG".into()).unwrap(),
        Plan::Keep => panic!("nothing was planned"),
    }
}

fn file(document: &AptDocument, path: &str) -> Option<String> {
    let composed: Composed<Vec<u8>> = document.compose().unwrap();
    composed.file(path).map(|file| String::from_utf8(file.bytes.clone()).unwrap())
}

fn by_hash(generation: &Generation, path: &str) -> [String; 2] {
    let file = generation.files.iter().find(|file| file.path == path).unwrap();
    let folder = path.rsplit_once('/').unwrap().0;
    [
        format!("stable/{folder}/by-hash/SHA256/{}", file.sha256),
        format!("stable/{folder}/by-hash/SHA512/{}", file.sha512),
    ]
}

const AMD64: &str = "main/binary-amd64/Packages";

#[test]
fn a_paragraph_names_the_signed_row_and_keeps_what_the_control_file_says_of_dependencies() {
    let released = row("jq", "1:1.6-2", "amd64", 3);
    let document = next(None, std::slice::from_ref(&released), at(0));
    let text = file(&document, "stable/main/binary-amd64/Packages").unwrap();
    let expected = format!(
        "Package: jq\nVersion: 1:1.6-2\nArchitecture: amd64\nDepends: libc6 (>= 2.36)\nDescription: data\n that is carried\n .\n \
         far\nFilename: pool/{0}/jq_1.6-2_amd64.deb\nSize: 1003\nSHA256: {0}\nSHA512: {1}\n\n",
        released.sha256, released.custom.sha512
    );
    assert_eq!(text, expected);
    assert_eq!(file(&document, "stable/main/binary-all/Packages").unwrap(), "");
}

#[test]
fn a_release_lists_each_file_with_the_hashes_that_it_has_and_says_until_when_it_holds() {
    let document = next(None, &[row("jq", "1.6", "amd64", 1), row("data", "1", "all", 2)], at(0));
    let release = file(&document, "stable/Release").unwrap();
    for wanted in [
        "Suite: stable\n",
        "Acquire-By-Hash: yes\n",
        "Architectures: all amd64 arm64\n",
        "Date: Mon, 21 Sep 2026 14:13:20 UTC\n",
        "Valid-Until: Mon, 28 Sep 2026 14:13:20 UTC\n",
    ] {
        assert!(release.contains(wanted), "{wanted:?} is missing in\n{release}");
    }
    for index in &document.generations[0].files {
        let text = file(&document, &format!("stable/{}", index.path)).unwrap();
        assert!(release.contains(&format!(" {} {} {}\n", sha256(text.as_bytes()), text.len(), index.path)));
        assert!(release.contains(&format!(" {} {} {}\n", sha512(text.as_bytes()), text.len(), index.path)));
    }
    assert_eq!(file(&document, "stable/InRelease").unwrap(), "IN");
    assert_eq!(file(&document, "stable/Release.gpg").unwrap(), "GPG");
}

#[test]
fn three_older_generations_stay_by_hash_and_a_fourth_is_gone() {
    let mut rows = Vec::new();
    let mut document: Option<AptDocument> = None;
    let mut seen = Vec::new();
    for serial in 1..=5 {
        rows.push(row("jq", &format!("1.{serial}"), "amd64", serial));
        let made = next(document.as_ref(), &rows, at(serial));
        assert_eq!(made.generations[0].number, serial);
        seen.push(by_hash(&made.generations[0], AMD64));
        document = Some(made);
    }
    let document = document.unwrap();
    assert_eq!(document.generations.len(), GENERATIONS_MAX);
    assert_eq!(document.stanzas.len(), 5, "a stanza that four generations list stands there once");
    for (idx, paths) in seen.iter().enumerate() {
        for path in paths {
            assert_eq!(file(&document, path).is_some(), idx > 0, "generation {} at {path}", idx + 1);
        }
    }
}

#[test]
fn what_left_the_ring_is_in_no_newest_file_and_an_older_version_is_listed_again() {
    let (old, new) = (row("jq", "1.6", "amd64", 1), row("jq", "1.7", "amd64", 2));
    let first = next(None, &[old.clone(), new], at(0));
    let second = next(Some(&first), &[old], at(1));
    let text = file(&second, "stable/main/binary-amd64/Packages").unwrap();
    assert!(text.contains("Version: 1.6\n") && !text.contains("Version: 1.7\n"), "{text}");
}

#[test]
fn an_unchanged_ring_is_kept_and_signed_anew_when_a_quarter_of_its_validity_is_over() {
    let rows = [row("jq", "1.6", "amd64", 1)];
    let first = next(None, &rows, at(0));
    let quarter = WEEK.as_secs() / 4;
    assert_eq!(planned(Some(&first), &rows, at(quarter - 1), CONTROL), Plan::Keep);
    let renewed = next(Some(&first), &rows, at(quarter));
    assert_eq!(renewed.generations.len(), 1, "new dates are no new generation");
    assert_eq!(renewed.generations[0].number, 1);
    assert_eq!(renewed.generations[0].made_at, at(0));
    assert_eq!(renewed.generations[0].valid_until, at(quarter).plus(WEEK));
}

#[test]
fn dates_grow_even_when_two_states_are_signed_in_one_second_or_the_clock_goes_back() {
    let rows = [row("jq", "1.6", "amd64", 1), row("jq", "1.7", "amd64", 2)];
    let first = next(None, &rows[..1], at(10));
    let second = next(Some(&first), &rows, at(3));
    assert_eq!(second.generations[0].signed_at, at(11));
}

#[test]
fn another_key_signs_the_newest_generation_anew() {
    let rows = [row("jq", "1.6", "amd64", 1)];
    let mut first = next(None, &rows, at(0));
    first.key = "OLD".into();
    assert_ne!(planned(Some(&first), &rows, at(1), CONTROL), Plan::Keep);
}

#[test]
fn of_two_contents_under_one_version_the_one_approved_last_is_listed() {
    let (first, second) = (row("jq", "1.6", "amd64", 1), row("jq", "1.6", "amd64", 2));
    for rows in [[first.clone(), second.clone()], [second.clone(), first]] {
        let text = file(&next(None, &rows, at(0)), "stable/main/binary-amd64/Packages").unwrap();
        assert_eq!(text.matches("Package: jq\n").count(), 1);
        assert!(text.contains(&second.sha256.to_string()));
    }
}

#[test]
fn a_control_file_that_would_write_a_second_paragraph_is_left_out_and_named() {
    let rows = [row("jq", "1.6", "amd64", 1)];
    for control in ["A: b\n\nPackage: evil\n", " folded\n", "no colon\n", "A: b\r\rPackage: evil\n"] {
        let Plan::Sign(planned) = planned(None, &rows, at(0), control) else { panic!("kept") };
        assert_eq!(planned.left_out.len(), 1, "{control:?}");
        assert!(check_control(control).is_err());
    }
    assert!(check_control(CONTROL).is_ok());
    assert!(check_control(&format!("A: {}", "x".repeat(CONTROL_BYTES_MAX))).is_err());
}

#[test]
fn a_document_with_a_changed_stanza_gives_no_file_at_all() {
    let mut document = next(None, &[row("jq", "1.6", "amd64", 1)], at(0));
    document.stanzas[0] = document.stanzas[0].replace("libc6", "libc7");
    let composed: Result<Composed<Vec<u8>>, _> = document.compose();
    assert!(matches!(composed, Err(ComposeError::WrongFile { generation: 1, .. })));
    document.stanzas.clear();
    assert!(document.compose::<Vec<u8>>().is_err(), "a place that is not there");
}

#[test]
fn a_document_is_read_back_and_one_of_another_ring_or_format_is_refused() {
    let document = next(None, &[row("jq", "1.6", "amd64", 1)], at(0));
    let bytes = serde_json::to_vec(&document).unwrap();
    let (pilot, production) = ("pilot".parse().unwrap(), "production".parse().unwrap());
    assert_eq!(AptDocument::read(&pilot, &bytes), Ok(document.clone()));
    assert!(matches!(AptDocument::read(&production, &bytes), Err(ReadError::Ring { .. })));
    let newer = serde_json::to_vec(&AptDocument { schema: 2, ..document.clone() }).unwrap();
    assert_eq!(AptDocument::read(&pilot, &newer), Err(ReadError::Schema(2)));
    let empty = serde_json::to_vec(&AptDocument { generations: Vec::new(), ..document }).unwrap();
    assert_eq!(AptDocument::read(&pilot, &empty), Err(ReadError::Generations(0)));
}

#[test]
fn a_document_that_would_be_too_large_drops_its_oldest_generations_first() {
    let control = format!("Depends: {}\n", "x".repeat(60_000));
    let large = |from: u64| -> Vec<ReleasedArtifact> {
        (from..from + 60).map(|serial| row("jq", &format!("1.{serial}"), "amd64", serial)).collect()
    };
    let sign = |before: Option<&AptDocument>, rows: &[ReleasedArtifact], now| match planned(before, rows, now, &control)
    {
        Plan::Sign(planned) => planned.signed("IN".into(), "GPG".into()),
        Plan::Keep => panic!("kept"),
    };
    let first = sign(None, &large(0), at(0)).unwrap();
    let second = sign(Some(&first), &large(60), at(1)).unwrap();
    assert_eq!(second.generations.len(), 2, "7.2 MB fit");
    let third = sign(Some(&second), &large(120), at(2)).unwrap();
    assert_eq!(third.generations.iter().map(|made| made.number).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(third.stanzas.len(), 120);
    third.compose::<Vec<u8>>().unwrap();
    let mut all = large(0);
    all.extend(large(60));
    all.extend(large(120));
    assert!(matches!(sign(None, &all, at(3)), Err(PlanError::TooLarge { .. })));
}

#[test]
fn a_ring_of_1500_patches_fits_with_all_its_generations() {
    let control = format!("Depends: libc6\nDescription: {}\n", "words and more words\n ".repeat(60));
    let rows: Vec<ReleasedArtifact> =
        (0..1_500).map(|serial| row("jq", &format!("1.{serial}"), "amd64", serial)).collect();
    let mut document: Option<AptDocument> = None;
    for idx in 0..GENERATIONS_MAX as u64 {
        let listed = &rows[..1_497 + idx as usize];
        let Plan::Sign(planned) = planned(document.as_ref(), listed, at(idx), &control) else { panic!("kept") };
        document = Some(planned.signed("IN".into(), "GPG".into()).unwrap());
    }
    let document = document.unwrap();
    assert_eq!(document.generations.len(), GENERATIONS_MAX);
    assert!(document.generations[0].files.iter().any(|file| file.length > 2_000_000), "as long as real ones");
}
