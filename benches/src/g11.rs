//! G11: memory of the nodes of a site while each moves a large artifact at full rate with 8 peers, and whether it grows
//! with the size.

use crate::harness::Options;
use crate::measure::{forget_peak_memory, now, peak_memory_kib};
use crate::report::{Bound, Finding, Outcome};
use crate::site::{self, SITE};
use anyhow::ensure;
use sluice_xtask::lab::Lab;
use sluice_xtask::lab::packages;
use sluice_xtask::lab::world::{World, content_url};
use std::process::{Command, Stdio};

const MEMORY_MAX_MIB: f64 = 64.0;
/// Peak with the large artifact over the peak with one an eighth as long: what a run varies by.
const GROWTH_MAX: f64 = 1.25;
/// A node and its 8 peers.
const NODES: usize = 9;
/// What is moved.
const MIB: u64 = 1024;
/// None, in effect.
const CAP: &str = "100gbit";

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let mut outcome = options.outcome("g11");
    let lab = Lab::new("sluice-bench-memory", options.programs.clone())?;
    let mut world = World::start(lab, &[]).map_err(|failed| failed.1)?;
    let cap = options.slow.map_or_else(|| CAP.to_owned(), |slow| slow.to_string());
    world.add_site(SITE, "10.77.1.0/24", &cap)?;
    let names: Vec<String> = (1..=NODES).map(|number| format!("node-{number}")).collect();
    for name in &names {
        world.add_node(name, SITE)?;
    }
    world.until_connected()?;
    world.until_acquainted()?;
    let large = options.mib.unwrap_or(MIB);
    let mut peaks = Vec::new();
    for (number, mib) in [large.div_ceil(8), large].into_iter().enumerate() {
        let (seconds, peak) = fan_out(&world, &names, &format!("1.{number}-1"), mib)?;
        let rate = NODES as f64 * mib as f64 / seconds;
        outcome
            .notes
            .push(format!("{mib} MiB to {NODES} nodes in {seconds:.1} s, {rate:.0} MiB/s in all: {peak:.1} MiB"));
        peaks.push(peak);
    }
    outcome.findings.push(Finding::new("G11", "largest node", peaks[1], "MiB", Bound::AtMost(MEMORY_MAX_MIB)));
    let growth = peaks[1] / peaks[0];
    outcome.findings.push(Finding::ratio(
        "G11",
        "the same over an eighth of the size",
        growth,
        Bound::AtMost(GROWTH_MAX),
    ));
    site::end(world)?;
    Ok(outcome)
}

/// Seconds until all have it, and the largest peak of a node in MiB.
fn fan_out(world: &World, names: &[String], number: &str, mib: u64) -> anyhow::Result<(f64, f64)> {
    let version = packages::one(&world.lab.folder("packages")?, number, usize::try_from(mib << 20)?)?;
    world.publish("demo", &version, "high", "CVE-2026-10001")?;
    world.approve(&format!("demo/{number}"), "production")?;
    world.until_current()?;
    let pids = names.iter().map(|name| Ok(world.lab.pid(name)?.to_string())).collect::<anyhow::Result<Vec<_>>>()?;
    pids.iter().for_each(|pid| forget_peak_memory(pid));
    let began = now();
    let mut clients = Vec::new();
    for name in names {
        let url = content_url(world.node(name)?, &version);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--max-time", "300", "--output", "/dev/null", &url]);
        clients.push(curl.stdin(Stdio::null()).spawn()?);
    }
    let mut all_well = true;
    for mut client in clients {
        all_well &= client.wait()?.success();
    }
    let seconds = began.elapsed().as_secs_f64();
    ensure!(all_well, "not every client got it");
    let peak = pids.iter().filter_map(|pid| peak_memory_kib(pid).ok()).max().unwrap_or(0);
    Ok((seconds, peak as f64 / 1024.0))
}
