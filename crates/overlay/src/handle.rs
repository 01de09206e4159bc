//! Opening the overlay, and the program's end of it.

use crate::behaviour::{self, Behaviour, member_of};
use crate::task::{Command, OverlayTask};
use crate::{MessageId, OverlayEvent, Verdict};
use futures::StreamExt;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::SwarmEvent;
use libp2p::{Swarm, TransportError};
use sluice_model::MemberKey;
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::sync::{mpsc, oneshot, watch};
use zeroize::Zeroizing;

/// Commands that wait for the task: a roster change makes one for each member that has addresses.
const COMMANDS_MAX: usize = 256;
/// Events that wait for the program. Small: beyond it the swarm is not polled, and peers feel it.
const EVENTS_MAX: usize = 64;

/// What the overlay is opened with.
pub struct OverlayConfig {
    /// Seed of the device key.
    pub seed: Zeroizing<[u8; 32]>,
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Topics to take part in.
    pub topics: Vec<String>,
}

/// Why the overlay failed.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The key cannot be used.
    #[error("the device key cannot be used on the overlay")]
    Key,
    /// The gossip configuration is inconsistent.
    #[error("the overlay cannot be set up: {0}")]
    Gossip(String),
    /// The port is taken or the address is not ours.
    #[error("cannot listen for the overlay on {address}; choose another address or stop what uses it")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The listener ended.
    #[error("the overlay's listener ended")]
    ListenerClosed(#[source] Option<io::Error>),
    /// The message was not sent to anybody.
    #[error("the message was not sent: {0}")]
    Publish(String),
    /// The overlay's task has ended.
    #[error("the overlay is closed: the program is stopping")]
    Closed,
}

/// Opens the overlay.
pub struct Overlay;

impl Overlay {
    /// Listens at once; the task must run for anything to happen.
    ///
    /// Nobody may connect until [`OverlayHandle::set_allowed`] was called.
    pub async fn open(
        config: OverlayConfig,
    ) -> Result<(OverlayHandle, OverlayTask, mpsc::Receiver<OverlayEvent>), OverlayError> {
        let mut swarm = behaviour::swarm(&config.seed, &config.topics)?;
        listen(&mut swarm, config.listen)?;
        let addresses = first_addresses(&mut swarm, config.listen).await?;
        let local = member_of(swarm.local_peer_id()).ok_or(OverlayError::Key)?;
        let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
        let (events, event_queue) = mpsc::channel(EVENTS_MAX);
        let (addresses_sender, addresses) = watch::channel(addresses);
        let task = OverlayTask::new(swarm, command_queue, events, addresses_sender);
        Ok((OverlayHandle { commands, addresses, local }, task, event_queue))
    }
}

fn listen(swarm: &mut Swarm<Behaviour>, address: SocketAddr) -> Result<(), OverlayError> {
    let failed = |source| OverlayError::Listen { address, source };
    if address.port() != 0 {
        // libp2p listens with SO_REUSEPORT, so two programs would share the port without a word.
        drop(std::net::TcpListener::bind(address).map_err(failed)?);
    }
    swarm.listen_on(multiaddr(address)).map_err(|error| match error {
        TransportError::Other(source) => failed(source),
        TransportError::MultiaddrNotSupported(_) => failed(io::Error::from(io::ErrorKind::Unsupported)),
    })?;
    Ok(())
}

/// Polls until the first address is known; a wildcard's others follow while the task runs.
async fn first_addresses(swarm: &mut Swarm<Behaviour>, listen: SocketAddr) -> Result<Vec<SocketAddr>, OverlayError> {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some(address) = socket_addr(&address) {
                    return Ok(vec![address]);
                }
            }
            SwarmEvent::ListenerClosed { reason, .. } => {
                return Err(OverlayError::Listen {
                    address: listen,
                    source: reason.err().unwrap_or_else(|| io::ErrorKind::NotConnected.into()),
                });
            }
            _ => {}
        }
    }
}

pub(crate) fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

pub(crate) fn socket_addr(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// The program's end. Cheap to clone. Every call fails with [`OverlayError::Closed`] once the task has ended.
#[derive(Clone, Debug)]
pub struct OverlayHandle {
    commands: mpsc::Sender<Command>,
    addresses: watch::Receiver<Vec<SocketAddr>>,
    local: MemberKey,
}

impl OverlayHandle {
    /// Sends `bytes` to every connected member that takes part in `topic`.
    ///
    /// # Errors
    /// [`OverlayError::Publish`] when nobody is connected or the message is too large.
    pub async fn publish(&self, topic: &str, bytes: Vec<u8>) -> Result<(), OverlayError> {
        let (done, result) = oneshot::channel();
        self.send(Command::Publish { topic: topic.to_owned(), bytes, done }).await?;
        result.await.map_err(|_| OverlayError::Closed)?
    }

    /// Gives the verdict on a message; it is forwarded only when accepted.
    pub async fn judge(&self, id: MessageId, verdict: Verdict) -> Result<(), OverlayError> {
        self.send(Command::Judge { id, verdict }).await
    }

    /// Only `members` may hold a connection from now on; others are disconnected at once, and their addresses forgotten.
    pub async fn set_allowed(&self, members: Vec<MemberKey>) -> Result<(), OverlayError> {
        self.send(Command::SetAllowed(members)).await
    }

    /// Keeps a connection to `member` at these addresses, for as long as it is allowed; no addresses: only wait for it.
    pub async fn dial(&self, member: MemberKey, addresses: Vec<SocketAddr>) -> Result<(), OverlayError> {
        self.send(Command::Dial { member, addresses }).await
    }

    /// Where it listens; a wildcard address is resolved to those of the machine as they become known.
    pub fn listen_addresses(&self) -> Vec<SocketAddr> {
        self.addresses.borrow().clone()
    }

    /// Our own key.
    pub fn local(&self) -> MemberKey {
        self.local
    }

    async fn send(&self, command: Command) -> Result<(), OverlayError> {
        self.commands.send(command).await.map_err(|_| OverlayError::Closed)
    }
}
