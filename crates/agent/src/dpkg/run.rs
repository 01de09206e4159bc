//! Runs one invocation to its end: output in order and bounded, a deadline, no signal of ours in between.

use super::DpkgError;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// What is kept of a transaction's output: its end, where dpkg sums up.
const WORDS_BYTES_MAX: usize = 64 << 10;
/// Longest whole answer of a query: 20,000 packages of 120 bytes are 2.4 MB.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Between asking an overdue dpkg to stop and killing it.
const KILL_GRACE: Duration = Duration::from_secs(10);
/// For output that a left-over child of a maintainer script still holds open.
const DRAIN_MAX: Duration = Duration::from_millis(500);
/// Where dpkg and maintainer scripts find what they need.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A finished invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Exit status 0, in time.
    pub success: bool,
    /// Standard output and error as they came, the end of them.
    pub words: String,
}

/// Runs and keeps the end of the output.
pub(super) async fn run(program: &Path, arguments: &[OsString], at_most: Duration) -> Result<Ran, DpkgError> {
    run_kept(program, arguments, at_most, WORDS_BYTES_MAX).await
}

/// Runs and keeps all of the output, up to a large bound.
pub(super) async fn run_whole(program: &Path, arguments: &[OsString], at_most: Duration) -> Result<Ran, DpkgError> {
    run_kept(program, arguments, at_most, ANSWER_BYTES_MAX).await
}

async fn run_kept(
    program: &Path,
    arguments: &[OsString],
    at_most: Duration,
    kept_bytes_max: usize,
) -> Result<Ran, DpkgError> {
    let (reader, writer) = std::io::pipe().map_err(DpkgError::Prepare)?;
    let mut output = Receiver::from_owned_fd(reader.into()).map_err(DpkgError::Prepare)?;
    let mut child = start(program, arguments, writer)?;
    let mut words = Vec::new();
    let mut deadline = Instant::now() + at_most;
    let mut overdue = 0;
    let mut buffer = vec![0u8; 16 << 10];
    let mut is_open = true;
    let status = loop {
        tokio::select! {
            read = output.read(&mut buffer), if is_open => match read {
                Ok(0) | Err(_) => is_open = false,
                Ok(got) => keep(&mut words, &buffer[..got], kept_bytes_max),
            },
            status = child.wait() => break status.map_err(DpkgError::Prepare)?,
            () = tokio::time::sleep_until(deadline) => {
                stop(&child, if overdue == 0 { Signal::TERM } else { Signal::KILL });
                overdue += 1;
                deadline = Instant::now() + KILL_GRACE;
            }
        }
    };
    if is_open {
        drain(&mut output, &mut words, kept_bytes_max).await;
    }
    let mut words = String::from_utf8_lossy(&words).into_owned();
    if overdue > 0 {
        words.push_str(&format!("\nstopped: no end after {} s\n", at_most.as_secs()));
    }
    Ok(Ran { success: status.success() && overdue == 0, words })
}

/// In a process group of its own, so that a signal to the agent's group does not reach dpkg.
fn start(program: &Path, arguments: &[OsString], writer: std::io::PipeWriter) -> Result<Child, DpkgError> {
    let second = writer.try_clone().map_err(DpkgError::Prepare)?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(second)
        .stderr(writer)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DEBCONF_NONINTERACTIVE_SEEN", "true")
        .process_group(0)
        .spawn()
        .map_err(|source| DpkgError::Start { program: program.to_owned(), source })
}

fn stop(child: &Child, signal: Signal) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = id {
        // It may have ended just now; then there is nothing to stop.
        let _ = kill_process_group(group, signal);
    }
}

async fn drain(output: &mut Receiver, words: &mut Vec<u8>, kept_bytes_max: usize) {
    let mut buffer = vec![0u8; 16 << 10];
    let rest = async {
        while let Ok(got @ 1..) = output.read(&mut buffer).await {
            keep(words, &buffer[..got], kept_bytes_max);
        }
    };
    let _ = tokio::time::timeout(DRAIN_MAX, rest).await;
}

/// Appends; above twice the bound the beginning is dropped.
fn keep(words: &mut Vec<u8>, more: &[u8], kept_bytes_max: usize) {
    words.extend_from_slice(more);
    if words.len() > 2 * kept_bytes_max {
        words.drain(..words.len() - kept_bytes_max);
    }
}
