//! Whole exchanges over loopback, over both carriers.

#![allow(clippy::unwrap_used, reason = "a test may unwrap")]

mod support;

use sluice_exchange::evidence::hash_sent;
use sluice_exchange::frame::{Ask, Refusal, Request};
use sluice_model::{ManifestId, MemberKey};
use sluice_transport::{Carrier, ClientError, ExchangeEvent, SendRequestError, trailer_holds};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::*;

const LENGTHS: [usize; 8] = [1 << 20, 300_000, 1, 65_536, 16_384, 700_001, 4 << 20, 99_999];

async fn fetch_everything(carrier: Carrier) {
    let source = Arc::new(MemorySource::new(&LENGTHS));
    let mut pair = pair(Setup::over(carrier), source).await;
    for request in [
        Request { id: 1, ask: Ask::Manifest { manifest: MANIFEST } },
        chunks(2, 0, 5),
        chunks(3, 5, 3),
        Request { id: 4, ask: Ask::Have { artifact: ARTIFACT } },
    ] {
        pair.client.request(request).await.unwrap();
    }
    let (mut seen, mut frames, mut ended) = (BTreeSet::new(), 0, BTreeSet::new());
    while ended.len() < 4 {
        match next(&mut pair.events).await {
            ExchangeEvent::Manifest { request_id: 1, manifest: MANIFEST, bytes, frame_bytes, peer } => {
                assert_eq!((&bytes[..], frame_bytes), (&b"a manifest"[..], 26));
                assert_eq!(peer, pair.server_key.public());
                ended.insert(1);
            }
            ExchangeEvent::Have { request_id: 4, bytes, .. } => {
                assert_eq!(&bytes[..], b"a bitmap");
                ended.insert(4);
            }
            ExchangeEvent::Chunk { request_id, artifact, index, bytes, frame_bytes, trailer, last, peer } => {
                assert_eq!(bytes, chunk(index, LENGTHS[index as usize]));
                assert_eq!(frame_bytes, bytes.len() as u64 + 16 + 64);
                let receiver = pair.client_key.public();
                let (sent, trailer) = (hash_sent(&bytes), trailer.unwrap());
                assert!(trailer_holds(&peer, &receiver, &artifact, index, &sent, &trailer));
                assert!(!trailer_holds(&peer, &receiver, &artifact, index + 1, &sent, &trailer));
                assert!(!trailer_holds(&peer, &peer, &artifact, index, &sent, &trailer));
                assert!(!trailer_holds(&receiver, &receiver, &artifact, index, &sent, &trailer));
                assert!(seen.insert(index));
                frames += frame_bytes;
                if last {
                    ended.insert(request_id);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen.len(), LENGTHS.len());
    assert_eq!(pair.received.chunk_frame_bytes(), frames);
    assert_eq!(pair.received.metadata_frame_bytes(), 26 + 24);
    assert_eq!(pair.received.read_bytes(), frames + 26 + 24);
    assert_eq!(pair.received.chunks(), 8);
    assert_eq!(pair.served.chunk_frame_bytes(), frames);
    assert_eq!(pair.served.sent_bytes(), frames + 26 + 24);
    assert_eq!((pair.served.requests(), pair.served.chunks()), (4, 8));
    drop(pair.client);
    assert!(matches!(next(&mut pair.events).await, ExchangeEvent::Closed { error: None, .. }));
    while let Some(ended) = pair.tasks.join_next().await {
        ended.unwrap().unwrap();
    }
}

#[tokio::test]
async fn everything_that_is_asked_for_comes_once_over_tcp() {
    fetch_everything(Carrier::Tcp).await;
}

#[tokio::test]
async fn everything_that_is_asked_for_comes_once_over_quic() {
    fetch_everything(Carrier::Quic).await;
}

#[tokio::test]
async fn what_is_not_here_and_what_is_refused_is_said() {
    for carrier in [Carrier::Tcp, Carrier::Quic] {
        let mut pair = pair(Setup::over(carrier), Arc::new(MemorySource::new(&[10, 20]))).await;
        let retracted = Ask::Chunks { artifact: RETRACTED, first: 0, count: 64, window_ms: 0, insists: false };
        pair.client.request(Request { id: 7, ask: retracted }).await.unwrap();
        match next(&mut pair.events).await {
            ExchangeEvent::Refused { request_id: 7, refusal: Refusal::Retracted, .. } => {}
            other => panic!("{other:?}"),
        }
        // The same id may be used again: what is left of the refused request answers nothing.
        pair.client.request(chunks(7, 1, 2)).await.unwrap();
        pair.client
            .request(Request { id: 8, ask: Ask::Manifest { manifest: ManifestId::from_bytes([0; 32]) } })
            .await
            .unwrap();
        let mut said = Vec::new();
        for _ in 0..3 {
            said.push(match next(&mut pair.events).await {
                ExchangeEvent::Chunk { request_id, index, .. } => (request_id, index, true),
                ExchangeEvent::NotHere { request_id, index, .. } => (request_id, index, false),
                other => panic!("{other:?}"),
            });
        }
        said.sort();
        assert_eq!(said, [(7, 1, true), (7, 2, false), (8, 0, false)]);
        assert_eq!((pair.served.refused(), pair.served.not_here()), (1, 2));
    }
}

#[tokio::test]
async fn a_chunk_that_is_being_fetched_is_waited_for_and_delays_no_other() {
    let source = Arc::new(MemorySource::new(&[10, 20, 30]));
    let held = source.chunks.lock().unwrap().remove(&0).unwrap();
    source.coming.lock().unwrap().insert(0);
    let mut pair = pair(Setup::over(Carrier::Tcp), Arc::clone(&source)).await;
    pair.client.request(waiting_chunks(1, 0, 3, 20_000)).await.unwrap();
    let mut order = Vec::new();
    while order.len() < 3 {
        match next(&mut pair.events).await {
            ExchangeEvent::Chunk { index, last, .. } => {
                order.push(index);
                assert_eq!(last, order.len() == 3);
            }
            other => panic!("{other:?}"),
        }
        if order.len() == 2 {
            source.arrive(0, held.clone());
        }
    }
    assert_eq!(order[2], 0);
}

#[tokio::test]
async fn waiting_ends_with_the_window() {
    let source = Arc::new(MemorySource::new(&[10]));
    source.coming.lock().unwrap().extend([1, 2]);
    let mut setup = Setup::over(Carrier::Tcp);
    setup.serve_limits.wait_max = Duration::from_millis(300);
    let mut pair = pair(setup, source).await;
    let began = tokio::time::Instant::now();
    pair.client.request(waiting_chunks(1, 1, 1, 100)).await.unwrap();
    pair.client.request(waiting_chunks(2, 2, 1, 60_000)).await.unwrap();
    for (request, at_least) in [(1, 100), (2, 300)] {
        match next(&mut pair.events).await {
            ExchangeEvent::NotHere { request_id, last: true, .. } => assert_eq!(request_id, request),
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() >= Duration::from_millis(at_least), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_wrong_byte_comes_with_its_senders_signature_on_it() {
    let mut source = MemorySource::new(&[5_000]);
    source.wrong_byte_in = Some(0);
    let mut pair = pair(Setup::over(Carrier::Tcp), Arc::new(source)).await;
    pair.client.request(chunks(1, 0, 1)).await.unwrap();
    let ExchangeEvent::Chunk { peer, artifact, index, bytes, trailer, .. } = next(&mut pair.events).await else {
        panic!("a chunk")
    };
    assert_ne!(bytes, chunk(0, 5_000));
    let receiver = pair.client_key.public();
    let trailer = trailer.unwrap();
    assert!(trailer_holds(&peer, &receiver, &artifact, index, &hash_sent(&bytes), &trailer), "evidence");
    let right = hash_sent(&chunk(0, 5_000));
    assert!(!trailer_holds(&peer, &receiver, &artifact, index, &right, &trailer), "nothing against the right bytes");
}

#[tokio::test]
async fn trailers_can_be_left_out() {
    let mut setup = Setup::over(Carrier::Tcp);
    setup.signed = false;
    let mut pair = pair(setup, Arc::new(MemorySource::new(&[100]))).await;
    pair.client.request(chunks(1, 0, 1)).await.unwrap();
    match next(&mut pair.events).await {
        ExchangeEvent::Chunk { trailer: None, frame_bytes: 116, last: true, .. } => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_holds_at_most_two_chunks_however_much_is_asked() {
    let source = Arc::new(MemorySource::new(&[100_000; 200]));
    let mut pair = pair(Setup::over(Carrier::Tcp), Arc::clone(&source)).await;
    for id in 0..8 {
        pair.client.request(chunks(id, (id % 3) * 64, 64)).await.unwrap();
    }
    for _ in 0..8 * 64 {
        assert!(matches!(next(&mut pair.events).await, ExchangeEvent::Chunk { .. }));
    }
    assert_eq!(source.alive_most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_cancelled_server_cuts_and_the_client_names_what_is_unanswered() {
    let source = Arc::new(MemorySource::new(&[10]));
    source.coming.lock().unwrap().insert(5);
    let mut pair = pair(Setup::over(Carrier::Tcp), source).await;
    pair.client.request(waiting_chunks(42, 5, 1, 60_000)).await.unwrap();
    pair.client.request(chunks(1, 0, 1)).await.unwrap();
    assert!(matches!(next(&mut pair.events).await, ExchangeEvent::Chunk { .. }));
    pair.cancel_server.cancel();
    match next(&mut pair.events).await {
        ExchangeEvent::Closed { unanswered, error: Some(ClientError::ClosedEarly { unanswered: 1 }), .. } => {
            assert_eq!(unanswered, [42]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(pair.client.request(chunks(2, 0, 1)).await, Err(SendRequestError::Closed));
    assert!(!pair.client.is_open());
}

#[tokio::test]
async fn a_request_that_is_taken_back_ends_at_once_and_nobody_waits_for_it() {
    for carrier in [Carrier::Tcp, Carrier::Quic] {
        let source = Arc::new(MemorySource::new(&[10, 20]));
        let held = source.chunks.lock().unwrap().remove(&0).unwrap();
        source.coming.lock().unwrap().insert(0);
        let mut pair = pair(Setup::over(carrier), Arc::clone(&source)).await;
        pair.client.request(waiting_chunks(1, 0, 1, 20_000)).await.unwrap();
        pair.client.request(chunks(2, 1, 1)).await.unwrap();
        assert!(matches!(next(&mut pair.events).await, ExchangeEvent::Chunk { request_id: 2, .. }));
        assert_eq!(source.arrived.receiver_count(), 1, "the first one waits");
        pair.client.request(Request { id: 1, ask: Ask::Cancel }).await.unwrap();
        match next(&mut pair.events).await {
            ExchangeEvent::Refused { request_id: 1, refusal: Refusal::Cancelled, .. } => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(source.arrived.receiver_count(), 0);
        // One that was answered, and one that never was: nothing to take back. The chunk does not come later.
        pair.client.request(Request { id: 2, ask: Ask::Cancel }).await.unwrap();
        pair.client.request(Request { id: 9, ask: Ask::Cancel }).await.unwrap();
        source.arrive(0, held);
        pair.client.request(chunks(3, 1, 1)).await.unwrap();
        assert!(matches!(next(&mut pair.events).await, ExchangeEvent::Chunk { request_id: 3, .. }));
    }
}

#[tokio::test]
async fn a_member_that_has_the_chunk_is_named_unless_the_asker_insists() {
    let source = Arc::new(MemorySource::new(&[10]));
    *source.at_member.lock().unwrap() = Some(MemberKey::from_bytes([7; 32]));
    let mut pair = pair(Setup::over(Carrier::Tcp), Arc::clone(&source)).await;
    pair.client.request(chunks(1, 0, 1)).await.unwrap();
    match next(&mut pair.events).await {
        ExchangeEvent::Elsewhere { request_id: 1, index: 0, member, last: true, .. } => {
            assert_eq!(member, MemberKey::from_bytes([7; 32]));
        }
        other => panic!("{other:?}"),
    }
    let insists = Ask::Chunks { artifact: ARTIFACT, first: 0, count: 1, window_ms: 0, insists: true };
    pair.client.request(Request { id: 2, ask: insists }).await.unwrap();
    assert!(matches!(next(&mut pair.events).await, ExchangeEvent::Chunk { request_id: 2, .. }));
}
