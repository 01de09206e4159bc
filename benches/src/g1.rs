//! G1 and G2: node to node, verified and written, against plain TCP with sendfile, BLAKE3 and pwrite.

use crate::data::Data;
use crate::harness::{Options, in_own_process};
use crate::report::Outcome;

/// Throughput of the product relative to the control.
const G1_RATIO_MIN: f64 = 0.90;
/// CPU of both sides relative to the control.
const G2_RATIO_MAX: f64 = 1.70;
/// What is moved.
const MIB: u64 = 1024;
/// Connections of a busy pair of nodes; the control always uses one.
pub const CONNECTIONS: &str = "2";

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let folder = options.folder()?;
    let mib = options.mib.unwrap_or(MIB);
    println!("preparing {mib} MiB");
    Data::create(folder.path(), mib << 20)?;
    let dir = folder.path().to_string_lossy().into_owned();
    let slow = options.slow.map(|rate| rate.to_string());
    let mut product = vec!["product", &dir, CONNECTIONS, "tcp"];
    product.extend(slow.as_deref());
    let control = "plain TCP, sendfile, BLAKE3, pwrite";
    let series = options.alternate(control, || in_own_process(&["control", &dir]), || in_own_process(&product))?;
    let mut outcome = options.outcome("g1");
    outcome.findings.push(series.throughput_at_least("G1", G1_RATIO_MIN, G2_RATIO_MAX));
    outcome.findings.push(series.cpu_at_most("G2", G2_RATIO_MAX));
    outcome.series.push(series);
    Ok(outcome)
}
