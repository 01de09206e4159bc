//! G12 and G15: how long a small fetch takes through a node: a cold one, with the connection to the origin warm, and one of
//! what the node has.

use crate::harness::Options;
use crate::measure::now;
use crate::relay::{Relay, Wan};
use crate::report::{Bound, Finding, Outcome, median};
use crate::site::{self, SITE};
use anyhow::{Context, ensure};
use sluice_xtask::cargo;
use sluice_xtask::lab::Lab;
use sluice_xtask::lab::network::Network;
use sluice_xtask::lab::packages::{self, Version};
use sluice_xtask::lab::world::{World, content_url};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const LOOPBACK_MAX_MS: f64 = 10.0;
const WAN_ROUND_TRIPS_MAX: f64 = 3.5;
const TINY_MAX_MS: f64 = 5.0;
const ONE_WAY: Duration = Duration::from_millis(25);
const BITS_PER_SEC: f64 = 100e6;
/// Cold fetches: each needs an artifact of its own.
const COLD: u32 = 7;
/// Warm ones.
const WARM: usize = 200;
/// One chunk, whatever the cutter does.
const BYTES: usize = 16 << 10;
/// Above any link here.
const CAP: &str = "800mbit";
const NODE: &str = "node-1";

pub fn g12(options: &Options) -> anyhow::Result<Outcome> {
    let mut outcome = options.outcome("g12");
    let world = on_loopback(options)?;
    let cold = cold_fetches(&world)?;
    let claim = "first byte of a cold artifact, connection to the origin warm, loopback";
    let finding = Finding::new("G12", claim, median(cold.iter().copied()), "ms", Bound::AtMost(LOOPBACK_MAX_MS));
    outcome.findings.push(finding.with_note(spread(&cold)));
    site::end(world)?;
    if let Err(why) = site::possible() {
        outcome.skipped.push(format!("the WAN: {why}"));
        return Ok(outcome);
    }
    let network = Network::pair()?;
    let relay = Relay::start(&network, Wan { bits_per_sec: BITS_PER_SEC, delay: ONE_WAY, loss: 0.0, seed: 1 })?;
    let world = site::world(options, network, &[NODE], CAP)?;
    let cold = cold_fetches(&world)?;
    let round_trip = 2.0 * ONE_WAY.as_secs_f64() * 1e3;
    let chunk = BYTES as f64 * 8.0 / BITS_PER_SEC * 1e3;
    let trips = (median(cold.iter().copied()) - chunk) / round_trip;
    let claim = "first byte of a cold artifact less one chunk, 100 Mbit/s and 50 ms";
    let finding = Finding::new("G12", claim, trips, "round trips", Bound::AtMost(WAN_ROUND_TRIPS_MAX));
    outcome.findings.push(finding.with_note(spread(&cold)));
    site::end(world)?;
    drop(relay);
    Ok(outcome)
}

pub fn g15(options: &Options) -> anyhow::Result<Outcome> {
    let mut outcome = options.outcome("g15");
    let world = on_loopback(options)?;
    let version = tiny(&world, 0)?;
    let (address, path) = (world.node(NODE)?.listening.http.clone(), path_of(&world, &version)?);
    get(&address, &path)?;
    let warm = (0..WARM).map(|_| get(&address, &path)).collect::<anyhow::Result<Vec<f64>>>()?;
    let claim = "a tiny artifact that the node has, new connection, loopback";
    let finding = Finding::new("G15", claim, median(warm.iter().copied()), "ms", Bound::AtMost(TINY_MAX_MS));
    outcome.findings.push(finding.with_note(spread(&warm)));
    site::end(world)?;
    Ok(outcome)
}

fn on_loopback(options: &Options) -> anyhow::Result<World> {
    let lab = Lab::new("sluice-bench-latency", options.programs.clone())?;
    let mut world = World::start(lab, &[]).map_err(|failed| failed.1)?;
    let cap = options.slow.map_or_else(|| CAP.to_owned(), |slow| slow.to_string());
    world.add_site(SITE, "10.77.1.0/24", &cap)?;
    world.add_node(NODE, SITE)?;
    world.until_connected()?;
    Ok(world)
}

fn tiny(world: &World, number: u32) -> anyhow::Result<Version> {
    let number = format!("1.{number}-1");
    let version = packages::one(&world.lab.folder("packages")?, &number, BYTES)?;
    world.publish("demo", &version, "high", "CVE-2026-10001")?;
    world.approve(&format!("demo/{number}"), "production")?;
    world.until_current()?;
    Ok(version)
}

/// Milliseconds to the first byte of artifacts that the node has not got; the first one opens the connection and does not
/// count.
fn cold_fetches(world: &World) -> anyhow::Result<Vec<f64>> {
    let mut took = Vec::new();
    for number in 0..=COLD {
        let version = tiny(world, number)?;
        let url = content_url(world.node(NODE)?, &version);
        let mut curl = world.lab.command_at(NODE, "curl");
        curl.args(["--silent", "--fail", "--output", "/dev/null", "--write-out", "%{time_starttransfer}", &url]);
        let seconds: f64 = cargo::output(&mut curl)?.trim().parse().context("curl printed no time")?;
        println!("  fetch {number}: first byte after {:.2} ms", seconds * 1e3);
        if number > 0 {
            took.push(seconds * 1e3);
        }
    }
    Ok(took)
}

fn path_of(world: &World, version: &Version) -> anyhow::Result<String> {
    let node = world.node(NODE)?;
    let url = content_url(node, version);
    let path = url.strip_prefix(&format!("http://{}", node.listening.http)).context("no path")?;
    Ok(path.to_owned())
}

/// Milliseconds from nothing to the last byte of an answer.
fn get(address: &str, path: &str) -> anyhow::Result<f64> {
    let began = now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "the node did not answer with the artifact");
    ensure!(answer.len() > BYTES, "the node answered with {} bytes", answer.len());
    Ok(took)
}

fn spread(took: &[f64]) -> String {
    let (least, most) = (took.iter().fold(f64::MAX, |a, b| a.min(*b)), took.iter().fold(0.0, |a, b| f64::max(a, *b)));
    format!("{} fetches, {least:.2} to {most:.2} ms", took.len())
}
