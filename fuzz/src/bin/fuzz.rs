//! Fuzzes the targets for some time each: `cargo xtask fuzz`.
#![allow(clippy::print_stdout, reason = "a developer's tool talks on the terminal")]
#![allow(clippy::disallowed_methods, reason = "it runs for a time")]

use anyhow::{Context, Result, bail};
use clap::Parser;
use sluice_fuzz::{ALL, Fuzzer, Target, corpus, seeds};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest that one input may take: a thousand times what one takes.
const RUN_MAX: Duration = Duration::from_secs(2);
/// Inputs that one call adds to a corpus, and their size: a corpus is read by people too.
const KEPT_MAX: usize = 60;
const KEPT_BYTES_MAX: usize = 3_000;
/// Runs between two looks at the clock.
const RUNS_A_LOOK: u64 = 64;

/// Changes the corpora of the targets and runs what comes of it.
#[derive(Parser)]
struct Arguments {
    /// Only these targets
    targets: Vec<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    secs: u64,
    /// Equal seeds give equal inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write inputs that gave something new into the corpus
    #[arg(long)]
    keep: bool,
    /// Write one right input of each kind into the corpora, and end
    #[arg(long)]
    begin: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.begin {
        return begin();
    }
    // A panic is a finding; it is printed once, with its input's file.
    std::panic::set_hook(Box::new(|_| {}));
    let is_wanted =
        |target: &&Target| arguments.targets.is_empty() || arguments.targets.iter().any(|name| *name == target.name);
    let wanted: Vec<&'static Target> = ALL.iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        bail!("no such target; they are {}", ALL.iter().map(|target| target.name).collect::<Vec<_>>().join(", "));
    }
    let mut wrong = 0;
    for target in wanted {
        wrong += u64::from(!fuzz(target, &arguments)?);
    }
    if wrong > 0 {
        bail!("{wrong} targets went wrong");
    }
    Ok(())
}

/// Writes the seeds.
fn begin() -> Result<()> {
    for (target, name, bytes) in seeds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        std::fs::write(folder.join(name), bytes).with_context(|| format!("writing into {}", folder.display()))?;
    }
    Ok(())
}

/// Whether nothing went wrong.
fn fuzz(target: &'static Target, arguments: &Arguments) -> Result<bool> {
    let files = corpus(target).with_context(|| format!("reading the corpus of {}", target.name))?;
    let known = files.len();
    let mut fuzzer = Fuzzer::new(target, arguments.seed, files.iter().map(|(_, bytes)| bytes.clone()).collect());
    let begun = Instant::now();
    let mut outcome = files.iter().try_for_each(|(_, bytes)| fuzzer.run(bytes));
    let known_shapes = fuzzer.shapes();
    let mut slowest = Duration::ZERO;
    while outcome.is_ok() && begun.elapsed() < Duration::from_secs(arguments.secs) {
        for _ in 0..RUNS_A_LOOK {
            let run = Instant::now();
            outcome = fuzzer.step();
            slowest = slowest.max(run.elapsed());
            if outcome.is_err() {
                break;
            }
        }
    }
    println!(
        "{}: {} runs in {:.1} s from {known} files, {} outcomes ({known_shapes} at first), slowest run {:.1} ms",
        target.name,
        fuzzer.runs(),
        begun.elapsed().as_secs_f64(),
        fuzzer.shapes(),
        slowest.as_secs_f64() * 1_000.0
    );
    if arguments.keep {
        let new = fuzzer.pool().iter().skip(known + 1);
        for input in new.filter(|input| input.len() <= KEPT_BYTES_MAX).take(KEPT_MAX) {
            store(target, "found", input)?;
        }
    }
    if let Err(wrong) = outcome {
        let path = store(target, "wrong", &wrong.input)?;
        println!(
            "{}: WRONG: {}\n  the input is in {path}; mend the parser and commit the file",
            target.name, wrong.said
        );
        return Ok(false);
    }
    if slowest > RUN_MAX {
        println!("{}: WRONG: a run took {slowest:?}", target.name);
        return Ok(false);
    }
    Ok(true)
}

fn store(target: &Target, kind: &str, input: &[u8]) -> Result<String> {
    let name = format!("{kind}-{}", &sluice_metadata::sha256_of(input).to_hex()[..16]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name).join(name);
    std::fs::write(&path, input).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.display().to_string())
}
