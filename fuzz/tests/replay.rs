//! Every corpus file, and some thousand changes of them, in every run. proves: attacks 17, 18, 23, 28.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "tests")]

use sluice_fuzz::{ALL, Fuzzer, Target, corpus};
use std::time::{Duration, Instant};

/// Changed inputs of one target in every run.
const STEPS: u64 = 10_000;
/// And before a release: so long for each target.
const FULL: Duration = Duration::from_secs(120);
/// Files that a corpus has at least: less is a folder that somebody forgot.
const FILES_MIN: usize = 3;

/// Replays, changes, and says what was run.
fn check(name: &str) {
    let target: &'static Target = ALL.iter().find(|target| target.name == name).unwrap();
    let files = corpus(target).unwrap();
    assert!(files.len() >= FILES_MIN, "the corpus of {name} has {} files", files.len());
    let mut fuzzer = Fuzzer::new(target, 1, files.iter().map(|(_, bytes)| bytes.clone()).collect());
    for (path, bytes) in &files {
        fuzzer.run(bytes).unwrap_or_else(|wrong| panic!("{}: {}", path.display(), wrong.said));
    }
    let shapes = fuzzer.shapes();
    assert!(shapes > 1, "every file of the corpus of {name} has the same outcome");
    let begun = Instant::now();
    let is_full = std::env::var_os("SLUICE_TEST_FULL").is_some();
    while fuzzer.runs() < STEPS || (is_full && begun.elapsed() < FULL) {
        fuzzer
            .step()
            .unwrap_or_else(|wrong| panic!("{}: input {:?}", wrong.said, String::from_utf8_lossy(&wrong.input)));
    }
    println!(
        "{name}: {} files with {shapes} outcomes, {} runs in {:.1} s with {}",
        files.len(),
        fuzzer.runs(),
        begun.elapsed().as_secs_f64(),
        fuzzer.shapes()
    );
}

#[test]
fn no_bytes_make_the_metadata_verifier_panic_or_go_back() {
    check("metadata");
}

#[test]
fn no_signed_body_makes_the_metadata_verifier_panic_or_go_back() {
    check("metadata-signed");
}

#[test]
fn json_that_is_read_has_one_meaning_and_one_canonical_form() {
    check("canonical-json");
}

#[test]
fn a_manifest_that_is_read_has_one_form_and_sums() {
    check("manifest");
}

#[test]
fn an_exchange_frame_that_is_read_has_one_form() {
    check("exchange-frame");
}

#[test]
fn a_report_that_is_read_is_written_the_same() {
    check("report");
}

#[test]
fn a_token_that_is_read_is_written_the_same_and_never_shown() {
    check("token");
}

#[test]
fn a_gossip_message_that_is_read_is_written_the_same_and_moves_nothing_back() {
    check("gossip");
}

#[test]
fn a_signed_document_that_is_read_is_written_the_same() {
    check("document");
}

#[test]
fn a_parser_that_panics_is_found_by_changing_a_corpus() {
    static PLANTED: Target = Target {
        name: "planted",
        run: |input| {
            assert!(!input.windows(2).any(|pair| pair == b"99"), "planted");
            format!("{}", input.len().min(8))
        },
    };
    let mut fuzzer = Fuzzer::new(&PLANTED, 1, vec![b"{\"version\":9}".to_vec()]);
    let found = (0..STEPS).find_map(|_| fuzzer.step().err());
    assert_eq!(found.unwrap().said, "planted");
}
