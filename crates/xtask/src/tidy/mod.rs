//! Rules that a compiler does not check: arrows, homes, supply chain, that the code map tells the truth, and that every
//! attack has its tests.

mod code_map;
mod graph;
mod layers;
mod supply;
mod threats;

use anyhow::{Result, bail};

/// Runs every check and lists everything that is wrong.
pub fn run() -> Result<()> {
    let graph = graph::Graph::read()?;
    let rules = layers::Rules::read()?;
    let mut findings = Vec::new();
    findings.extend(layers::check(&graph, &rules));
    findings.extend(supply::check(&graph, &rules));
    findings.extend(code_map::check(&graph)?);
    findings.extend(threats::check()?);
    if findings.is_empty() {
        println!(
            "tidy: {} crates of ours, {} foreign ones, nothing to complain about",
            graph.ours.len(),
            graph.foreign_count()
        );
        return Ok(());
    }
    for finding in &findings {
        println!("tidy: {finding}");
    }
    bail!("tidy found {} things", findings.len())
}
