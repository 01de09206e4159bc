//! The attacker's server: gives out whatever it was told to, over plain HTTP and on device links with a stolen key.

use sluice_identity::DeviceKey;
use sluice_transport::{DeviceListener, ListenLimits};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Longest request head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// An endless answer ends here after all: what a client took by then says that it has no bound.
pub const ENDLESS_BYTES: u64 = 64 << 20;

/// What stands at a path.
#[derive(Clone)]
pub enum Reply {
    Bytes(Arc<[u8]>),
    /// Bytes without end and without an announced length.
    Endless,
}

#[derive(Default)]
struct Table {
    replies: Mutex<BTreeMap<String, Reply>>,
    endless_bytes: AtomicU64,
    asked: AtomicU64,
}

/// Listens until it is dropped.
pub struct Server {
    table: Arc<Table>,
    runtime: Runtime,
}

impl Server {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { table: Arc::default(), runtime }
    }

    /// Replaces everything that is served.
    pub fn serve(&self, replies: BTreeMap<String, Reply>) {
        *self.table.replies.lock().unwrap() = replies;
        self.table.endless_bytes.store(0, Ordering::SeqCst);
        self.table.asked.store(0, Ordering::SeqCst);
    }

    /// The most that one of our programs took of an endless answer on a device link. Foreign clients may drain on after
    /// they refused.
    pub fn endless_bytes(&self) -> u64 {
        self.table.endless_bytes.load(Ordering::SeqCst)
    }

    /// Requests since the last change.
    pub fn asked(&self) -> u64 {
        self.table.asked.load(Ordering::SeqCst)
    }

    /// Plain HTTP at `address`.
    pub fn listen_http(&self, address: SocketAddr) {
        let table = Arc::clone(&self.table);
        let listener = self.runtime.block_on(TcpListener::bind(address)).unwrap();
        self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(Arc::clone(&table), stream, false));
            }
        });
    }

    /// Device links at `address`, with a key that the clients expect there. Stops listening with what it returns.
    pub fn listen_device(&self, address: SocketAddr, key: &DeviceKey) -> DeviceGuard {
        let table = Arc::clone(&self.table);
        let _inside = self.runtime.enter();
        let mut listener = DeviceListener::bind(address, key, ListenLimits::default()).unwrap();
        let task = self.runtime.spawn(async move {
            loop {
                let accepted = listener.accept().await;
                tokio::spawn(answer(Arc::clone(&table), accepted.stream, true));
            }
        });
        DeviceGuard { task }
    }
}

pub struct DeviceGuard {
    task: tokio::task::JoinHandle<()>,
}

impl DeviceGuard {
    /// Closes the socket, so that another may listen there.
    pub fn close(self, server: &Server) {
        self.task.abort();
        let _ = server.runtime.block_on(self.task);
    }
}

/// One connection: requests one after the other.
async fn answer(table: Arc<Table>, mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, is_device: bool) {
    loop {
        let Some(head) = read_head(&mut stream).await else { return };
        table.asked.fetch_add(1, Ordering::SeqCst);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let reply = table.replies.lock().unwrap().get(&path).cloned();
        let sent = match reply {
            Some(Reply::Bytes(bytes)) if head.starts_with("GET") => send(&mut stream, &bytes).await,
            Some(Reply::Endless) => {
                endless(&table, &mut stream, is_device).await;
                return;
            }
            _ => stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await,
        };
        if sent.is_err() || stream.flush().await.is_err() || !head.starts_with("GET") {
            // What came behind the head of anything but a GET is not read.
            let _ = stream.shutdown().await;
            return;
        }
    }
}

async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX {
            return None;
        }
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn send(stream: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", bytes.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(bytes).await
}

async fn endless(table: &Table, stream: &mut (impl AsyncWriteExt + Unpin), is_device: bool) {
    let part = [b' '; 64 << 10];
    let mut sent = 0;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    while sent < ENDLESS_BYTES {
        if stream.write_all(&part).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        sent += part.len() as u64;
        if is_device {
            table.endless_bytes.fetch_max(sent, Ordering::SeqCst);
        }
    }
}
