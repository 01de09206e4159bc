//! The goals, and which bench measures each.

use crate::harness::Options;
use crate::report::Outcome;

type Run = fn(&Options) -> anyhow::Result<Outcome>;

/// A goal of the project; several may be measured by one bench.
pub struct Goal {
    pub id: &'static str,
    pub claim: &'static str,
    /// The bench that measures it: its name, and what runs it.
    pub bench: Option<(&'static str, Run)>,
}

const fn goal(id: &'static str, claim: &'static str, bench: Option<(&'static str, Run)>) -> Goal {
    Goal { id, claim, bench }
}

/// All of them, in order.
pub const GOALS: &[Goal] = &[
    goal("g1", "node to node, mutual TLS, verified, written: >= 0.90 x plain TCP", Some(("g1", crate::g1::run))),
    goal("g2", "CPU of both sides for g1: <= 1.7 x", Some(("g1", crate::g1::run))),
    goal("g3", ">= 1.3 x nginx TLS 1.3 to curl; >= 3 x libtorrent; >= 5 x sendme", Some(("g3", crate::g3::run))),
    goal("g4", "node to endpoint, plain HTTP, every byte verified: >= 1.0 x nginx", None),
    goal("g5", "10,000 artifacts of 16 KiB: >= 1.8 x curl -Z from nginx", None),
    goal(
        "g6",
        "256 MiB to 8 and to 20 nodes of a site: <= 1.08 x size / uplink, egress <= 1.02 x",
        Some(("g6", crate::g6::g6)),
    ),
    goal(
        "g7",
        "the same, one node slow, one killed, one joining: <= 1.25 x, egress <= 1.05 x",
        Some(("g7", crate::g6::g7)),
    ),
    goal("g8", "WAN of 100 Mbit/s and 50 ms: >= 0.88 of it, >= 0.80 with 1 % loss", Some(("g8", crate::g8::run))),
    goal("g9", "outcome ingest, durable before the answer: >= 2.5 x PostgreSQL", None),
    goal("g10", "512 MiB written in random order, durable: >= 0.7 x one sequential write", None),
    goal(
        "g11",
        "memory of a node that moves 1 GiB to 8 peers: <= 64 MiB, whatever the size",
        Some(("g11", crate::g11::run)),
    ),
    goal(
        "g12",
        "first verified byte on a warm connection: <= 10 ms; WAN <= 3.5 round trips + one chunk",
        Some(("g12", crate::latency::g12)),
    ),
    goal("g13", "publish: >= 0.85 x cutting and hashing in one process", None),
    goal("g14", "queries with 100,000 endpoints: <= 1.2 x those with 1,000", None),
    goal("g15", "fixed cost of a tiny fetch through a warm node: <= 5 ms", Some(("g15", crate::latency::g15))),
];

/// The benches of `ids`, or of all goals when there are none; each once.
pub fn benches(ids: &[String]) -> anyhow::Result<Vec<(&'static str, Run)>> {
    let mut benches: Vec<(&'static str, Run)> = Vec::new();
    for id in ids {
        let known = GOALS.iter().find(|goal| goal.id.eq_ignore_ascii_case(id));
        let goal = known.ok_or_else(|| anyhow::anyhow!("there is no goal {id}; --list names them"))?;
        anyhow::ensure!(goal.bench.is_some(), "nothing measures {id} yet; --list says what is measured");
    }
    let wanted = |goal: &&Goal| ids.is_empty() || ids.iter().any(|id| id.eq_ignore_ascii_case(goal.id));
    for bench in GOALS.iter().filter(wanted).filter_map(|goal| goal.bench) {
        if !benches.iter().any(|(name, _)| *name == bench.0) {
            benches.push(bench);
        }
    }
    Ok(benches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_that_share_a_bench_run_it_once() {
        let names = |ids: &[&str]| -> Vec<&str> {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            benches(&ids).unwrap().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&["g1", "G2"]), ["g1"]);
        assert_eq!(names(&["g2"]), ["g1"]);
        let all = names(&[]);
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
        assert!(benches(&["g16".to_owned()]).is_err());
        assert_eq!(GOALS.len(), 15);
    }
}
