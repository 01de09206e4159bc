//! Three overlays on loopback, with real sockets.

#![allow(clippy::unwrap_used)]

use sluice_model::MemberKey;
use sluice_overlay::{Overlay, OverlayConfig, OverlayEvent, OverlayHandle, Verdict};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

const TOPIC: &str = "sluice/test/metadata/1";
const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    handle: OverlayHandle,
    events: mpsc::Receiver<OverlayEvent>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Running {
    async fn start(seed: u8) -> Self {
        Self::start_at(seed, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn start_at(seed: u8, listen: SocketAddr) -> Self {
        let config = OverlayConfig { seed: Zeroizing::new([seed; 32]), listen, topics: vec![TOPIC.into()] };
        let (handle, task, events) = Overlay::open(config).await.unwrap();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let token = stop.clone();
        tasks.spawn(async move { task.run(token).await.unwrap() });
        Self { handle, events, tasks, stop }
    }

    fn key(&self) -> MemberKey {
        self.handle.local()
    }

    fn address(&self) -> SocketAddr {
        self.handle.listen_addresses()[0]
    }

    async fn allow(&self, others: &[&Running]) {
        self.handle.set_allowed(others.iter().map(|other| other.key()).collect()).await.unwrap();
    }

    async fn dial(&self, other: &Running) {
        self.handle.dial(other.key(), vec![other.address()]).await.unwrap();
    }

    async fn event(&mut self) -> OverlayEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event comes in time").expect("running")
    }

    async fn until(&mut self, wanted: &OverlayEvent) {
        while self.event().await != *wanted {}
    }

    /// The next message; the verdict on it is still due.
    async fn message(&mut self) -> (MemberKey, sluice_overlay::MessageId, Vec<u8>) {
        loop {
            if let OverlayEvent::Gossip { from, id, bytes, .. } = self.event().await {
                return (from, id, bytes);
            }
        }
    }

    /// Publishes until somebody is subscribed: subscriptions travel just after a connection is up.
    async fn publish(&self, bytes: &[u8]) {
        let publish = async {
            while self.handle.publish(TOPIC, bytes.to_vec()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, publish).await.expect("a subscriber appears in time");
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// a - b - c, where a and c do not know each other.
async fn chain() -> (Running, Running, Running) {
    let (mut a, mut b, mut c) = (Running::start(1).await, Running::start(2).await, Running::start(3).await);
    a.allow(&[&b]).await;
    // Authors that are not listed are ignored, so c lists a, but has no address of it.
    b.allow(&[&a, &c]).await;
    c.allow(&[&a, &b]).await;
    a.dial(&b).await;
    c.dial(&b).await;
    a.until(&OverlayEvent::Up(b.key())).await;
    c.until(&OverlayEvent::Up(b.key())).await;
    let (key_a, key_c) = (a.key(), c.key());
    let mut up = Vec::new();
    while up.len() < 2 {
        if let OverlayEvent::Up(key) = b.event().await {
            up.push(key);
        }
    }
    assert!(up.contains(&key_a) && up.contains(&key_c));
    (a, b, c)
}

#[tokio::test]
async fn a_message_goes_on_only_after_it_was_accepted() {
    let (a, mut b, mut c) = chain().await;

    a.publish(b"rejected").await;
    let (from, rejected, bytes) = b.message().await;
    assert_eq!((from, bytes.as_slice()), (a.key(), &b"rejected"[..]));
    b.handle.judge(rejected, Verdict::Reject).await.unwrap();

    a.publish(b"ignored").await;
    let (_, ignored, _) = b.message().await;
    b.handle.judge(ignored, Verdict::Ignore).await.unwrap();

    // Forwarding goes to the mesh, which forms within a heartbeat or two: publish until one comes through.
    let (arrived, first) = tokio::time::timeout(PATIENCE, async {
        let mut number = 0;
        loop {
            number += 1;
            a.publish(format!("accepted {number}").as_bytes()).await;
            let (_, id, _) = b.message().await;
            b.handle.judge(id, Verdict::Accept).await.unwrap();
            match tokio::time::timeout(Duration::from_millis(500), c.message()).await {
                Ok((from, _, bytes)) => return (from, bytes),
                Err(_) => continue,
            }
        }
    })
    .await
    .expect("an accepted message is forwarded");
    assert_eq!(arrived, a.key(), "the author is told, not the forwarder");
    assert!(first.starts_with(b"accepted"), "the first that came through is an accepted one");
    for running in [a, b, c] {
        running.stop().await;
    }
}

#[tokio::test]
async fn a_key_that_is_not_listed_gets_no_connection() {
    let (mut a, mut b) = (Running::start(11).await, Running::start(12).await);
    let mut stranger = Running::start(13).await;
    a.allow(&[&b]).await;
    b.allow(&[&a]).await;
    stranger.allow(&[&a]).await;
    stranger.dial(&a).await;
    // The stranger sees its handshake end and the connection close behind it, again and again.
    stranger.until(&OverlayEvent::Down(a.key())).await;
    stranger.until(&OverlayEvent::Down(a.key())).await;
    b.dial(&a).await;
    assert_eq!(a.event().await, OverlayEvent::Up(b.key()), "the stranger was never up here");
    b.until(&OverlayEvent::Up(a.key())).await;

    b.publish(b"hello").await;
    let (from, ..) = a.message().await;
    assert_eq!(from, b.key());
}

#[tokio::test]
async fn a_key_that_leaves_the_list_is_cut_off_while_connected() {
    let (mut a, mut b, c) = chain().await;
    b.allow(&[&c]).await;
    b.until(&OverlayEvent::Down(a.key())).await;
    a.until(&OverlayEvent::Down(b.key())).await;
    // It dials again and is refused again; listed once more, it comes back by itself.
    a.until(&OverlayEvent::Down(b.key())).await;
    b.allow(&[&a, &c]).await;
    b.until(&OverlayEvent::Up(a.key())).await;
}

#[tokio::test]
async fn a_member_that_restarts_is_found_again() {
    let (mut a, b) = (Running::start(21).await, Running::start(22).await);
    a.allow(&[&b]).await;
    b.allow(&[&a]).await;
    a.dial(&b).await;
    let (key, address) = (b.key(), b.address());
    a.until(&OverlayEvent::Up(key)).await;
    b.stop().await;
    a.until(&OverlayEvent::Down(key)).await;

    let mut b = Running::start_at(22, address).await;
    b.allow(&[&a]).await;
    a.until(&OverlayEvent::Up(key)).await;
    b.publish(b"back").await;
    let (from, _, bytes) = a.message().await;
    assert_eq!((from, bytes.as_slice()), (key, &b"back"[..]));
    b.until(&OverlayEvent::Up(a.key())).await;
}

#[tokio::test]
async fn a_program_that_does_not_read_its_events_loses_none() {
    let (mut a, b) = (Running::start(31).await, Running::start(32).await);
    a.allow(&[&b]).await;
    b.allow(&[&a]).await;
    b.dial(&a).await;
    a.until(&OverlayEvent::Up(b.key())).await;
    // More than the event queue holds; the sender's own queue for this peer takes the rest.
    for number in 0..100u8 {
        b.publish(&[number]).await;
    }
    for number in 0..100u8 {
        let (_, id, bytes) = a.message().await;
        assert_eq!(bytes, [number]);
        a.handle.judge(id, Verdict::Accept).await.unwrap();
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let a = Running::start(41).await;
    let config = OverlayConfig { seed: Zeroizing::new([42; 32]), listen: a.address(), topics: vec![TOPIC.into()] };
    let Err(error) = Overlay::open(config).await else { panic!("two programs share a port") };
    assert!(error.to_string().contains(&a.address().to_string()), "{error}");
}
