//! Seconds, CPU seconds and peak memory of one transfer in this process.

use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Linux counts CPU time of a process in hundredths of a second (USER_HZ).
const TICKS_PER_SEC: f64 = 100.0;

/// What one transfer cost, both sides together.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub bytes: u64,
    pub seconds: f64,
    /// User and system time of all threads.
    pub cpu_seconds: f64,
    pub peak_memory_kib: u64,
}

/// A transfer that began.
pub struct Stopwatch {
    began: Instant,
    cpu_began: f64,
}

impl Stopwatch {
    pub fn start() -> anyhow::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "a bench measures time")]
        let began = Instant::now();
        Ok(Self { began, cpu_began: cpu_seconds()? })
    }

    pub fn stop(self, bytes: u64) -> anyhow::Result<Measured> {
        let seconds = self.began.elapsed().as_secs_f64();
        let cpu_seconds = cpu_seconds()? - self.cpu_began;
        Ok(Measured { bytes, seconds, cpu_seconds, peak_memory_kib: peak_memory_kib()? })
    }
}

fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold spaces; utime and stime are fields 14 and 15, counted from the pid.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / TICKS_PER_SEC)
}

fn peak_memory_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).ok_or_else(|| anyhow::anyhow!("no VmHWM"))?;
    Ok(kib.parse()?)
}
