//! The second carrier: the same frames over one bidirectional stream of a QUIC connection, BBR in user space.

use crate::connect::{CONNECT_TIMEOUT, ConnectError};
use crate::link::Alpn;
use crate::listener::{Accepted, ListenLimits};
use crate::stream::DeviceStream;
use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, Incoming, ServerConfig, TransportConfig, VarInt};
use sluice_identity::{DeviceKey, client_config_noting, peer_key, server_config};
use sluice_model::MemberKey;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// The name in the handshake; raw keys are pinned, so it says nothing.
const SERVER_NAME: &str = "device";
/// What a receiver of bulk lets the sender have in flight: 100 Mbit/s at 600 ms, and what keeps BBR busy.
const RECEIVE_WINDOW_BYTES: u32 = 8 << 20;
/// What a server lets a client send ahead: 1,024 requests.
const REQUEST_WINDOW_BYTES: u32 = 64 << 10;
/// A silent connection is probed, and given up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Handshake data buffered before a connection is accepted; a client's first flight is about 2 KiB.
const INCOMING_BUFFER_BYTES: u64 = 16 << 10;
const INCOMING_BUFFER_TOTAL_BYTES: u64 = 1 << 20;

/// A QUIC connection and its one stream.
#[derive(Debug)]
pub(crate) struct QuicStream {
    send: quinn::SendStream,
    recv: BufReader<quinn::RecvStream>,
    /// Closes the connection when it is dropped with the streams.
    _connection: quinn::Connection,
}

impl QuicStream {
    fn new(connection: quinn::Connection, (send, recv): (quinn::SendStream, quinn::RecvStream)) -> Self {
        Self { send, recv: BufReader::with_capacity(16 << 10, recv), _connection: connection }
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.recv).poll_read(cx, buf)
    }
}

impl AsyncBufRead for QuicStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().recv).poll_fill_buf(cx)
    }

    fn consume(mut self: Pin<&mut Self>, bytes: usize) {
        Pin::new(&mut self.recv).consume(bytes);
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_shutdown(cx)
    }
}

/// Calls devices over QUIC from one UDP socket for each address family.
#[derive(Clone, Debug)]
pub(crate) struct QuicDialer {
    key: DeviceKey,
    v4: Endpoint,
    /// Absent on a machine without IPv6.
    v6: Option<Endpoint>,
}

impl QuicDialer {
    pub(crate) fn new(key: DeviceKey) -> io::Result<Self> {
        let v4 = Endpoint::client(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        let v6 = Endpoint::client(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).ok();
        Ok(Self { key, v4, v6 })
    }

    pub(crate) async fn connect(&self, address: SocketAddr, expected: MemberKey) -> Result<DeviceStream, ConnectError> {
        let (tls, refused) = client_config_noting(&self.key, expected, &[Alpn::Exchange.as_bytes()]);
        let attempt = async {
            let connecting = self.endpoint(address)?.connect_with(quic_config(tls)?, address, SERVER_NAME);
            let connection = connecting.map_err(io::Error::other)?.await?;
            let streams = connection.open_bi().await?;
            tracing::debug!(%address, congestion_control = "bbr", "connected over QUIC");
            Ok(DeviceStream::over_quic(QuicStream::new(connection, streams), None))
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(result) => result.map_err(|error| match refused.get() {
                Some(source) => ConnectError::WrongKey { address, source },
                None => ConnectError::of(address, error),
            }),
            Err(_) => Err(ConnectError::Timeout { address, after: CONNECT_TIMEOUT }),
        }
    }

    fn endpoint(&self, address: SocketAddr) -> io::Result<&Endpoint> {
        if address.is_ipv4() {
            return Ok(&self.v4);
        }
        self.v6.as_ref().ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "this machine has no IPv6"))
    }
}

fn quic_config(tls: Arc<tokio_rustls::rustls::ClientConfig>) -> io::Result<ClientConfig> {
    let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport(0, RECEIVE_WINDOW_BYTES)));
    Ok(config)
}

/// Accepts exchange connections over QUIC.
pub struct QuicListener {
    endpoint: Endpoint,
    limits: ListenLimits,
    places: Arc<Semaphore>,
    handshakes: JoinSet<Result<Accepted, (SocketAddr, io::Error)>>,
}

impl QuicListener {
    /// Opens the UDP socket. Needs a tokio runtime.
    pub fn bind(address: SocketAddr, key: &DeviceKey, limits: ListenLimits) -> io::Result<Self> {
        let tls = server_config(key, &[Alpn::Exchange.as_bytes()]);
        let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(Arc::new(transport(1, REQUEST_WINDOW_BYTES)))
            .max_incoming(limits.handshakes_max)
            .incoming_buffer_size(INCOMING_BUFFER_BYTES)
            .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL_BYTES)
            .migration(false);
        let endpoint = Endpoint::server(config, address)?;
        tracing::info!(address = %endpoint.local_addr()?, congestion_control = "bbr", "QUIC exchange listener");
        let places = Arc::new(Semaphore::new(limits.connections_max));
        Ok(Self { endpoint, limits, places, handshakes: JoinSet::new() })
    }

    /// What it listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next connection whose handshake succeeded and whose stream was opened. Dropping the future loses nothing.
    pub async fn accept(&mut self) -> Accepted {
        loop {
            let may_begin = self.handshakes.len() < self.limits.handshakes_max;
            tokio::select! {
                Some(done) = self.handshakes.join_next(), if !self.handshakes.is_empty() => match done {
                    Ok(Ok(accepted)) => return accepted,
                    Ok(Err((remote, error))) => tracing::debug!(%remote, %error, "QUIC handshake failed"),
                    Err(error) => tracing::error!(%error, "a QUIC handshake ended by panic"),
                },
                incoming = self.endpoint.accept(), if may_begin => match incoming {
                    Some(incoming) => self.begin_handshake(incoming),
                    // Only after the endpoint was closed, which nobody but this listener can do.
                    None => std::future::pending().await,
                },
            }
        }
    }

    /// Above half load a client first proves that it receives at its address; at the cap it is turned away.
    fn begin_handshake(&mut self, incoming: Incoming) {
        let remote = incoming.remote_address();
        let busy = self.handshakes.len() > self.limits.handshakes_max / 2
            || self.places.available_permits() < self.limits.connections_max / 2;
        if busy && incoming.may_retry() {
            if let Err(error) = incoming.retry() {
                tracing::debug!(%remote, %error, "QUIC retry not sent");
            }
            return;
        }
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            incoming.refuse();
            return;
        };
        let timeout = self.limits.handshake_timeout;
        self.handshakes.spawn(async move {
            match tokio::time::timeout(timeout, handshake(incoming, permit)).await {
                Ok(result) => result.map_err(|error| (remote, error)),
                Err(_) => Err((remote, io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))),
            }
        });
    }
}

impl Drop for QuicListener {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
    }
}

async fn handshake(incoming: Incoming, permit: OwnedSemaphorePermit) -> io::Result<Accepted> {
    let remote = incoming.remote_address();
    let connection = incoming.accept()?.await?;
    let shown = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let peer = peer_key(&shown.unwrap_or_default()).map_err(io::Error::other)?;
    let streams = connection.accept_bi().await?;
    let stream = DeviceStream::over_quic(QuicStream::new(connection, streams), Some(permit));
    Ok(Accepted { stream, peer, remote, alpn: Alpn::Exchange })
}

/// quinn's defaults lowered to what one stream of frames needs; GSO and MTU stay as they are.
fn transport(incoming_streams_max: u32, receive_window_bytes: u32) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(incoming_streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(receive_window_bytes))
        .receive_window(VarInt::from_u32(receive_window_bytes))
        .send_window(u64::from(RECEIVE_WINDOW_BYTES))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("a minute fits")))
        .congestion_controller_factory(Arc::new(BbrConfig::default()));
    config
}
