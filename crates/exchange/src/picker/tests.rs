//! What one picker says, word by word. What a site of pickers achieves is in `crates/sim`.

use super::*;

/// A picker of one chunk that it leads, with one peer.
fn with_peer() -> (Picker, MemberKey, Instant) {
    let (me, peer, now) = (MemberKey::from_bytes([2; 32]), MemberKey::from_bytes([1; 32]), start());
    let chunk = ChunkSpec { id: ChunkId::from_bytes([3; 32]), length: 1 << 20 };
    let window = OriginWindow { bytes: 4 << 20, requests_min: 2 };
    let mut picker = Picker::new(me, vec![chunk], &[false], window, now);
    picker.set_members(&[(peer, Link::Unknown)], now);
    picker.on_link(Source::Origin, Link::Up, now);
    picker.want_all();
    picker.on_link(Source::Peer(peer), Link::Up, now);
    (picker, peer, now)
}

#[expect(clippy::disallowed_methods, reason = "only differences to this instant are ever looked at")]
fn start() -> Instant {
    Instant::now()
}

#[test]
fn a_peer_that_sends_slowly_is_waited_for() {
    let (mut picker, peer, now) = with_peer();
    let mut actions = Vec::new();
    picker.advance(now, &mut actions);
    picker.on_have(peer, crate::have::Have { progress: 0, here: vec![true], fetching: vec![false] }, now);
    actions.clear();
    picker.advance(now, &mut actions);
    assert_eq!(actions, [Action::Request { from: Source::Peer(peer), index: 0, insists: false }]);
    actions.clear();
    for tenths in 1..600 {
        picker.on_progress(Source::Peer(peer), now + Duration::from_millis(tenths * 100));
        picker.advance(now + Duration::from_millis(tenths * 100), &mut actions);
    }
    assert!(actions.iter().all(|action| matches!(action, Action::AskHave { .. })), "{actions:?}");
}

#[test]
fn a_leader_that_said_no_and_now_fetches_is_asked_again() {
    let (mut picker, peer, now) = with_peer();
    let have = |fetching| crate::have::Have { progress: 0, here: vec![false], fetching: vec![fetching] };
    let mut actions = Vec::new();
    picker.advance(now, &mut actions);
    picker.on_have(peer, have(true), now);
    picker.advance(now, &mut actions);
    let asked = Action::Request { from: Source::Peer(peer), index: 0, insists: false };
    assert_eq!(actions.pop(), Some(asked.clone()));
    let now = now + Duration::from_millis(1);
    picker.on_not_here(Source::Peer(peer), 0, now);
    actions.clear();
    picker.advance(now, &mut actions);
    assert_eq!(actions, [Action::AskHave { peer }], "its word is asked for before the origin is");
    picker.on_have(peer, have(true), now);
    actions.clear();
    picker.advance(now, &mut actions);
    assert_eq!(actions, [asked]);
}
