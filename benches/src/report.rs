//! From pairs to a verdict: medians of pairwise ratios, and when not to believe them.

use crate::measure::Measured;
use serde::Serialize;
use std::fmt;

/// Goal G1: throughput of the product relative to the control.
pub const G1_RATIO_MIN: f64 = 0.90;
/// Goal G2: CPU of both sides relative to the control.
pub const G2_RATIO_MAX: f64 = 1.70;
/// A control that varies more than this measured the machine's other work.
const CONTROL_SPREAD_MAX: f64 = 1.6;

/// One control and the product right after it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pair {
    pub control: Measured,
    pub product: Measured,
}

impl Pair {
    /// Above 1: the product was faster.
    fn throughput_ratio(&self) -> f64 {
        self.control.seconds / self.product.seconds
    }

    /// Above 1: the product cost more.
    fn cpu_ratio(&self) -> f64 {
        self.product.cpu_seconds / self.control.cpu_seconds
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |measured: &Measured| measured.bytes as f64 / (1u64 << 30) as f64;
        let side = |measured: &Measured| {
            let (rate, cpu) = (gib(measured) / measured.seconds, measured.cpu_seconds / gib(measured));
            format!("{rate:.2} GiB/s, {cpu:.2} CPU s/GiB, {} MiB", measured.peak_memory_kib >> 10)
        };
        let (control, product) = (side(&self.control), side(&self.product));
        let (throughput, cpu) = (self.throughput_ratio(), self.cpu_ratio());
        write!(f, "control {control} | product {product} | throughput {throughput:.2} x, CPU {cpu:.2} x")
    }
}

/// What G1 and G2 say.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub mib: u64,
    pub pairs: Vec<Pair>,
    pub throughput_ratio: f64,
    pub cpu_ratio: f64,
    pub control_spread: f64,
    pub noisy: bool,
    pub g1_holds: bool,
    pub g2_holds: bool,
}

impl Report {
    /// `pairs` has at least one.
    pub fn of(mib: u64, pairs: Vec<Pair>) -> Self {
        let throughput_ratio = median(pairs.iter().map(Pair::throughput_ratio));
        let cpu_ratio = median(pairs.iter().map(Pair::cpu_ratio));
        let seconds = || pairs.iter().map(|pair| pair.control.seconds);
        let control_spread = seconds().fold(0.0, f64::max) / seconds().fold(f64::INFINITY, f64::min);
        Self {
            mib,
            throughput_ratio,
            cpu_ratio,
            control_spread,
            noisy: control_spread > CONTROL_SPREAD_MAX,
            g1_holds: throughput_ratio >= G1_RATIO_MIN,
            g2_holds: cpu_ratio <= G2_RATIO_MAX,
            pairs,
        }
    }

    /// Whether the goals hold; on a noisy machine only CPU is judged.
    pub fn holds(&self) -> bool {
        self.g2_holds && (self.g1_holds || self.noisy)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = |holds| if holds { "holds" } else { "MISSED" };
        let g1 = if self.noisy { "not judged" } else { verdict(self.g1_holds) };
        writeln!(f, "G1 throughput {:.2} x (goal >= {G1_RATIO_MIN:.2}): {g1}", self.throughput_ratio)?;
        writeln!(f, "G2 CPU        {:.2} x (goal <= {G2_RATIO_MAX:.2}): {}", self.cpu_ratio, verdict(self.g2_holds))?;
        write!(f, "control max/min {:.2} over {} pairs", self.control_spread, self.pairs.len())?;
        if self.noisy {
            write!(f, ": the machine was noisy, only CPU is judged")?;
        }
        if cfg!(debug_assertions) {
            write!(f, "\nnot a release build: the figures mean nothing")?;
        }
        Ok(())
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(control_seconds: f64, product_seconds: f64, cpu_ratio: f64) -> Pair {
        let measured = |seconds, cpu_seconds| Measured { bytes: 1 << 30, seconds, cpu_seconds, peak_memory_kib: 0 };
        Pair { control: measured(control_seconds, 1.0), product: measured(product_seconds, cpu_ratio) }
    }

    #[test]
    fn the_median_of_pairwise_ratios_decides() {
        let report = Report::of(1024, vec![pair(1.0, 1.0, 1.5), pair(1.2, 1.2, 1.6), pair(1.0, 9.0, 9.0)]);
        assert!(report.g1_holds && report.g2_holds && !report.noisy && report.holds());
        let slow = Report::of(1024, vec![pair(1.0, 2.0, 1.5), pair(1.0, 2.0, 1.5)]);
        assert!(!slow.g1_holds && !slow.holds());
    }

    #[test]
    fn a_noisy_control_leaves_only_the_cpu_to_judge() {
        let report = Report::of(1024, vec![pair(1.0, 2.0, 1.5), pair(1.7, 2.0, 1.5)]);
        assert!(report.noisy && !report.g1_holds && report.holds());
        let dear = Report::of(1024, vec![pair(1.0, 2.0, 1.8), pair(1.7, 2.0, 1.8)]);
        assert!(!dear.holds());
    }
}
