//! Seconds, CPU seconds and peak memory of one transfer: of this process, of children that it waited for, and of
//! servers that it watches.

use serde::{Deserialize, Serialize};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Linux counts CPU time of a process in hundredths of a second (USER_HZ).
const TICKS_PER_SEC: f64 = 100.0;
/// Between two looks at the memory of a child; its high-water mark is what is read.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What one transfer cost, both sides together.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub bytes: u64,
    pub seconds: f64,
    /// User and system time of all threads of all processes.
    pub cpu_seconds: f64,
    /// The high-water marks of the processes, added.
    pub peak_memory_kib: u64,
}

/// A transfer that began.
pub struct Stopwatch {
    began: Instant,
    cpu_began: f64,
    servers: Vec<u32>,
    children_peak_kib: u64,
    counts_itself: bool,
}

impl Stopwatch {
    /// Of this process and the children that it waits for meanwhile.
    pub fn start() -> anyhow::Result<Self> {
        let cpu_began = cpu_seconds("self")?;
        Ok(Self { began: now(), cpu_began, servers: Vec::new(), children_peak_kib: 0, counts_itself: true })
    }

    /// Of `servers` (processes that run already, their children named too) and the children that are run by
    /// [`Stopwatch::run`]; this process itself only starts and waits.
    pub fn of_others(servers: &[u32]) -> anyhow::Result<Self> {
        for pid in servers {
            forget_peak_memory(&pid.to_string());
        }
        let mut watch = Self {
            began: now(),
            cpu_began: 0.0,
            servers: servers.to_vec(),
            children_peak_kib: 0,
            counts_itself: false,
        };
        watch.cpu_began = watch.cpu()?;
        watch.began = now();
        Ok(watch)
    }

    /// Runs a client to its end and notes its peak memory.
    pub fn run(&mut self, command: &mut Command) -> anyhow::Result<ExitStatus> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let status = self.wait(&mut child)?;
        Ok(status)
    }

    fn wait(&mut self, child: &mut Child) -> anyhow::Result<ExitStatus> {
        let process = child.id().to_string();
        let mut peak = 0;
        loop {
            peak = peak_memory_kib(&process).unwrap_or(0).max(peak);
            if let Some(status) = child.try_wait()? {
                self.children_peak_kib += peak;
                return Ok(status);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub fn stop(self, bytes: u64) -> anyhow::Result<Measured> {
        let seconds = self.began.elapsed().as_secs_f64();
        let cpu_seconds = self.cpu()? - self.cpu_began;
        let own = if self.counts_itself { peak_memory_kib("self")? } else { 0 };
        let servers: u64 = self.servers.iter().filter_map(|pid| peak_memory_kib(&pid.to_string()).ok()).sum();
        Ok(Measured { bytes, seconds, cpu_seconds, peak_memory_kib: own + servers + self.children_peak_kib })
    }

    fn cpu(&self) -> anyhow::Result<f64> {
        let own = if self.counts_itself { cpu_seconds("self")? } else { children_cpu_seconds()? };
        let servers: f64 = self.servers.iter().filter_map(|pid| cpu_seconds(&pid.to_string()).ok()).sum();
        Ok(own + servers)
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
pub fn now() -> Instant {
    Instant::now()
}

/// User and system time of a process.
pub fn cpu_seconds(process: &str) -> anyhow::Result<f64> {
    ticks(process, 11)
}

/// User and system time of the children that this process waited for.
fn children_cpu_seconds() -> anyhow::Result<f64> {
    ticks("self", 13)
}

fn ticks(process: &str, skip: usize) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold spaces; utime and stime are fields 14 and 15, counted from the pid, and those of
    // children that were waited for 16 and 17.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(skip).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / TICKS_PER_SEC)
}

/// The most memory that a process ever had, or had since [`forget_peak_memory`].
pub fn peak_memory_kib(process: &str) -> anyhow::Result<u64> {
    status_kib(process, "VmHWM:")
}

fn status_kib(process: &str, field: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).ok_or_else(|| anyhow::anyhow!("no {field}"))?;
    Ok(kib.parse()?)
}

/// From now on the high-water mark counts again. A kernel that does not permit it keeps the old one.
pub fn forget_peak_memory(process: &str) {
    let _ = std::fs::write(format!("/proc/{process}/clear_refs"), "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_and_a_watched_server_are_counted_and_the_bench_itself_is_not() {
        let spin = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";
        let mut server = Command::new("sh").args(["-c", &format!("{spin}; exec sleep 20")]).spawn().unwrap();
        let mut watch = Stopwatch::of_others(&[server.id()]).unwrap();
        assert!(watch.run(Command::new("sh").args(["-c", spin])).unwrap().success());
        while cpu_seconds(&server.id().to_string()).unwrap() < 0.02 {
            std::thread::sleep(LOOK_EVERY);
        }
        let measured = watch.stop(1).unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(measured.cpu_seconds >= 0.04, "{measured:?}");
        assert!(measured.peak_memory_kib >= 500, "{measured:?}");
    }
}
