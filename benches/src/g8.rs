//! G8: a node fetches from the origin across a WAN of 100 Mbit/s and 50 ms there and back, without and with loss. Real
//! programs in two namespaces; the link is a relay in this process. Controls: the link's rate, and one plain TCP connection.

use crate::harness::Options;
use crate::measure::{Measured, cpu_seconds, forget_peak_memory, now, peak_memory_kib};
use crate::relay::{Relay, Wan};
use crate::report::{Bound, Finding, Outcome, median};
use crate::site::{self, SITE};
use anyhow::{Context, ensure};
use sluice_xtask::cargo;
use sluice_xtask::lab::network::Network;
use sluice_xtask::lab::world::{World, content_url};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Payload over the link's rate, by loss.
const CASES: &[(f64, f64)] = &[(0.0, 0.88), (0.01, 0.80)];
const BITS_PER_SEC: f64 = 100e6;
const ONE_WAY: Duration = Duration::from_millis(25);
/// What is moved by the product: six seconds of the link.
const MIB: u64 = 64;
/// What is moved by the control: with loss one TCP connection without BBR is slow.
const CONTROL_MIB: [u64; 2] = [32, 4];
/// The policy's cap, which is above the link.
const CAP: &str = "200mbit";
const NODE: &str = "node-1";

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let mut outcome = options.outcome("g8");
    if let Err(why) = site::possible() {
        outcome.skipped.push(why.to_string());
        return Ok(outcome);
    }
    for (case, (loss, least)) in CASES.iter().enumerate() {
        let network = Network::pair()?;
        let wan = Wan { bits_per_sec: BITS_PER_SEC, delay: ONE_WAY, loss: *loss, seed: 1 };
        let relay = Relay::start(&network, wan)?;
        let control_name = customer_like(&network)?;
        let world = site::world(options, network, &[NODE], CAP)?;
        let name = format!("one plain TCP connection ({control_name}), {} % loss", loss * 100.0);
        let mut number = 0;
        let series = options.alternate(
            &name,
            || plain_tcp(&world, CONTROL_MIB[case] << 20),
            || {
                number += 1;
                product(&world, number, options.mib.unwrap_or(MIB))
            },
        )?;
        let rates =
            series.pairs.iter().map(|pair| pair.product.bytes as f64 * 8.0 / pair.product.seconds / BITS_PER_SEC);
        let claim = format!("part of the link used, {} % loss", loss * 100.0);
        let note = format!("{:.1} x {name}", series.throughput_ratio);
        outcome.findings.push(Finding::ratio("G8", &claim, median(rates), Bound::AtLeast(*least)).with_note(note));
        let (lost, dropped) = (relay.lost.load(Ordering::Relaxed), relay.dropped.load(Ordering::Relaxed));
        outcome.notes.push(format!("{} % loss: {lost} packets lost, {dropped} found the queue full", loss * 100.0));
        let used = world.lab.log(NODE);
        let line = used.lines().rev().find(|line| line.contains("towards the WAN") || line.contains("carrier"));
        outcome.notes.extend(line.map(str::to_owned));
        outcome.series.push(series);
        site::end(world)?;
        drop(relay);
    }
    Ok(outcome)
}

/// What customers' machines use, where the kernel lets a namespace choose it.
fn customer_like(network: &Network) -> anyhow::Result<String> {
    let mut chosen = String::from("unknown");
    for place in ["hq", "n1"] {
        let namespace = network.namespace(place);
        for wanted in ["cubic", "reno"] {
            let setting = format!("net.ipv4.tcp_congestion_control={wanted}");
            let set =
                Command::new("ip").args(["netns", "exec", &namespace, "sysctl", "-q", "-w", &setting]).output()?;
            if set.status.success() {
                break;
            }
        }
        let mut read = Command::new("ip");
        read.args(["netns", "exec", &namespace, "sysctl", "-n", "net.ipv4.tcp_congestion_control"]);
        chosen = cargo::output(&mut read)?.trim().to_owned();
    }
    Ok(chosen)
}

fn plain_tcp(world: &World, bytes: u64) -> anyhow::Result<Measured> {
    let own = std::env::current_exe()?;
    let address = format!("{}:7001", world.lab.address_of("repo"));
    let size = bytes.to_string();
    let mut server = world.lab.command_at("repo", &own);
    let mut server = server.args(["stream", "send", &address, &size]).stdin(Stdio::null()).spawn()?;
    let mut client = world.lab.command_at(NODE, &own);
    let received = cargo::output(client.args(["stream", "receive", &address, &size]));
    if received.is_err() {
        server.kill()?;
    }
    ensure!(server.wait()?.success() || received.is_err(), "the sender failed");
    serde_json::from_str(&received?).context("the receiver said something else")
}

fn product(world: &World, number: u32, mib: u64) -> anyhow::Result<Measured> {
    let version = site::release(world, number, mib)?;
    let bytes = std::fs::metadata(&version.debs[0].path)?.len();
    let pids: Vec<String> = [world.lab.pid("repo")?, world.lab.pid(NODE)?].map(|pid| pid.to_string()).into();
    let cpu = |pids: &[String]| pids.iter().map(|pid| cpu_seconds(pid)).sum::<anyhow::Result<f64>>();
    pids.iter().for_each(|pid| forget_peak_memory(pid));
    let before = cpu(&pids)?;
    let origin_before = sluice_xtask::lab::fan_out::origin_bytes(world, SITE)?;
    let began = now();
    let url = content_url(world.node(NODE)?, &version);
    let mut curl = world.lab.command_at(NODE, "curl");
    curl.args(["--silent", "--fail", "--output", "/dev/null", "--max-time", "120", "--write-out", "%{size_download}"]);
    let got = cargo::output(curl.arg(&url))?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(got.trim() == bytes.to_string(), "curl got {got} of {bytes} bytes");
    let sent = sluice_xtask::lab::fan_out::origin_bytes(world, SITE)? - origin_before;
    ensure!(sent >= bytes, "the origin sent {sent} bytes of {bytes}: it was not fetched from there");
    let peak = pids.iter().filter_map(|pid| peak_memory_kib(pid).ok()).sum();
    Ok(Measured { bytes, seconds, cpu_seconds: cpu(&pids)? - before, peak_memory_kib: peak })
}
