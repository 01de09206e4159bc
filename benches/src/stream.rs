//! One plain TCP connection between two processes: the control of G8.

use crate::measure::{Measured, Stopwatch, now};
use anyhow::{Context, bail, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Longest wait for the sender to listen.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends `bytes` to the first that connects.
pub fn send(address: SocketAddr, bytes: u64) -> anyhow::Result<()> {
    let (mut stream, _) = TcpListener::bind(address).context("cannot listen")?.accept()?;
    let block = vec![0x5a; 256 << 10];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(block.len() as u64) as usize;
        stream.write_all(&block[..now])?;
        left -= now as u64;
    }
    // Read to the end, so that closing does not cut what is under way.
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Receives them; time runs from the connection.
pub fn receive(address: SocketAddr, bytes: u64) -> anyhow::Result<Measured> {
    let began = now();
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) if began.elapsed() > CONNECT_TIMEOUT => bail!("cannot connect to {address}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let watch = Stopwatch::start()?;
    let mut block = vec![0; 256 << 10];
    let mut got = 0;
    loop {
        match stream.read(&mut block)? {
            0 => break,
            read => got += read as u64,
        }
    }
    ensure!(got == bytes, "{got} of {bytes} bytes came");
    watch.stop(bytes)
}
