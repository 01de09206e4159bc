//! Somebody between apt and a node who changes one byte of what he likes.

use anyhow::Result;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Listens at `host` and passes everything to `node`; of answers whose path holds `what`, the middle byte is another.
/// Ends with the test's process.
pub fn start(host: &str, node: &str, what: &'static str) -> Result<String> {
    let listener = TcpListener::bind((host, 0))?;
    let at = listener.local_addr()?.to_string();
    let node = node.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let node = node.clone();
            std::thread::spawn(move || pass(client, &node, what));
        }
    });
    Ok(at)
}

/// One request a connection.
fn pass(mut client: TcpStream, node: &str, what: &str) -> Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    let mut path = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        if !line.to_ascii_lowercase().starts_with("connection:") {
            head.push_str(&line);
        }
    }
    head.push_str("Connection: close\r\n\r\n");
    let mut server = TcpStream::connect(node)?;
    server.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    if path.contains(what)
        && let Some(body) = answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
        && body < answer.len()
    {
        let middle = body + (answer.len() - body) / 2;
        answer[middle] ^= 1;
    }
    client.write_all(&answer)?;
    Ok(())
}
