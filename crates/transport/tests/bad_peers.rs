//! Peers that lie, stall, drip, or speak something else.

#![allow(clippy::unwrap_used, reason = "a test may unwrap")]

mod support;

use sluice_exchange::frame::{Ask, FrameError, HELLO, Reply, ReplyHeader, Request};
use sluice_identity::DeviceKey;
use sluice_transport::{
    Alpn, Carrier, ClientError, ClientLimits, ConnectError, DeviceListener, Dialer, ExchangeClient, ExchangeEvent,
    LinkKind, ListenLimits, ReceiveCounters, ServeCounters, ServeError, ServeLimits, ServeOptions, connect,
    serve_exchange,
};
use std::sync::Arc;
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

struct Ended {
    error: Option<ClientError>,
    unanswered: Vec<u32>,
    received: Arc<ReceiveCounters>,
    other_events: usize,
}

/// A client that asks for chunks 0..4 of request 9, and a server that writes `parts` with pauses and then holds still.
async fn client_of(parts: Vec<Vec<u8>>, pause: Duration, then_close: bool) -> Ended {
    let link = link_saying(Carrier::Tcp, b"").await;
    let (events_in, mut events) = mpsc::channel(16);
    let received = Arc::new(ReceiveCounters::default());
    let limits = ClientLimits {
        stall_timeout: Duration::from_millis(400),
        frame_timeout: Duration::from_millis(900),
        idle_timeout: Duration::from_secs(5),
    };
    let (client, connection) = ExchangeClient::new(
        link.connected,
        link.server_key.public(),
        limits,
        Vec::new(),
        Arc::clone(&received),
        events_in,
    );
    client.request(chunks(9, 0, 4)).await.unwrap();
    let mut server = link.accepted.stream;
    let serving = async move {
        let mut asked = [0; 72];
        server.read_exact(&mut asked).await.unwrap();
        assert_eq!(asked[..8], HELLO);
        for part in parts {
            if server.write_all(&part).await.is_err() || server.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        if then_close {
            let _ = server.shutdown().await;
        }
        // Holds the connection open until the other side is done.
        let _ = server.read(&mut asked).await;
    };
    let listening = async {
        let mut other_events = 0;
        loop {
            match events.recv().await.expect("Closed is the last event") {
                ExchangeEvent::Closed { error, unanswered, .. } => return (error, unanswered, other_events),
                _ => other_events += 1,
            }
        }
    };
    let (_, (error, unanswered, other_events), ()) =
        tokio::join!(connection.run(CancellationToken::new()), listening, serving);
    Ended { error, unanswered, received, other_events }
}

fn header(request_id: u32, index: u32, length: u32) -> Vec<u8> {
    ReplyHeader { request_id, reply: Reply::Chunk { index, trailer: false }, length }.encode().to_vec()
}

#[tokio::test]
async fn a_reply_of_another_version_ends_the_connection() {
    let mut wrong = header(9, 0, 10);
    wrong[0] = 2;
    let ended = client_of(vec![wrong], Duration::ZERO, false).await;
    let error = ended.error.unwrap();
    assert!(matches!(error, ClientError::Frame(FrameError::UnknownVersion { got: 2 })), "{error}");
    assert!(error.is_misbehaviour());
    assert_eq!(ended.unanswered, [9]);
}

#[tokio::test]
async fn an_oversize_length_is_refused_before_anything_of_the_body_is_read() {
    let mut wrong = header(9, 0, 10);
    wrong[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    wrong.extend_from_slice(&[0; 5_000]);
    let ended = client_of(vec![wrong], Duration::ZERO, false).await;
    assert!(matches!(ended.error, Some(ClientError::Frame(FrameError::TooLarge { .. }))), "{:?}", ended.error);
    assert_eq!(ended.received.read_bytes(), 16);
}

#[tokio::test]
async fn garbage_ends_the_connection() {
    let garbage = b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(100);
    let ended = client_of(vec![garbage], Duration::ZERO, false).await;
    assert!(ended.error.unwrap().is_misbehaviour());
}

#[tokio::test]
async fn a_reply_that_nobody_asked_for_ends_the_connection() {
    let once = [header(9, 1, 3), b"abc".to_vec()].concat();
    let twice = [once.clone(), once.clone()].concat();
    for (bytes, events) in [(header(8, 0, 3), 0), (header(9, 4, 3), 0), (twice, 1)] {
        let ended = client_of(vec![bytes], Duration::ZERO, false).await;
        assert!(matches!(ended.error, Some(ClientError::Unasked { .. })), "{:?}", ended.error);
        assert_eq!(ended.other_events, events);
    }
    let manifest = ReplyHeader { request_id: 9, reply: Reply::Manifest, length: 1 }.encode().to_vec();
    let ended = client_of(vec![manifest], Duration::ZERO, false).await;
    assert!(matches!(ended.error, Some(ClientError::Unasked { request_id: 9 })), "{:?}", ended.error);
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let ended = client_of(vec![], Duration::ZERO, false).await;
    assert!(matches!(ended.error, Some(ClientError::Stalled { .. })), "{:?}", ended.error);
    let ended = client_of(vec![[header(9, 0, 1_000_000), vec![0; 500]].concat()], Duration::ZERO, false).await;
    assert!(matches!(ended.error, Some(ClientError::Stalled { .. })), "{:?}", ended.error);
}

#[tokio::test]
async fn a_dripping_peer_is_given_up() {
    let mut parts = vec![header(9, 0, 1_000_000)];
    parts.extend(std::iter::repeat_n(vec![0; 10], 100));
    let ended = client_of(parts, Duration::from_millis(50), false).await;
    assert!(matches!(ended.error, Some(ClientError::Dripped { .. })), "{:?}", ended.error);
}

#[tokio::test]
async fn a_frame_that_was_cut_is_counted_as_far_as_it_came() {
    let ended = client_of(vec![[header(9, 0, 1 << 20), vec![7; 300_000]].concat()], Duration::ZERO, true).await;
    assert!(matches!(ended.error, Some(ClientError::ClosedEarly { unanswered: 1 })), "{:?}", ended.error);
    assert_eq!(ended.received.read_bytes(), 300_016);
    assert_eq!(ended.received.chunk_frame_bytes(), 300_016);
    assert_eq!((ended.received.chunks(), ended.other_events), (0, 0));
}

/// A server of two chunks, and a client that writes `bytes` and reads until the end when `read`.
async fn server_of(bytes: &[u8], limits: ServeLimits, read: bool) -> (Result<(), ServeError>, Arc<ServeCounters>) {
    let link = link_saying(Carrier::Tcp, bytes).await;
    let counters = Arc::new(ServeCounters::default());
    let options = ServeOptions { limits, pace: Vec::new(), sign_with: None, counters: Arc::clone(&counters) };
    let source = Arc::new(MemorySource::new(&[4 << 20; 64]));
    let mut client = link.connected;
    let reading = async {
        let mut sink = vec![0; 65_536];
        while read && client.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        client
    };
    let serving = serve_exchange(link.accepted.stream, link.accepted.peer, source, &options, CancellationToken::new());
    let (ended, _client) = tokio::join!(serving, reading);
    (ended, counters)
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_cut() {
    let request = chunks(1, 0, 1).encode();
    let mut later = HELLO;
    later[4] = 2;
    let mut later_request = request;
    later_request[0] = 9;
    let mut too_many = request;
    too_many[44..48].copy_from_slice(&65u32.to_be_bytes());
    let waits =
        Request { id: 1, ask: Ask::Chunks { artifact: ARTIFACT, first: 0, count: 60, window_ms: 0, insists: false } }
            .encode();
    let cases: [(Vec<u8>, &str); 5] = [
        (later.to_vec(), "UnknownVersion { got: 2 }"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "NotAHello"),
        ([&HELLO[..], &later_request].concat(), "UnknownVersion { got: 9 }"),
        ([&HELLO[..], &too_many].concat(), "TooLarge"),
        ([&HELLO[..], &waits, &waits].concat(), "DuplicateRequest"),
    ];
    for (bytes, expected) in cases {
        let (ended, _) = server_of(&bytes, ServeLimits::default(), true).await;
        let error = ended.unwrap_err();
        assert!(error.is_misbehaviour() && format!("{error:?}").contains(expected), "{error:?} for {expected}");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_or_says_nothing_is_given_up() {
    let limits = ServeLimits { stall_timeout: Duration::from_millis(300), ..ServeLimits::default() };
    let (ended, counters) = server_of(&[&HELLO[..], &chunks(1, 0, 64).encode()].concat(), limits, false).await;
    assert!(matches!(ended, Err(ServeError::Stalled { .. })), "{ended:?}");
    assert!(counters.sent_bytes() > 0 && counters.chunks() < 64);
    let (ended, _) = server_of(&HELLO[..4], limits, false).await;
    assert!(matches!(ended, Err(ServeError::Stalled { .. })), "{ended:?}");
    let limits = ServeLimits { idle_timeout: Duration::from_millis(200), ..ServeLimits::default() };
    let (ended, _) = server_of(&HELLO, limits, false).await;
    assert!(ended.is_ok(), "an idle client is only let go: {ended:?}");
}

#[tokio::test]
async fn connections_that_never_shake_hands_keep_nobody_out_for_long() {
    let key = DeviceKey::generate().unwrap();
    let limits =
        ListenLimits { handshakes_max: 4, handshake_timeout: Duration::from_millis(300), ..ListenLimits::default() };
    let mut listener = DeviceListener::bind("127.0.0.1:0".parse().unwrap(), &key, limits).unwrap();
    let address = listener.local_addr().unwrap();
    let mut silent = Vec::new();
    for _ in 0..12 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let client = DeviceKey::generate().unwrap();
    let (accepted, connected) =
        tokio::join!(listener.accept(), connect(address, &client, key.public(), Alpn::Http, LinkKind::Lan));
    connected.unwrap();
    assert_eq!((accepted.peer, accepted.alpn), (client.public(), Alpn::Http));
}

#[tokio::test]
async fn at_the_cap_a_connection_waits_until_another_ends() {
    let key = DeviceKey::generate().unwrap();
    let limits = ListenLimits { connections_max: 1, ..ListenLimits::default() };
    let mut listener = DeviceListener::bind("127.0.0.1:0".parse().unwrap(), &key, limits).unwrap();
    let address = listener.local_addr().unwrap();
    let client = DeviceKey::generate().unwrap();
    let connecting = || connect(address, &client, key.public(), Alpn::Http, LinkKind::Lan);
    let (first, connected) = tokio::join!(listener.accept(), connecting());
    let _first_client = connected.unwrap();
    let both = async { tokio::join!(listener.accept(), connecting()) };
    tokio::pin!(both);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut both).await.is_err());
    drop(first);
    let (_second, connected) = both.await;
    connected.unwrap();
}

#[tokio::test]
async fn a_device_with_another_key_is_not_talked_to() {
    for carrier in [Carrier::Tcp, Carrier::Quic] {
        let (key, client, other) =
            (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
        let mut listener = Listener::bind(carrier, &key);
        let address = listener.local_addr();
        let dialer = Dialer::new(client, carrier).unwrap();
        let error = tokio::select! {
            result = dialer.connect(address, other.public(), Alpn::Exchange, LinkKind::Wan) => result.unwrap_err(),
            _ = listener.accept() => panic!("accepted"),
        };
        match (carrier, error) {
            (_, ConnectError::WrongKey { source, .. }) => {
                assert_eq!((source.expected, source.got), (other.public(), key.public()));
            }
            (_, error) => panic!("{carrier}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn nobody_there_is_an_io_error() {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = DeviceKey::generate().unwrap();
    let error = connect(unused, &client, client.public(), Alpn::Exchange, LinkKind::Lan).await.unwrap_err();
    assert!(matches!(error, ConnectError::Io { .. }), "{error}");
}
