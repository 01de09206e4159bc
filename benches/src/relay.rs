//! A WAN link between two namespaces: a TUN device in each, and this relay between them, with a rate, a delay and loss.
//!
//! Each direction is a queue like a router's: a packet that does not fit is dropped, one that is sent occupies the link for
//! its length, and arrives a delay later. Packets stay in order. What is lost is chosen from a seed.

use anyhow::Context;
use sluice_xtask::cargo;
use sluice_xtask::lab::network::Network;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tun_rs::{DeviceBuilder, SyncDevice};

/// The largest packet.
const MTU: u16 = 1500;
/// Packets that are under way in one direction: 100 Mbit/s and a delay of 400 ms are 3,500.
const PACKETS_MAX: usize = 8192;
/// What may wait for the link: a tenth of a second of it.
const QUEUE_SECS: f64 = 0.1;

/// What the link is like, in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Wan {
    pub bits_per_sec: f64,
    /// One way.
    pub delay: Duration,
    /// Part of the packets that is lost.
    pub loss: f64,
    pub seed: u64,
}

/// The link; it ends with this value.
pub struct Relay {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Packets that were lost on purpose, and that found the queue full.
    pub lost: Arc<AtomicU64>,
    pub dropped: Arc<AtomicU64>,
}

struct Direction {
    wan: Wan,
    random: u64,
    /// When the link will have sent all that was put on it.
    free_at: Instant,
}

enum Fate {
    Arrives(Instant),
    Lost,
    Dropped,
}

impl Direction {
    fn fate(&mut self, now: Instant, bytes: usize) -> Fate {
        // xorshift64*: enough to choose what is lost.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64;
        let begins = self.free_at.max(now);
        if (begins - now).as_secs_f64() > QUEUE_SECS {
            return Fate::Dropped;
        }
        self.free_at = begins + Duration::from_secs_f64(bytes as f64 * 8.0 / self.wan.bits_per_sec);
        if drawn < self.wan.loss { Fate::Lost } else { Fate::Arrives(self.free_at + self.wan.delay) }
    }
}

impl Relay {
    /// Links hq and the first node of `network`, which has no link yet.
    pub fn start(network: &Network, wan: Wan) -> anyhow::Result<Self> {
        let hq = device(network, "hq", "10.77.0.1/16")?;
        let node = device(network, "n1", "10.77.1.1/16")?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut relay = Self { stop, threads: Vec::new(), lost: Arc::default(), dropped: Arc::default() };
        relay.direct(Arc::clone(&hq), Arc::clone(&node), wan);
        relay.direct(node, hq, Wan { seed: wan.seed + 1, ..wan });
        Ok(relay)
    }

    fn direct(&mut self, from: Arc<SyncDevice>, to: Arc<SyncDevice>, wan: Wan) {
        let (sender, receiver) = sync_channel(PACKETS_MAX);
        let (stop, lost, dropped) = (Arc::clone(&self.stop), Arc::clone(&self.lost), Arc::clone(&self.dropped));
        let direction = Direction { wan, random: wan.seed | 1, free_at: crate::measure::now() };
        self.threads.push(std::thread::spawn(move || take(&from, direction, &sender, &stop, (&lost, &dropped))));
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || give(&to, &receiver, &stop)));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The threads end at the next packet; there always is one while TCP connections live, and else they are idle.
        self.stop.store(true, Ordering::Relaxed);
    }
}

type Packet = (Instant, Vec<u8>);

fn take(
    from: &SyncDevice,
    mut direction: Direction,
    to: &SyncSender<Packet>,
    stop: &AtomicBool,
    (lost, dropped): (&AtomicU64, &AtomicU64),
) {
    let mut buffer = vec![0; usize::from(MTU) + 64];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = from.recv(&mut buffer) else { return };
        match direction.fate(crate::measure::now(), length) {
            Fate::Arrives(at) => {
                if to.try_send((at, buffer[..length].to_vec())).is_err() {
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            Fate::Lost => {
                lost.fetch_add(1, Ordering::Relaxed);
            }
            Fate::Dropped => {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn give(to: &SyncDevice, packets: &Receiver<Packet>, stop: &AtomicBool) {
    while let Ok((at, packet)) = packets.recv() {
        std::thread::sleep(at.saturating_duration_since(crate::measure::now()));
        if stop.load(Ordering::Relaxed) || to.send(&packet).is_err() {
            return;
        }
    }
}

/// A TUN device as `wan0` of a namespace. Its other side stays with us wherever it is moved.
fn device(network: &Network, place: &str, address: &str) -> anyhow::Result<Arc<SyncDevice>> {
    let made_as = format!("slu{}{place}", std::process::id() % 100_000);
    let device = DeviceBuilder::new().name(&made_as).build_sync().context("cannot make a TUN device")?;
    let name = network.namespace(place);
    let mtu = MTU.to_string();
    for arguments in [
        &["link", "set", &made_as, "netns", &name, "name", "wan0"][..],
        &["-n", &name, "address", "add", address, "dev", "wan0"],
        &["-n", &name, "link", "set", "wan0", "mtu", &mtu, "up"],
    ] {
        cargo::output(Command::new("ip").args(arguments))?;
    }
    Ok(Arc::new(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direction(loss: f64) -> Direction {
        let wan = Wan { bits_per_sec: 8e6, delay: Duration::from_millis(25), loss, seed: 7 };
        Direction { wan, random: 7, free_at: crate::measure::now() }
    }

    #[test]
    fn a_packet_occupies_the_link_arrives_later_and_finds_a_full_queue_after_a_tenth_of_a_second() {
        let mut link = direction(0.0);
        let now = link.free_at;
        for sent in 1..=101u64 {
            match link.fate(now, 1000) {
                Fate::Arrives(at) => assert_eq!(at, now + Duration::from_millis(sent + 25), "packet {sent}"),
                Fate::Lost | Fate::Dropped => panic!("packet {sent} was dropped"),
            }
        }
        assert!(matches!(link.fate(now, 1000), Fate::Dropped));
        assert!(matches!(link.fate(now + Duration::from_millis(2), 1000), Fate::Arrives(_)));
    }

    #[test]
    fn one_in_a_hundred_is_lost() {
        let mut link = direction(0.01);
        let mut now = link.free_at;
        let mut lost = 0;
        for _ in 0..100_000 {
            now += Duration::from_millis(2);
            lost += u32::from(matches!(link.fate(now, 100), Fate::Lost));
        }
        assert!((900..1100).contains(&lost), "{lost}");
    }
}
