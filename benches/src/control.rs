//! The control: plain TCP, one connection, sendfile on one side, BLAKE3 for each chunk and pwrite on the other.

use crate::data::Data;
use crate::measure::{Measured, Stopwatch};
use anyhow::{Context, ensure};
use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;

/// Moves the artifact.
pub fn transfer(data: &Data) -> anyhow::Result<Measured> {
    let target = data.target()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let stopwatch = Stopwatch::start()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&listener, &data.source, data.manifest.length()));
        receive(TcpStream::connect(address)?, data, &target)?;
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?
    })?;
    stopwatch.stop(data.manifest.length())
}

fn send(listener: &TcpListener, source: &File, length: u64) -> anyhow::Result<()> {
    let (socket, _) = listener.accept()?;
    let mut offset = 0;
    while offset < length {
        let left = usize::try_from(length - offset)?;
        let sent = rustix::fs::sendfile(&socket, source, Some(&mut offset), left).context("sendfile")?;
        ensure!(sent > 0, "the artifact ended early");
    }
    Ok(())
}

fn receive(mut socket: TcpStream, data: &Data, target: &File) -> anyhow::Result<()> {
    let manifest = &data.manifest;
    let mut buffer = Vec::new();
    for idx in 0..manifest.chunk_count() {
        buffer.resize(manifest.chunk_length(idx) as usize, 0);
        socket.read_exact(&mut buffer)?;
        manifest.verify(idx, &buffer)?;
        target.write_all_at(&buffer, manifest.range(idx).start)?;
    }
    Ok(())
}
