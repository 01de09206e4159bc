//! Runs the tests, says what was skipped and why, and closes with one line of counts.

use crate::{setup, sim};
use anyhow::{Context, Result, bail};
use clap::Args;
use sluice_xtask::cargo::{self, has_program, target_dir, workspace_root};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Set for the tests of the full tier; without it they do not run the long figures.
const FULL_TIER: &str = "SLUICE_TEST_FULL";
/// A test that must skip something writes its reason into a file below this folder.
const SKIPPED_DIR: &str = "SLUICE_SKIPPED_DIR";

/// Seeds of the simulation in every run, and before a release: about half a millisecond each on two cores.
const SEEDS: u64 = 20_000;
const SEEDS_FULL: u64 = 400_000;

/// What begins the line of counts of cargo-nextest, and of cargo's own runner.
const NEXTEST_SUMMARY: &str = "Summary";
const LIBTEST_SUMMARY: &str = "test result:";

#[derive(Args)]
pub struct TestArguments {
    /// Run the figures that stand before a release too
    #[arg(long)]
    full: bool,
    /// Fail when anything had to be skipped
    #[arg(long)]
    no_skip: bool,
    /// Only tests whose name contains one of these
    filter: Vec<String>,
}

#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// Runs every test of the tier.
pub fn run(arguments: &TestArguments) -> Result<()> {
    let skipped_dir = target_dir().join("skipped");
    reset(&skipped_dir)?;
    println!("test: building");
    cargo::run(cargo::cargo().args(["build", "--workspace", "--bins", "--quiet"]))?;
    let environment = |command: &mut Command| {
        command
            .env(SKIPPED_DIR, &skipped_dir)
            .env("SLUICE_FOREIGN_PYTHON", setup::python_environment().join("bin/python"))
            .env("SLUICE_FOREIGN_NODE_PATH", setup::node_environment().join("node_modules"));
        if arguments.full {
            command.env(FULL_TIER, "1");
        }
    };
    let (mut command, summary_mark) =
        if has_program("cargo-nextest") { (nextest(), NEXTEST_SUMMARY) } else { (plain(), LIBTEST_SUMMARY) };
    command.args(&arguments.filter);
    environment(&mut command);
    let (mut counts, succeeded) = follow(&mut command, summary_mark)?;
    if arguments.filter.is_empty() {
        let seeds = if arguments.full { SEEDS_FULL } else { SEEDS };
        match sim::run(&["--seeds".to_owned(), seeds.to_string()]) {
            Ok(()) => counts.passed += 1,
            Err(error) => {
                println!("simulation: {error:#}");
                counts.failed += 1;
            }
        }
    }
    let skipped = skipped(&skipped_dir)?;
    for reason in &skipped {
        println!("skipped: {reason}");
    }
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, skipped.len());
    if !succeeded || counts.failed > 0 {
        bail!("{} tests failed", counts.failed);
    }
    if counts.passed == 0 {
        bail!("no test ran; check the filter {:?}", arguments.filter);
    }
    if arguments.no_skip && !skipped.is_empty() {
        bail!(
            "{} tests were skipped although --no-skip was given; cargo xtask setup installs what is lacking",
            skipped.len()
        );
    }
    Ok(())
}

fn nextest() -> Command {
    let mut command = cargo::cargo();
    command.args([
        "nextest",
        "run",
        "--workspace",
        "--no-fail-fast",
        "--status-level",
        "fail",
        "--final-status-level",
        "slow",
    ]);
    command
}

fn plain() -> Command {
    let mut command = cargo::cargo();
    command.args(["test", "--workspace", "--no-fail-fast", "--quiet"]);
    command
}

/// Passes the runner's output on and counts from its own summary lines.
fn follow(command: &mut Command, summary_mark: &'static str) -> Result<(Counts, bool)> {
    let shown = cargo::shown(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start: {shown}"))?;
    let out = child.stdout.take().expect("stdout is piped");
    let err = child.stderr.take().expect("stderr is piped");
    let reader = std::thread::spawn(move || pass_on(BufReader::new(err), summary_mark));
    let mut counts = pass_on(BufReader::new(out), summary_mark);
    let from_err = reader.join().expect("the reader does not panic");
    counts.passed += from_err.passed;
    counts.failed += from_err.failed;
    let status = child.wait().context("the test runner cannot be waited for")?;
    Ok((counts, status.success()))
}

fn pass_on(reader: impl BufRead, summary_mark: &str) -> Counts {
    let mut counts = Counts::default();
    for line in reader.lines().map_while(Result::ok) {
        println!("{line}");
        if let Some((passed, failed)) = summary(&line, summary_mark) {
            counts.passed += passed;
            counts.failed += failed;
        }
    }
    counts
}

/// Reads nextest's `Summary [..] N tests run: P passed, F failed` or libtest's `test result: ok. P passed; F failed`: the
/// runner's own, since nextest repeats libtest's of each failed test.
fn summary(line: &str, mark: &str) -> Option<(u64, u64)> {
    let line: String = strip_escapes(line);
    let (_, rest) = line.split_once(mark)?;
    let rest = rest.split_once("run:").map_or(rest, |(_, counts)| counts);
    let number = |word: &str| {
        let words: Vec<&str> = rest.split([' ', ',', ';', '(']).filter(|part| !part.is_empty()).collect();
        words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
    };
    Some((number("passed"), number("failed") + number("timed")))
}

fn strip_escapes(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut escaped = false;
    for c in line.chars() {
        match (escaped, c) {
            (false, '\u{1b}') => escaped = true,
            (false, c) => clean.push(c),
            (true, c) if c.is_ascii_alphabetic() => escaped = false,
            (true, _) => {}
        }
    }
    clean
}

fn reset(dir: &PathBuf) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot clear {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}

fn skipped(dir: &PathBuf) -> Result<Vec<String>> {
    let mut reasons = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        let test = entry.file_name().to_string_lossy().into_owned();
        reasons.push(format!("{test}: {}", std::fs::read_to_string(entry.path())?.trim()));
    }
    reasons.sort();
    if !setup::has_foreign_clients() && !reasons.iter().any(|reason| reason.contains("foreign clients")) {
        eprintln!(
            "note: the foreign clients are not installed below {}; cargo xtask setup installs them",
            workspace_root().display()
        );
    }
    Ok(reasons)
}

#[cfg(test)]
mod tests {
    use super::{LIBTEST_SUMMARY, NEXTEST_SUMMARY, summary};

    #[test]
    fn both_runners_summaries_are_read() {
        let nextest = "     Summary [   0.032s] 6 tests run: 5 passed (1 slow), 1 failed, 0 skipped";
        assert_eq!(summary(nextest, NEXTEST_SUMMARY), Some((5, 1)));
        let coloured = "\u{1b}[32m     Summary\u{1b}[0m [ 1s] 1 test run: 1 passed, 0 skipped";
        assert_eq!(summary(coloured, NEXTEST_SUMMARY), Some((1, 0)));
        assert_eq!(
            summary("test result: ok. 8 passed; 0 failed; 0 ignored; 0 measured", LIBTEST_SUMMARY),
            Some((8, 0))
        );
        assert_eq!(summary("test result: FAILED. 0 passed; 1 failed", NEXTEST_SUMMARY), None);
        assert_eq!(summary("        PASS [   0.009s] (1/6) x passed", NEXTEST_SUMMARY), None);
    }
}
