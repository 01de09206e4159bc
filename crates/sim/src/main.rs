//! `sluice-sim`: runs seeds of the simulation and says which broke what.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool talks on the terminal")]
#![allow(clippy::disallowed_methods, reason = "it says how long it took")]

use clap::Parser;
use sluice_sim::seeds;
use sluice_sim::site::Planted;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Seeds within which every planted bug must be found.
const PLANTED_FOUND_WITHIN: u64 = 200;

#[derive(Parser)]
#[command(name = "sluice-sim", about = "Runs the real deciding code of a site in a simulated world")]
struct Arguments {
    /// Run this seed alone and print everything that happens
    seed: Option<u64>,
    /// Run so many seeds from 0, each tenth of them twice, and put in every planted bug
    #[arg(long, default_value_t = 20_000, conflicts_with = "seed")]
    seeds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_well = match arguments.seed {
        Some(seed) => one(seed),
        None => many(arguments.seeds) & planted(),
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64) -> bool {
    let outcome = seeds::run(seed, Planted::Nothing);
    for line in &outcome.log {
        println!("{line}");
    }
    println!("seed {seed}: egress {:.4}, {} violations", outcome.egress, outcome.violations.len());
    outcome.violations.iter().for_each(|violation| println!("  {violation}"));
    outcome.violations.is_empty()
}

fn many(count: u64) -> bool {
    let began = Instant::now();
    let (next, bad, worst) = (AtomicU64::new(0), Mutex::new(Vec::new()), Mutex::new((0.0_f64, 0)));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    let mut outcome = seeds::run(seed, Planted::Nothing);
                    if seed.is_multiple_of(10) && seeds::run(seed, Planted::Nothing).log != outcome.log {
                        outcome.violations.push("the same seed wrote another log".into());
                    }
                    let mut worst = worst.lock().expect("no seed panics");
                    if outcome.egress > worst.0 {
                        *worst = (outcome.egress, seed);
                    }
                    drop(worst);
                    if !outcome.violations.is_empty() {
                        bad.lock().expect("no seed panics").push((seed, outcome.violations));
                    }
                }
            });
        }
    });
    let (mut bad, worst) = (bad.into_inner().expect("no seed panics"), worst.into_inner().expect("no seed panics"));
    bad.sort_by_key(|(seed, _)| *seed);
    for (seed, violations) in bad.iter().take(10) {
        println!("seed {seed}: {}", violations.join("; "));
        println!("  look at it with: cargo xtask sim {seed}");
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{count} seeds in {seconds:.1} s, {} with violations; highest egress {:.3} (seed {})",
        bad.len(),
        worst.0,
        worst.1
    );
    bad.is_empty()
}

/// Each bug is put in, and must be found.
fn planted() -> bool {
    let mut all_found = true;
    for bug in Planted::ALL {
        let found = (0..PLANTED_FOUND_WITHIN).find_map(|seed| {
            let outcome = seeds::run(seed, bug);
            outcome.violations.into_iter().next().map(|violation| (seed, violation))
        });
        match found {
            Some((seed, violation)) => println!("planted {bug:?}: found by seed {seed}: {violation}"),
            None => {
                all_found = false;
                println!("planted {bug:?}: NOT FOUND within {PLANTED_FOUND_WITHIN} seeds");
            }
        }
    }
    all_found
}
