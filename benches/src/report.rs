//! From pairs to a verdict: medians of pairwise ratios, and when not to believe them.

use crate::measure::Measured;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};
use std::path::Path;

/// A control that varies more than this measured the machine's other work.
const CONTROL_SPREAD_MAX: f64 = 1.6;

/// One control and the product right after it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Pair {
    pub control: Measured,
    pub product: Measured,
}

impl Pair {
    /// Above 1: the product was faster.
    pub fn throughput_ratio(&self) -> f64 {
        let rate = |measured: &Measured| measured.bytes as f64 / measured.seconds;
        rate(&self.product) / rate(&self.control)
    }

    /// CPU for each byte; above 1: the product cost more. A process that used less than one tick counts as one.
    pub fn cpu_ratio(&self) -> f64 {
        let cost = |measured: &Measured| measured.cpu_seconds.max(0.01) / measured.bytes as f64;
        cost(&self.product) / cost(&self.control)
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |measured: &Measured| measured.bytes as f64 / (1u64 << 30) as f64;
        let side = |measured: &Measured| {
            let (rate, cpu) = (gib(measured) / measured.seconds, measured.cpu_seconds / gib(measured));
            let memory = measured.peak_memory_kib >> 10;
            format!("{:.3} s, {rate:.3} GiB/s, {cpu:.2} CPU s/GiB, {memory} MiB", measured.seconds)
        };
        let (control, product) = (side(&self.control), side(&self.product));
        let (throughput, cpu) = (self.throughput_ratio(), self.cpu_ratio());
        write!(f, "control {control} | product {product} | throughput {throughput:.2} x, CPU {cpu:.2} x")
    }
}

/// Pairs against one control.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    /// What the product was measured against, and in which respect.
    pub name: String,
    pub pairs: Vec<Pair>,
    pub throughput_ratio: f64,
    pub cpu_ratio: f64,
    pub product_peak_memory_kib: u64,
    pub control_spread: f64,
    pub noisy: bool,
}

impl Series {
    /// `pairs` has at least one.
    pub fn of(name: &str, pairs: Vec<Pair>) -> Self {
        let seconds = || pairs.iter().map(|pair| pair.control.seconds);
        let control_spread = seconds().fold(0.0, f64::max) / seconds().fold(f64::INFINITY, f64::min);
        Self {
            name: name.to_owned(),
            throughput_ratio: median(pairs.iter().map(Pair::throughput_ratio)),
            cpu_ratio: median(pairs.iter().map(Pair::cpu_ratio)),
            product_peak_memory_kib: pairs.iter().map(|pair| pair.product.peak_memory_kib).max().unwrap_or(0),
            control_spread,
            noisy: control_spread > CONTROL_SPREAD_MAX,
            pairs,
        }
    }

    /// The throughput must reach `least` x the control. On a noisy machine CPU for each byte is judged in its place, by
    /// `cpu_most` x the control.
    pub fn throughput_at_least(&self, goal: &str, least: f64, cpu_most: f64) -> Finding {
        let claim = format!("throughput against {}", self.name);
        if self.noisy {
            let note = format!("noisy (control max/min {:.2}): CPU judged in its place", self.control_spread);
            return Finding::ratio(goal, &claim, self.cpu_ratio, Bound::AtMost(cpu_most)).with_note(note);
        }
        Finding::ratio(goal, &claim, self.throughput_ratio, Bound::AtLeast(least))
    }

    /// The CPU for each byte may be `most` x the control's.
    pub fn cpu_at_most(&self, goal: &str, most: f64) -> Finding {
        Finding::ratio(goal, &format!("CPU against {}", self.name), self.cpu_ratio, Bound::AtMost(most))
    }
}

/// On which side of a goal a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// One goal, or one part of it, and whether it holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// For instance `G1`.
    pub goal: String,
    /// What was measured.
    pub claim: String,
    pub value: f64,
    /// Unit of `value`: `x` for a ratio.
    pub unit: String,
    pub bound: Bound,
    pub holds: bool,
    /// How the value is to be read.
    pub note: Option<String>,
}

impl Finding {
    pub fn new(goal: &str, claim: &str, value: f64, unit: &str, bound: Bound) -> Self {
        let holds = match bound {
            Bound::AtLeast(least) => value >= least,
            Bound::AtMost(most) => value <= most,
        };
        Self { goal: goal.to_owned(), claim: claim.to_owned(), value, unit: unit.to_owned(), bound, holds, note: None }
    }

    pub fn ratio(goal: &str, claim: &str, value: f64, bound: Bound) -> Self {
        Self::new(goal, claim, value, "x", bound)
    }

    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    fn wanted(&self) -> String {
        match self.bound {
            Bound::AtLeast(least) => format!(">= {least} {}", self.unit),
            Bound::AtMost(most) => format!("<= {most} {}", self.unit),
        }
    }

    fn verdict(&self) -> &'static str {
        if self.holds { "holds" } else { "missed" }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wanted, verdict) = (self.wanted(), self.verdict());
        write!(f, "{} {}: {:.3} {} (goal {wanted}): {verdict}", self.goal, self.claim, self.value, self.unit)?;
        self.note.as_ref().map_or(Ok(()), |note| write!(f, "; {note}"))
    }
}

/// What one bench found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// For instance `g1`.
    pub bench: String,
    pub findings: Vec<Finding>,
    pub series: Vec<Series>,
    /// Peers that are not installed, and what else was left out.
    pub skipped: Vec<String>,
    /// Figures that no goal names.
    pub notes: Vec<String>,
    /// The product was slowed to this on purpose.
    pub slowed_to: Option<String>,
    /// A build without optimisation measures nothing.
    pub is_release: bool,
}

impl Outcome {
    /// Whether every goal that was measured holds.
    pub fn holds(&self) -> bool {
        self.findings.iter().all(|finding| finding.holds)
    }

    /// Keeps the figures as JSON below `folder`, and writes the table of all that is there.
    pub fn keep(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{}.json", self.bench)), serde_json::to_vec_pretty(self)?)?;
        std::fs::write(folder.join("table.md"), table(&read_all(folder)?))?;
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        for series in &self.series {
            let (name, pairs, spread) = (&series.name, series.pairs.len(), series.control_spread);
            let memory = series.product_peak_memory_kib >> 10;
            write!(f, "{name}: {pairs} pairs, control max/min {spread:.2}, product's peak memory {memory} MiB")?;
            writeln!(f, "{}", if series.noisy { ": the machine was noisy" } else { "" })?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        self.skipped.iter().try_for_each(|skipped| writeln!(f, "skipped: {skipped}"))?;
        if let Some(rate) = &self.slowed_to {
            writeln!(f, "the product was slowed on purpose to {rate}")?;
        }
        if !self.is_release {
            writeln!(f, "not a release build: the figures mean nothing")?;
        }
        Ok(())
    }
}

/// What earlier runs left, in the order of the goals.
fn read_all(folder: &Path) -> anyhow::Result<Vec<Outcome>> {
    let mut found: Vec<Outcome> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json")
            && let Ok(outcome) = serde_json::from_slice(&std::fs::read(&path)?)
        {
            found.push(outcome);
        }
    }
    let number = |outcome: &Outcome| outcome.bench.trim_start_matches('g').parse::<u32>().unwrap_or(u32::MAX);
    found.sort_by_key(number);
    Ok(found)
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from("| goal | measured | value | wanted | verdict |\n|---|---|---|---|---|\n");
    for outcome in outcomes {
        for finding in &outcome.findings {
            let slowed = outcome.slowed_to.as_ref().map_or(String::new(), |rate| format!(", slowed to {rate}"));
            let debug = if outcome.is_release { "" } else { ", no release build" };
            let note = finding.note.as_ref().map_or(String::new(), |note| format!("; {note}"));
            let (goal, claim, value, unit) = (&finding.goal, &finding.claim, finding.value, &finding.unit);
            let (wanted, verdict) = (finding.wanted(), finding.verdict());
            let _ =
                writeln!(text, "| {goal} | {claim}{slowed}{debug} | {value:.3} {unit} | {wanted} | {verdict}{note} |");
        }
        for skipped in &outcome.skipped {
            let _ = writeln!(text, "| {} | skipped: {skipped} | | | |", outcome.bench.to_uppercase());
        }
    }
    text
}

/// Of at least one value.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
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

    fn throughput(pairs: Vec<Pair>) -> Finding {
        Series::of("the control", pairs).throughput_at_least("G1", 0.9, 1.7)
    }

    #[test]
    fn the_median_of_pairwise_ratios_decides() {
        assert!(throughput(vec![pair(1.0, 1.0, 1.5), pair(1.2, 1.2, 1.6), pair(1.0, 9.0, 9.0)]).holds);
        let slow = throughput(vec![pair(1.0, 2.0, 1.5), pair(1.0, 2.0, 1.5)]);
        assert!(!slow.holds);
        assert!(slow.to_string().ends_with("missed"), "{slow}");
    }

    #[test]
    fn a_noisy_control_leaves_only_the_cpu_to_judge() {
        let cheap = throughput(vec![pair(1.0, 2.0, 1.5), pair(1.7, 2.0, 1.5)]);
        assert!(cheap.holds && cheap.to_string().contains("noisy"), "{cheap}");
        assert!(!throughput(vec![pair(1.0, 2.0, 1.8), pair(1.7, 2.0, 1.8)]).holds);
    }

    #[test]
    fn transfers_of_different_length_are_compared_by_rate() {
        let mut pair = pair(1.0, 2.0, 2.0);
        pair.product.bytes *= 2;
        assert_eq!((pair.throughput_ratio(), pair.cpu_ratio()), (1.0, 1.0));
    }

    #[test]
    fn the_table_holds_what_every_run_left() {
        let folder = tempfile::tempdir().unwrap();
        for (bench, value) in [("g10", 0.5), ("g2", 1.6)] {
            let findings = vec![Finding::ratio(bench, "something", value, Bound::AtLeast(1.0))];
            Outcome { bench: bench.to_owned(), findings, ..Outcome::default() }.keep(folder.path()).unwrap();
        }
        let table = std::fs::read_to_string(folder.path().join("table.md")).unwrap();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert!(rows[0].starts_with("| g2 |") && rows[0].contains("holds"), "{table}");
        assert!(rows[1].starts_with("| g10 |") && rows[1].contains("missed"), "{table}");
    }
}
