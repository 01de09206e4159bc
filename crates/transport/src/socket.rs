//! TCP sockets: no delay, keepalive, and BBR towards the WAN where the kernel permits it.

use crate::LinkKind;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that the kernel queues before they are accepted.
const BACKLOG: u32 = 1024;
/// A silent peer is probed after this long, this often, so many times: gone after about a minute and a half.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(45);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;

/// Opens a listening socket. Accepted connections inherit its congestion control.
pub(crate) fn listen(address: SocketAddr, link: LinkKind) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let congestion_control = prefer_bbr(&listener, link);
    tracing::info!(address = %listener.local_addr()?, ?link, congestion_control, "TLS listener");
    Ok(listener)
}

/// Sets what every device connection wants; returns the congestion control in force.
pub(crate) fn tune(stream: &TcpStream, link: LinkKind) -> io::Result<String> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    rustix::net::sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    rustix::net::sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    rustix::net::sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(prefer_bbr(stream, link))
}

/// Asks for BBR on a WAN link; a kernel that does not permit it keeps its own choice. Returns what is in force.
fn prefer_bbr(socket: &impl AsFd, link: LinkKind) -> String {
    if link == LinkKind::Wan
        && let Err(error) = rustix::net::sockopt::set_tcp_congestion(socket, "bbr")
    {
        tracing::debug!(%error, "the kernel does not permit BBR here");
    }
    rustix::net::sockopt::tcp_congestion(socket).unwrap_or_else(|_| "unknown".to_owned())
}
