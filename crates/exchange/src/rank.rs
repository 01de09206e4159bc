//! Which member of a site leads a chunk: rendezvous (highest random weight) hashing, Thaler and Ravishankar 1996.
//!
//! Every member computes the same order from the chunk's id and the members' keys alone. When one leaves, only the
//! chunks that it led move, evenly over the others; when it comes back it leads exactly the same chunks again.

use sluice_model::{ChunkId, MemberKey};

/// The weight of `member` for `chunk`: the first 8 bytes of BLAKE3, keyed with the chunk id, of the member's key.
pub fn weight(chunk: &ChunkId, member: &MemberKey) -> u64 {
    let hash = blake3::keyed_hash(chunk.as_bytes(), member.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// `members` in the order in which they answer for `chunk`: its leader first. O(n log n), one hash a member.
pub fn rendezvous(chunk: &ChunkId, members: &[MemberKey]) -> Vec<MemberKey> {
    let mut order: Vec<(u64, MemberKey)> = members.iter().map(|member| (weight(chunk, member), *member)).collect();
    order.sort_by(|a, b| b.cmp(a));
    order.into_iter().map(|(_, member)| member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u8) -> Vec<MemberKey> {
        (0..count).map(|n| MemberKey::from_bytes([n + 1; 32])).collect()
    }

    fn chunk(n: u32) -> ChunkId {
        ChunkId::from_bytes(*blake3::hash(&n.to_be_bytes()).as_bytes())
    }

    #[test]
    fn the_order_does_not_depend_on_the_order_of_the_members() {
        let forward = members(7);
        let backward: Vec<_> = forward.iter().rev().copied().collect();
        for n in 0..100 {
            assert_eq!(rendezvous(&chunk(n), &forward), rendezvous(&chunk(n), &backward));
        }
    }

    #[test]
    fn when_a_member_leaves_only_its_chunks_move() {
        let all = members(5);
        let fewer: Vec<_> = all[..4].to_vec();
        for n in 0..500 {
            let before = rendezvous(&chunk(n), &all);
            let after = rendezvous(&chunk(n), &fewer);
            let left: Vec<_> = before.into_iter().filter(|member| *member != all[4]).collect();
            assert_eq!(left, after);
        }
    }

    #[test]
    fn chunks_are_spread_evenly_over_the_members() {
        let all = members(5);
        let mut led = [0_u32; 5];
        for n in 0..5_000 {
            let leader = rendezvous(&chunk(n), &all)[0];
            led[all.iter().position(|member| *member == leader).unwrap()] += 1;
        }
        assert!(led.iter().all(|count| (850..1_150).contains(count)), "{led:?}");
    }

    #[test]
    fn the_order_is_part_of_the_protocol_and_stays() {
        let all = members(3);
        let order: Vec<u8> = rendezvous(&chunk(0), &all).iter().map(|member| member.as_bytes()[0]).collect();
        let weights: Vec<u64> = all.iter().map(|member| weight(&chunk(0), member)).collect();
        let mut sorted: Vec<(u64, u8)> = weights.iter().copied().zip(1..).collect();
        sorted.sort_by(|a, b| b.cmp(a));
        assert_eq!(order, sorted.iter().map(|(_, n)| *n).collect::<Vec<_>>());
    }
}
