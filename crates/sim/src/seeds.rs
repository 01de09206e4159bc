//! A random site with random faults for every number, and the judgement of what came of it.
//!
//! First the faults happen, while the world checks what must always hold (safety); after the last of them everything that
//! lives must complete (liveness).

use crate::site::{Dice, Planted, Shape, World};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// The last fault is over by then; a slow site of 50 chunks takes about 100 s more.
const LIMIT: Duration = Duration::from_secs(400);

/// What came of one seed.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong; empty when all was right.
    pub violations: Vec<String>,
    /// Everything that happened, in order.
    pub log: Vec<String>,
    /// Bytes that left the origin over bytes of the artifact.
    pub egress: f64,
}

/// Runs the world of `seed`, with a bug put in.
pub fn run(seed: u64, bug: Planted) -> Outcome {
    let mut dice = Dice(seed ^ 0xfa17);
    let shape = Shape {
        nodes: 2 + dice.below(5) as usize,
        chunks: 10 + dice.below(40) as usize,
        chunk_bytes: 1 << 20,
        wan_bytes_per_sec: 5 * MIB,
        lan_bytes_per_sec: 100 * MIB,
    };
    let mut world = World::new(seed, &shape);
    world.plant(bug);
    let mut at = || Duration::from_millis(dice.below(8_000));
    for node in 1..shape.nodes {
        let (first, second) = (at(), at());
        match (seed + node as u64) % 9 {
            0 => world.kill(node, first),
            1 => {
                world.kill(node, first);
                world.restart(node, first + second);
            }
            2 => world.pause(node, first, first + second),
            3 => world.lie(node),
            4 => world.nodes[node].wants = false,
            5 => world.unknown(node, first),
            6 => world.slow(node, shape.wan_bytes_per_sec / shape.nodes as u64 / (1 + seed % 20)),
            _ => {}
        }
    }
    if seed.is_multiple_of(5) {
        let (first, second) = (at(), at());
        world.origin_down(first, first + second);
    }
    let took = world.run(LIMIT);
    judge(world, &shape, took)
}

fn judge(world: World, shape: &Shape, took: Option<Duration>) -> Outcome {
    let mut violations = world.violations.clone();
    if took.is_none() {
        let open =
            world.nodes.iter().enumerate().filter(|(_, node)| node.alive && node.wants && node.completed_at.is_none());
        let open: Vec<_> =
            open.map(|(at, node)| (at, node.picker.missing_count(), node.picker.in_flight_count())).collect();
        violations.push(format!("not complete after {LIMIT:?}; node, chunks missing, requests in flight: {open:?}"));
    }
    let (duplicates, allowed) = (world.duplicates(), world.duplicates_allowed());
    if duplicates > allowed {
        violations.push(format!("{duplicates} chunks crossed the link again, the faults explain {allowed}"));
    }
    Outcome { violations, egress: world.origin_bytes as f64 / shape.size() as f64, log: world.log }
}
