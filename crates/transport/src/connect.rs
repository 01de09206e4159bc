//! Calls another device whose key is known.

use crate::link::{Alpn, Carrier, LinkKind};
use crate::quic::QuicDialer;
use crate::socket;
use crate::stream::DeviceStream;
use crate::unreached::Unreached;
use sluice_identity::{DeviceKey, WrongServerKey, client_config, wrong_server_key};
use sluice_model::MemberKey;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsConnector, TlsStream};

/// How long a connection may take, handshake included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// So long QUIC may try alone before TCP is tried beside it: twice the round trip of the longest links, and less than the
/// shortest patience of a caller.
const UDP_HEAD_START: Duration = Duration::from_millis(1_500);
/// Bulk arrives at the client: four records of TLS for one system call.
const CLIENT_READ_BUFFER_BYTES: usize = 64 << 10;

/// Which congestion control is in force is worth one line in the log, not one for each connection.
static WAN_SAID: Once = Once::new();

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered, or not in the way of a device.
    #[error("cannot connect to {address}")]
    Io {
        /// Whom.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    #[error("{address} did not finish a handshake within {} s", after.as_secs())]
    Timeout {
        /// Whom.
        address: SocketAddr,
        /// How long it had.
        after: Duration,
    },
    /// Somebody else answered.
    #[error("{address} is not the expected device")]
    WrongKey {
        /// Whom.
        address: SocketAddr,
        /// Both keys.
        source: WrongServerKey,
    },
}

impl ConnectError {
    pub(crate) fn of(address: SocketAddr, source: io::Error) -> Self {
        match wrong_server_key(&source) {
            Some(source) => Self::WrongKey { address, source },
            None => Self::Io { address, source },
        }
    }
}

/// Connects over TCP to the device that owns `expected`; any other key is refused. Dropping the future closes it.
pub async fn connect(
    address: SocketAddr,
    key: &DeviceKey,
    expected: MemberKey,
    alpn: Alpn,
    link: LinkKind,
) -> Result<DeviceStream, ConnectError> {
    let attempt = async {
        let tcp = TcpStream::connect(address).await?;
        let congestion_control = socket::tune(&tcp, link)?;
        let connector = TlsConnector::from(client_config(key, expected, &[alpn.as_bytes()]));
        let buffered = BufReader::with_capacity(CLIENT_READ_BUFFER_BYTES, tcp);
        let tls = connector.connect(ServerName::from(address.ip()), buffered).await?;
        tracing::debug!(%address, ?link, ?alpn, congestion_control, "connected over TCP");
        if link == LinkKind::Wan {
            WAN_SAID.call_once(|| tracing::info!(congestion_control, "congestion control towards the WAN"));
        }
        Ok(DeviceStream::over_tls(TlsStream::Client(tls), None))
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
        Ok(result) => result.map_err(|source| ConnectError::of(address, source)),
        Err(_) => Err(ConnectError::Timeout { address, after: CONNECT_TIMEOUT }),
    }
}

/// Opens connections over the carrier that the settings chose; HTTP always goes over TCP. Where QUIC does not get through,
/// TCP carries the frames, and is remembered for the address. Cheap to clone; clones share what they remember.
#[derive(Clone, Debug)]
pub struct Dialer {
    key: DeviceKey,
    quic: Option<QuicDialer>,
    unreached: Arc<Unreached>,
}

impl Dialer {
    /// Needs a tokio runtime; QUIC opens one UDP socket here.
    pub fn new(key: DeviceKey, carrier: Carrier) -> io::Result<Self> {
        let quic = match carrier {
            Carrier::Tcp => None,
            Carrier::Quic => Some(QuicDialer::new(key.clone())?),
        };
        Ok(Self { key, quic, unreached: Arc::default() })
    }

    /// Connects to the device that owns `expected`; any other key is refused. Dropping the future closes it.
    pub async fn connect(
        &self,
        address: SocketAddr,
        expected: MemberKey,
        alpn: Alpn,
        link: LinkKind,
    ) -> Result<DeviceStream, ConnectError> {
        let over_tcp = connect(address, &self.key, expected, alpn, link);
        match &self.quic {
            Some(quic) if alpn == Alpn::Exchange && !self.unreached.contains(&address, now()) => {
                self.connect_either(address, quic.connect(address, expected), over_tcp).await
            }
            _ => over_tcp.await,
        }
    }

    /// QUIC, with TCP beside it when QUIC has not answered after its head start.
    async fn connect_either(
        &self,
        address: SocketAddr,
        over_udp: impl Future<Output = Result<DeviceStream, ConnectError>>,
        over_tcp: impl Future<Output = Result<DeviceStream, ConnectError>>,
    ) -> Result<DeviceStream, ConnectError> {
        tokio::pin!(over_udp, over_tcp);
        match tokio::time::timeout(UDP_HEAD_START, &mut over_udp).await {
            Ok(Ok(stream)) => return Ok(stream),
            // Somebody else lives there: that is said, whatever else answers.
            Ok(Err(error @ ConnectError::WrongKey { .. })) => return Err(error),
            Ok(Err(_)) => return self.over_tcp_alone(address, over_tcp.await),
            Err(_) => {}
        }
        tokio::select! {
            biased;
            result = &mut over_udp => match result {
                Ok(stream) => Ok(stream),
                Err(_) => self.over_tcp_alone(address, over_tcp.await),
            },
            result = &mut over_tcp => match result {
                Ok(stream) => self.over_tcp_alone(address, Ok(stream)),
                Err(_) => over_udp.await,
            },
        }
    }

    fn over_tcp_alone(
        &self,
        address: SocketAddr,
        result: Result<DeviceStream, ConnectError>,
    ) -> Result<DeviceStream, ConnectError> {
        if result.is_ok() && self.unreached.note(address, now()) {
            tracing::info!(%address, carrier = "tcp", "QUIC does not get through: TCP carries the exchange");
        }
        result
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
