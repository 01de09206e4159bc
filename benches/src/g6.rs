//! G6 and G7: one artifact to every node of a site behind one shaped link, real programs in namespaces. The control is
//! arithmetic: the artifact's bytes at the link's rate.

use crate::harness::Options;
use crate::report::{Bound, Finding, Outcome, median};
use crate::site::{self, SITE};
use sluice_xtask::lab::fan_out::{FanOut, HalfTime, Moment, fan_out};
use sluice_xtask::lab::network::Network;
use sluice_xtask::lab::packages::Version;
use sluice_xtask::lab::world::World;
use std::time::Duration;

/// Time over size / uplink, and chunk frames from the origin over the size.
const G6_TIME_MAX: f64 = 1.08;
const G6_EGRESS_MAX: f64 = 1.02;
const G7_TIME_MAX: f64 = 1.25;
const G7_EGRESS_MAX: f64 = 1.05;
/// The link, and the policy's cap, which is above it.
const LINK: &str = "100mbit";
const LINK_BITS_PER_SEC: f64 = 100e6;
const CAP: &str = "200mbit";
/// What is moved.
const MIB: u64 = 256;
/// A run takes 22 s and more; its control is arithmetic and does not vary.
const RUNS: usize = 3;
/// A run that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(180);

pub fn g6(options: &Options) -> anyhow::Result<Outcome> {
    let mut outcome = options.outcome("g6");
    if let Err(why) = site::possible() {
        outcome.skipped.push(why.to_string());
        return Ok(outcome);
    }
    for count in [8, 20] {
        let names = names(count);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut world = site::world(options, Network::site(count, LINK)?, &names, CAP)?;
        let mut seen = Vec::new();
        for run in 0..options.pairs.min(RUNS) {
            let version = site::release(&world, run as u32, options.mib.unwrap_or(MIB))?;
            let cpu = site::cpu_seconds(&world, &names)?;
            let run = fan_out(&mut world, SITE, &version, &names, TIMEOUT, |_| Ok(()))?;
            say(&run, site::cpu_seconds(&world, &names)? - cpu);
            seen.push(run);
        }
        note_memory(&world, &names, &mut outcome);
        judge(&mut outcome, "G6", &format!("{count} nodes"), &seen, (G6_TIME_MAX, G6_EGRESS_MAX));
        site::end(world)?;
    }
    outcome.skipped.push("libtorrent in the same topology: not driven here yet".to_owned());
    Ok(outcome)
}

/// Each run has a world of its own: a killed node stays dead in it, a joined one stays.
pub fn g7(options: &Options) -> anyhow::Result<Outcome> {
    let mut outcome = options.outcome("g7");
    if let Err(why) = site::possible() {
        outcome.skipped.push(why.to_string());
        return Ok(outcome);
    }
    for count in [8, 20] {
        let mut seen = Vec::new();
        for _ in 0..options.pairs.min(RUNS) {
            let names = names(count - 1);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut world = site::world(options, Network::site(count, LINK)?, &names, CAP)?;
            let version = site::release(&world, 0, options.mib.unwrap_or(MIB))?;
            let cpu = site::cpu_seconds(&world, &names)?;
            let run = troubled(&mut world, &version, &names, &format!("node-{count}"))?;
            say(&run, site::cpu_seconds(&world, &names)? - cpu);
            seen.push(run);
            site::end(world)?;
        }
        let what = format!("{count} nodes, one at half time, one killed half-way, one joining half-way");
        judge(&mut outcome, "G7", &what, &seen, (G7_TIME_MAX, G7_EGRESS_MAX));
    }
    Ok(outcome)
}

fn troubled(world: &mut World, version: &Version, names: &[&str], joins: &str) -> anyhow::Result<FanOut> {
    let _slow = HalfTime::of(world.lab.pid(names[1])?);
    let mut happened = false;
    fan_out(world, SITE, version, names, TIMEOUT, |moment: &mut Moment<'_>| {
        if !happened && moment.share >= 0.5 {
            happened = true;
            moment.world.lab.kill(names[0])?;
            moment.without.push(names[0].to_owned());
            moment.world.add_node(joins, SITE)?;
            moment.more.push(joins.to_owned());
        }
        Ok(())
    })
}

fn names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("node-{number}")).collect()
}

fn say(run: &FanOut, cpu: f64) {
    let first = run.nodes.first().map_or(0.0, |(_, seconds)| *seconds);
    println!(
        "  {} nodes: {:.2} s (the first after {first:.2} s), {:.3} x size / uplink; origin {:.4} x, link {:.4} x; {cpu:.1} CPU s",
        run.nodes.len(),
        run.seconds,
        run.over_lower_bound(LINK_BITS_PER_SEC),
        run.amplification(),
        run.link_amplification(),
    );
}

fn judge(outcome: &mut Outcome, goal: &str, what: &str, seen: &[FanOut], (time_max, egress_max): (f64, f64)) {
    let time = median(seen.iter().map(|run| run.over_lower_bound(LINK_BITS_PER_SEC)));
    let egress = median(seen.iter().map(FanOut::amplification));
    let link = median(seen.iter().map(FanOut::link_amplification));
    let claim = format!("{what}: time over size / uplink");
    outcome.findings.push(Finding::ratio(goal, &claim, time, Bound::AtMost(time_max)));
    let claim = format!("{what}: chunk frames from the origin over size");
    let note = format!("link counter with all headers {link:.3} x");
    outcome.findings.push(Finding::ratio(goal, &claim, egress, Bound::AtMost(egress_max)).with_note(note));
}

fn note_memory(world: &World, names: &[&str], outcome: &mut Outcome) {
    let peaks = names.iter().filter_map(|name| world.lab.pid(name).ok());
    let most = peaks.filter_map(|pid| crate::measure::peak_memory_kib(&pid.to_string()).ok()).max().unwrap_or(0);
    outcome.notes.push(format!("{} nodes: the largest peak memory of one was {} MiB", names.len(), most >> 10));
}
