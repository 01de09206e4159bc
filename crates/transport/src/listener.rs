//! Accepts device connections over TCP: handshakes at once but not too many, each in time, and a cap on how many live.

use crate::link::{Alpn, LinkKind};
use crate::socket;
use crate::stream::DeviceStream;
use sluice_identity::{DeviceKey, peer_key, server_config};
use sluice_model::MemberKey;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsStream};

/// What a server reads is small (requests, HTTP heads, reports), so a connection costs it little.
const SERVER_READ_BUFFER_BYTES: usize = 8 << 10;
/// After the system refused a connection (out of descriptors, say), so that it is not asked in a tight loop.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(50);

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenLimits {
    /// Connections alive at once, handshakes included; at the cap the kernel's queue fills and nothing is accepted.
    pub connections_max: usize,
    /// Handshakes at once: each may cost two signatures of CPU and hold a place for `handshake_timeout`.
    pub handshakes_max: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Whether peers come over the WAN: then BBR is asked for.
    pub link: LinkKind,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            handshakes_max: 64,
            handshake_timeout: Duration::from_secs(10),
            link: LinkKind::Wan,
        }
    }
}

/// A connection whose peer proved its key. Whether it may stay is the program's decision.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: DeviceStream,
    /// The key that the peer proved.
    pub peer: MemberKey,
    /// Where it comes from.
    pub remote: SocketAddr,
    /// What it wants to speak.
    pub alpn: Alpn,
}

/// Accepts device connections over TCP.
pub struct DeviceListener {
    accepting: Accepting<Accepted>,
    acceptor: TlsAcceptor,
}

impl DeviceListener {
    /// Opens the socket. Needs a tokio runtime.
    pub fn bind(address: SocketAddr, key: &DeviceKey, limits: ListenLimits) -> io::Result<Self> {
        let config = server_config(key, &[Alpn::Exchange.as_bytes(), Alpn::Http.as_bytes()]);
        Ok(Self { accepting: Accepting::bind(address, limits)?, acceptor: TlsAcceptor::from(config) })
    }

    /// What it listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.accepting.listener.local_addr()
    }

    /// The next connection whose handshake succeeded. Failed handshakes are logged and skipped. Dropping the future
    /// loses nothing; handshakes go on meanwhile.
    pub async fn accept(&mut self) -> Accepted {
        let (acceptor, link) = (&self.acceptor, self.accepting.limits.link);
        self.accepting.next(|tcp, remote, permit| handshake(acceptor.clone(), tcp, remote, permit, link)).await
    }
}

/// A socket and the handshakes that are under way on it: at once but not too many, each in time.
pub(crate) struct Accepting<T> {
    pub(crate) listener: TcpListener,
    pub(crate) limits: ListenLimits,
    places: Arc<Semaphore>,
    handshakes: JoinSet<Result<T, (SocketAddr, io::Error)>>,
}

impl<T: Send + 'static> Accepting<T> {
    pub(crate) fn bind(address: SocketAddr, limits: ListenLimits) -> io::Result<Self> {
        Ok(Self {
            listener: socket::listen(address, limits.link)?,
            places: Arc::new(Semaphore::new(limits.connections_max)),
            limits,
            handshakes: JoinSet::new(),
        })
    }

    /// The next connection whose handshake succeeded; `handshake` begins one. Dropping the future loses nothing.
    pub(crate) async fn next<F>(&mut self, handshake: impl Fn(TcpStream, SocketAddr, OwnedSemaphorePermit) -> F) -> T
    where
        F: Future<Output = io::Result<T>> + Send + 'static,
    {
        loop {
            let may_begin = self.handshakes.len() < self.limits.handshakes_max;
            tokio::select! {
                Some(done) = self.handshakes.join_next(), if !self.handshakes.is_empty() => match done {
                    Ok(Ok(accepted)) => return accepted,
                    Ok(Err((remote, error))) => tracing::debug!(%remote, %error, "a handshake failed"),
                    Err(error) => tracing::error!(%error, "a handshake ended by panic"),
                },
                begun = begin(&self.listener, &self.places), if may_begin => match begun {
                    Ok((tcp, remote, permit)) => self.begin_handshake(handshake(tcp, remote, permit), remote),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept connections");
                        tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
                    }
                },
            }
        }
    }

    fn begin_handshake(&mut self, handshake: impl Future<Output = io::Result<T>> + Send + 'static, remote: SocketAddr) {
        let timeout = self.limits.handshake_timeout;
        self.handshakes.spawn(async move {
            match tokio::time::timeout(timeout, handshake).await {
                Ok(result) => result.map_err(|error| (remote, error)),
                Err(_) => Err((remote, io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))),
            }
        });
    }
}

/// A place first, then a connection: at the cap nothing is taken from the kernel. Dropping the future loses neither.
async fn begin(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    let (tcp, remote) = listener.accept().await?;
    Ok((tcp, remote, permit))
}

async fn handshake(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    remote: SocketAddr,
    permit: OwnedSemaphorePermit,
    link: LinkKind,
) -> io::Result<Accepted> {
    socket::tune(&tcp, link)?;
    let tls = acceptor.accept(BufReader::with_capacity(SERVER_READ_BUFFER_BYTES, tcp)).await?;
    let session = tls.get_ref().1;
    let peer = peer_key(session.peer_certificates().unwrap_or_default()).map_err(io::Error::other)?;
    let alpn = Alpn::from_negotiated(session.alpn_protocol());
    let stream = DeviceStream::over_tls(TlsStream::Server(tls), Some(permit));
    Ok(Accepted { stream, peer, remote, alpn })
}
