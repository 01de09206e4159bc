//! What users would pick instead, run as they would run it.

pub mod nginx;
pub mod torrent;

use anyhow::{Context, bail};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

/// Longest wait for a peer to listen.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// A server of someone else that ends with this value.
pub struct Running {
    child: Child,
    pub port: u16,
}

impl Running {
    /// Waits until it listens.
    fn listening(mut child: Child, port: u16) -> anyhow::Result<Self> {
        let began = crate::measure::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("it ended with {status} before it listened");
            }
            if began.elapsed() > START_TIMEOUT {
                child.kill()?;
                bail!("it did not listen within {} s", START_TIMEOUT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { child, port })
    }

    /// The process and its children: what a stopwatch watches.
    pub fn pids(&self) -> Vec<u32> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        std::iter::once(pid).chain(children).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM first: nginx then ends its workers.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("no port is free")?.local_addr()?.port())
}

/// The Python with the foreign clients (`cargo xtask setup` makes it).
pub fn python() -> PathBuf {
    match std::env::var_os("SLUICE_FOREIGN_PYTHON") {
        Some(python) => python.into(),
        None => sluice_xtask::cargo::target_dir().join("foreign-clients/bin/python"),
    }
}
