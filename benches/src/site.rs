//! A site of real programs in network namespaces: what G6, G7 and G8 are measured with.

use crate::harness::Options;
use anyhow::anyhow;
use sluice_xtask::lab::Lab;
use sluice_xtask::lab::network::Network;
use sluice_xtask::lab::packages::{self, Version};
use sluice_xtask::lab::world::World;
use std::sync::atomic::{AtomicU32, Ordering};

/// The site's name.
pub const SITE: &str = "brno";

/// Tells the folders of one process's worlds apart.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A repository and `names` at a site in `network`, all connected. `wan_cap` is the policy's.
pub fn world(options: &Options, network: Network, names: &[&str], wan_cap: &str) -> anyhow::Result<World> {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut lab = Lab::new(&format!("sluice-bench-{count}"), options.programs.clone())?;
    lab.set_network(network);
    let mut world = World::start(lab, &[]).map_err(|failed| failed.1)?;
    let cap = options.slow.map_or_else(|| wan_cap.to_owned(), |slow| slow.to_string());
    world.add_site(SITE, "10.77.1.0/24", &cap)?;
    for name in names {
        world.add_node(name, SITE)?;
    }
    world.until_connected()?;
    world.until_acquainted()?;
    Ok(world)
}

/// A new artifact of `mib` MiB that every node knows and none has.
pub fn release(world: &World, number: u32, mib: u64) -> anyhow::Result<Version> {
    let number = format!("1.{number}-1");
    let version = packages::one(&world.lab.folder("packages")?, &number, usize::try_from(mib << 20)?)?;
    world.publish("demo", &version, "high", "CVE-2026-10001")?;
    world.approve(&format!("demo/{number}"), "production")?;
    world.until_current()?;
    Ok(version)
}

/// Stops the programs and removes everything.
pub fn end(mut world: World) -> anyhow::Result<()> {
    world.lab.clean_up()
}

/// The CPU seconds that the repository and the nodes used so far.
pub fn cpu_seconds(world: &World, names: &[&str]) -> anyhow::Result<f64> {
    let pids = std::iter::once("repo").chain(names.iter().copied()).filter_map(|name| world.lab.pid(name).ok());
    pids.map(|pid| crate::measure::cpu_seconds(&pid.to_string())).sum()
}

/// `Err` with a reason when namespaces cannot be made here.
pub fn possible() -> anyhow::Result<()> {
    Network::is_possible().map_err(|why| anyhow!(why))
}
