//! What happens where UDP does not get through.

#![allow(clippy::unwrap_used, reason = "a test may unwrap")]

use sluice_identity::DeviceKey;
use sluice_transport::{Alpn, Carrier, DeviceListener, Dialer, LinkKind, ListenLimits};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// The UDP port of the same number is taken by somebody who never answers: as a firewall that drops.
#[tokio::test]
async fn tcp_carries_the_frames_within_five_seconds_and_at_once_the_next_time() {
    let (server, client) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut listener = DeviceListener::bind(any, &server, ListenLimits::default()).unwrap();
    let address = listener.local_addr().unwrap();
    let silent = UdpSocket::bind(address).unwrap();
    let dialer = Dialer::new(client, Carrier::Quic).unwrap();
    let mut took = Vec::new();
    for _ in 0..2 {
        let began = tokio::time::Instant::now();
        let dialling = dialer.connect(address, server.public(), Alpn::Exchange, LinkKind::Wan);
        let (connected, accepted) =
            tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(dialling, listener.accept()) })
                .await
                .unwrap();
        assert_eq!(accepted.alpn, Alpn::Exchange);
        connected.unwrap();
        took.push(began.elapsed());
    }
    println!("first {:?}, then {:?}", took[0], took[1]);
    assert!(took[1] < Duration::from_millis(1_000), "it was not remembered: {took:?}");
    let mut tried = [0; 2048];
    silent.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert!(silent.recv(&mut tried).unwrap() >= 1_200, "QUIC was never tried");
}

/// Then the caller hears of it, after both have given up.
#[tokio::test]
async fn nobody_there_is_an_error_over_both() {
    let (server, client) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dialer = Dialer::new(client, Carrier::Quic).unwrap();
    let attempt = dialer.connect(free, server.public(), Alpn::Exchange, LinkKind::Wan);
    assert!(tokio::time::timeout(Duration::from_secs(25), attempt).await.unwrap().is_err());
}
