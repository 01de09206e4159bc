//! Asks one address over and over on a connection of its own, and notes what was answered when.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

/// An answer that takes longer is no answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// One question and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// By the machine's clock, just before it was asked.
    pub asked_at: SystemTime,
    /// HTTP status.
    pub status: u16,
}

/// The status of a `GET` for one byte of `path` at `address`, on a connection that is kept in `connection`.
///
/// # Errors
/// No answer.
pub fn status(connection: &mut Option<BufReader<TcpStream>>, address: &str, path: &str) -> Result<u16> {
    let answer = ask(connection, address, path);
    if answer.is_err() {
        *connection = None;
    }
    answer
}

fn ask(connection: &mut Option<BufReader<TcpStream>>, address: &str, path: &str) -> Result<u16> {
    let reader = match connection {
        Some(reader) => reader,
        None => {
            let stream = TcpStream::connect(address).context("cannot connect")?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            connection.insert(BufReader::new(stream))
        }
    };
    write!(reader.get_mut(), "GET {path} HTTP/1.1\r\nhost: {address}\r\nrange: bytes=0-0\r\n\r\n")?;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status line")?;
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let text = line.trim().to_ascii_lowercase();
        if text.is_empty() {
            break;
        }
        if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
    Ok(status)
}

/// Asks every `every` until `enough` says so or `at_most` is over.
pub fn poll(
    address: &str,
    path: &str,
    every: Duration,
    at_most: Duration,
    mut enough: impl FnMut(&[Answered]) -> bool,
) -> Vec<Answered> {
    let begun = Instant::now();
    let mut answers = Vec::new();
    let mut connection = None;
    let mut next = begun;
    while begun.elapsed() < at_most && !enough(&answers) {
        let asked_at = SystemTime::now();
        if let Ok(status) = status(&mut connection, address, path) {
            answers.push(Answered { asked_at, status });
        }
        next += every;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    answers
}

/// How long until `address` answers `wanted` for `path`, from `since` on; `None`: not within `at_most`.
pub fn until(address: &str, path: &str, wanted: u16, since: Instant, at_most: Duration) -> Option<Duration> {
    let mut connection = None;
    while since.elapsed() < at_most {
        if status(&mut connection, address, path).is_ok_and(|status| status == wanted) {
            return Some(since.elapsed());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

/// A download that is read slowly on purpose.
pub struct SlowDownload {
    stream: TcpStream,
    /// Bytes that arrived, the head included.
    pub received: u64,
}

impl SlowDownload {
    /// Asks for all of `path` and reads a little.
    ///
    /// # Errors
    /// No answer.
    pub fn begin(address: &str, path: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
        let mut first = [0; 4096];
        let received = stream.read(&mut first)?;
        let head = String::from_utf8_lossy(&first[..received]).into_owned();
        anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "the download does not begin: {head}");
        Ok(Self { stream, received: received as u64 })
    }

    /// Reads on, `pause` after each 64 KiB, until the connection ends; the time of the end since `since`, `None` when it goes
    /// on for `at_most`.
    pub fn until_cut(&mut self, pause: Duration, since: Instant, at_most: Duration) -> Option<Duration> {
        let mut bytes = [0; 64 << 10];
        while since.elapsed() < at_most {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Some(since.elapsed()),
                Ok(count) => self.received += count as u64,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => return Some(since.elapsed()),
            }
            std::thread::sleep(pause);
        }
        None
    }
}
