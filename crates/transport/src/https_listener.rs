//! Accepts HTTPS connections of people's clients: the server shows the newest leaf of the internal CA, the client shows
//! nothing; who it is, its token says later.

use crate::listener::{Accepting, ListenLimits};
use crate::socket;
use sluice_identity::{Certificates, https_server_config};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// An encrypted connection of an unknown client.
#[derive(Debug)]
pub struct AcceptedHttps {
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    /// Where it comes from.
    pub remote: SocketAddr,
    /// Its place in the listener's connection cap: drop it with the stream.
    pub place: OwnedSemaphorePermit,
}

/// Accepts HTTPS connections.
pub struct HttpsListener {
    accepting: Accepting<AcceptedHttps>,
    acceptor: TlsAcceptor,
}

impl HttpsListener {
    /// Opens the socket. Needs a tokio runtime. What `certificates` is told later, later connections are shown.
    pub fn bind(address: SocketAddr, certificates: Arc<Certificates>, limits: ListenLimits) -> io::Result<Self> {
        let acceptor = TlsAcceptor::from(https_server_config(certificates));
        Ok(Self { accepting: Accepting::bind(address, limits)?, acceptor })
    }

    /// What it listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.accepting.listener.local_addr()
    }

    /// The next connection whose handshake succeeded. Dropping the future loses nothing.
    pub async fn accept(&mut self) -> AcceptedHttps {
        let (acceptor, link) = (&self.acceptor, self.accepting.limits.link);
        let begin = |tcp: TcpStream, remote: SocketAddr, place: OwnedSemaphorePermit| {
            let acceptor = acceptor.clone();
            async move {
                socket::tune(&tcp, link)?;
                Ok(AcceptedHttps { stream: acceptor.accept(tcp).await?, remote, place })
            }
        };
        self.accepting.next(begin).await
    }
}
