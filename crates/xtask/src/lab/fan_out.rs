//! One artifact to every node of a site in namespaces: how long it took, and what it cost on the WAN link.

use super::network::Network;
use super::packages::Version;
use super::world::World;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at the link's counter, and at the clients.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a fan-out took and cost.
#[derive(Clone, Debug)]
pub struct FanOut {
    /// Until the last node that was waited for had all of it.
    pub seconds: f64,
    /// Length of the artifact.
    pub bytes: u64,
    /// What the origin's sockets to this site sent, without manifests: frames of chunks with their headers.
    pub origin_bytes: u64,
    /// What left hq over the link, all headers included, metadata too.
    pub link_bytes: u64,
    /// The most that left hq over the link in any second.
    pub link_peak_bytes: u64,
    /// Seconds for each node, in the order of completion.
    pub nodes: Vec<(String, f64)>,
}

impl FanOut {
    /// Chunk bytes that crossed the WAN for each byte of the artifact.
    pub fn amplification(&self) -> f64 {
        self.origin_bytes as f64 / self.bytes as f64
    }

    /// The same with every header on the link.
    pub fn link_amplification(&self) -> f64 {
        self.link_bytes as f64 / self.bytes as f64
    }

    /// The time relative to the artifact's bytes alone at `bits_per_sec`.
    pub fn over_lower_bound(&self, bits_per_sec: f64) -> f64 {
        self.seconds / (self.bytes as f64 * 8.0 / bits_per_sec)
    }
}

/// What may be done to the site meanwhile.
pub struct Moment<'a> {
    pub world: &'a mut World,
    /// The origin's bytes so far over the artifact's.
    pub share: f64,
    pub elapsed: Duration,
    /// A node that shall have the artifact too from now on.
    pub more: Vec<String>,
    /// A node that is no longer waited for.
    pub without: Vec<String>,
}

/// An endpoint of each node asks for the artifact; done when all have it. `meanwhile` is called at every look.
///
/// # Errors
/// Not all had it in time, or one was answered with an error.
pub fn fan_out(
    world: &mut World,
    site: &str,
    version: &Version,
    nodes: &[&str],
    at_most: Duration,
    mut meanwhile: impl FnMut(&mut Moment<'_>) -> Result<()>,
) -> Result<FanOut> {
    let bytes = std::fs::metadata(&version.debs[0].path)?.len();
    let origin_before = origin_bytes(world, site)?;
    let link_before = network(world)?.wan_bytes()?;
    let begun = Instant::now();
    let mut link = LinkMeter::new(link_before);
    let mut clients = Clients(Vec::new());
    for node in nodes {
        clients.add(world, node, version)?;
    }
    let mut done = Vec::new();
    while !clients.0.is_empty() {
        clients.reap(&mut done, begun, bytes)?;
        let link_now = network(world)?.wan_bytes()?;
        link.note(begun.elapsed(), link_now);
        let share = (link_now - link_before) as f64 / bytes as f64;
        let mut moment = Moment { world, share, elapsed: begun.elapsed(), more: Vec::new(), without: Vec::new() };
        meanwhile(&mut moment)?;
        let (more, without) = (moment.more, moment.without);
        for node in more {
            clients.add(world, &node, version)?;
        }
        clients.drop_of(&without);
        if begun.elapsed() > at_most {
            let waiting: Vec<&str> = clients.0.iter().map(|(node, _)| node.as_str()).collect();
            bail!("after {at_most:?} these still wait for it: {}", waiting.join(", "));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let seconds = done.iter().map(|(_, seconds)| *seconds).fold(0.0, f64::max);
    let link_bytes = network(world)?.wan_bytes()? - link_before;
    // A repository that was started again meanwhile counts from zero.
    let origin_now = origin_bytes(world, site)?;
    let origin_bytes = origin_now.checked_sub(origin_before).unwrap_or(origin_now);
    Ok(FanOut { seconds, bytes, origin_bytes, link_bytes, link_peak_bytes: link.peak, nodes: done })
}

/// What the origin's sockets sent to the site, without manifests.
pub fn origin_bytes(world: &World, site: &str) -> Result<u64> {
    world.site(site)?["origin_bytes"].as_u64().context("the site has no origin_bytes")
}

fn network(world: &World) -> Result<&Network> {
    world.lab.network().context("the world has no network of its own")
}

/// The busiest second of the link, from looks at its counter.
struct LinkMeter {
    /// The newest look that is at least a second old, and all since.
    looks: VecDeque<(Duration, u64)>,
    peak: u64,
}

impl LinkMeter {
    fn new(now: u64) -> Self {
        Self { looks: VecDeque::from([(Duration::ZERO, now)]), peak: 0 }
    }

    /// A look that came late covers more than a second: then the average of its time is what one second held at least.
    fn note(&mut self, at: Duration, now: u64) {
        const SECOND: Duration = Duration::from_secs(1);
        self.looks.push_back((at, now));
        while self.looks.get(1).is_some_and(|(then, _)| at - *then >= SECOND) {
            self.looks.pop_front();
        }
        if let Some((then, before)) = self.looks.front() {
            let covered = (at - *then).max(SECOND).as_secs_f64();
            self.peak = self.peak.max(((now - before) as f64 / covered) as u64);
        }
    }
}

/// Foreign clients, one in the namespace of each node; none outlives this value.
struct Clients(Vec<(String, Child)>);

impl Clients {
    fn add(&mut self, world: &World, node: &str, version: &Version) -> Result<()> {
        let url = super::world::content_url(world.node(node)?, version);
        let mut curl = world.lab.command_at(node, "curl");
        curl.args(["--silent", "--fail", "--output", "/dev/null", "--write-out", "%{size_download}", &url]);
        let child = curl.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start curl")?;
        self.0.push((node.to_owned(), child));
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<(String, f64)>, begun: Instant, bytes: u64) -> Result<()> {
        let mut left = Vec::new();
        for (node, mut child) in std::mem::take(&mut self.0) {
            match child.try_wait()? {
                None => left.push((node, child)),
                Some(status) => {
                    let output = child.wait_with_output()?;
                    let got = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                    if !status.success() || got != bytes.to_string() {
                        self.0 = left;
                        bail!("the client of {node} ended with {status} and {got} of {bytes} bytes");
                    }
                    done.push((node, begun.elapsed().as_secs_f64()));
                }
            }
        }
        self.0 = left;
        Ok(())
    }

    fn drop_of(&mut self, nodes: &[String]) {
        for (node, child) in &mut self.0 {
            if nodes.contains(node) {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        self.0.retain(|(node, _)| !nodes.contains(node));
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Lets a process run half of the time (50 ms of 100) until the value is dropped.
pub struct HalfTime {
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl HalfTime {
    pub fn of(pid: u32) -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let seen = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                let stopped = super::send(pid, rustix::process::Signal::STOP);
                std::thread::sleep(LOOK_EVERY);
                if stopped.and_then(|()| super::send(pid, rustix::process::Signal::CONT)).is_err() {
                    return;
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for HalfTime {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LinkMeter;
    use std::time::Duration;

    #[test]
    fn the_busiest_second_is_found_wherever_it_begins_and_late_looks_make_none_busier() {
        let mut meter = LinkMeter::new(0);
        let mut sent = 0;
        for look in 1..200u64 {
            sent += if (95..105).contains(&look) { 100 } else { 1 };
            meter.note(Duration::from_millis(50 * look), sent);
        }
        assert_eq!(meter.peak, 10 * 100 + 10);
        meter.note(Duration::from_millis(50 * 239), sent + 1_999);
        assert_eq!(meter.peak, 10 * 100 + 10, "2 s of 1,000 each");
    }
}
