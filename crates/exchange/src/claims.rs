//! Who of a site was sent which chunk: with it the origin sends each chunk to a site once, whatever its members believe.
//!
//! Members compute the leader of a chunk from what they know of each other, and for a moment they know different things:
//! a new node is not reachable yet, a link breaks in one direction, a roster arrives a second later here than there. Two
//! members then ask the origin for one chunk. The origin is the one place that sees both, so it tells the second who has
//! it. That is advice, not a lock: who cannot get the chunk there insists and is served.
//!
//! Pure core: the caller reports connections and requests.
//!
//! Invariants
//! - Nobody is sent to a member that has no connection to the origin, to itself, or against its insistence.
//! - Bounded: [`ARTIFACTS_MAX`] artifacts, four bytes a chunk, [`MEMBERS_MAX`] members; what falls out costs at most a
//!   second transfer.

use sluice_model::{ArtifactId, MemberKey};
use std::collections::HashMap;

/// Artifacts whose claims are kept for a site. At 2 GiB each with chunks of 256 KiB that is 64 x 32 KiB = 2 MiB.
pub const ARTIFACTS_MAX: usize = 64;
/// Members of one site that are told apart; more of them are served without claims.
pub const MEMBERS_MAX: usize = 4_096;

/// What the origin does with a request for a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Send it; the asker holds the claim now.
    Send,
    /// Name this member, which has it or is being sent it.
    Elsewhere(MemberKey),
}

#[derive(Debug, Default)]
struct Member {
    connections: u32,
}

/// Claims of one artifact: index into `keys` plus one, 0: nobody.
#[derive(Debug)]
struct Artifact {
    holders: Vec<u32>,
    used_at: u64,
}

/// The claims of one site.
#[derive(Debug, Default)]
pub struct Claims {
    members: HashMap<MemberKey, Member>,
    keys: Vec<MemberKey>,
    artifacts: HashMap<ArtifactId, Artifact>,
    uses: u64,
}

impl Claims {
    /// `member` made a connection to the origin.
    pub fn connected(&mut self, member: MemberKey) {
        if !self.members.contains_key(&member) {
            if self.members.len() >= MEMBERS_MAX {
                return;
            }
            self.keys.push(member);
        }
        self.members.entry(member).or_default().connections += 1;
    }

    /// A connection of `member` ended; `unfinished` are the chunks that may not have been sent to their end over it.
    pub fn disconnected(&mut self, member: &MemberKey, unfinished: impl IntoIterator<Item = (ArtifactId, u32)>) {
        let Some(at) = self.keys.iter().position(|key| key == member) else { return };
        if let Some(row) = self.members.get_mut(member) {
            row.connections = row.connections.saturating_sub(1);
        }
        for (artifact, index) in unfinished {
            let holder = self.artifacts.get_mut(&artifact).and_then(|claims| claims.holders.get_mut(index as usize));
            if let Some(holder) = holder.filter(|holder| **holder == at as u32 + 1) {
                *holder = 0;
            }
        }
    }

    /// `asker` asks for chunk `index` of `artifact`, which has `chunk_count` chunks. `insists`: it tried the other one.
    ///
    /// O(members of the site) for the first chunk of an artifact that pushes another one out, else O(1).
    pub fn judge(
        &mut self,
        asker: &MemberKey,
        (artifact, chunk_count): (&ArtifactId, u32),
        index: u32,
        insists: bool,
    ) -> Judgement {
        let Some(at) = self.keys.iter().position(|key| key == asker) else { return Judgement::Send };
        self.uses += 1;
        if !self.artifacts.contains_key(artifact) {
            self.make_room();
        }
        let uses = self.uses;
        let claims = self
            .artifacts
            .entry(*artifact)
            .or_insert_with(|| Artifact { holders: vec![0; chunk_count as usize], used_at: uses });
        claims.used_at = uses;
        let Some(holder) = claims.holders.get_mut(index as usize) else { return Judgement::Send };
        let other = holder.checked_sub(1).and_then(|other| self.keys.get(other as usize));
        let is_connected = |key: &&MemberKey| self.members.get(*key).is_some_and(|member| member.connections > 0);
        match other.filter(|other| *other != asker && !insists).filter(is_connected) {
            Some(other) => Judgement::Elsewhere(*other),
            None => {
                *holder = at as u32 + 1;
                Judgement::Send
            }
        }
    }

    fn make_room(&mut self) {
        if self.artifacts.len() < ARTIFACTS_MAX {
            return;
        }
        let oldest = self.artifacts.iter().min_by_key(|(_, claims)| claims.used_at).map(|(artifact, _)| *artifact);
        if let Some(oldest) = oldest {
            self.artifacts.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u32 = 3;

    fn member(n: u8) -> MemberKey {
        MemberKey::from_bytes([n; 32])
    }

    fn artifact(n: u8) -> ArtifactId {
        ArtifactId::from_bytes([n; 32])
    }

    fn site(members: &[u8]) -> Claims {
        let mut claims = Claims::default();
        for n in members {
            claims.connected(member(*n));
        }
        claims
    }

    fn ask(claims: &mut Claims, by: u8, of: u8, index: u32) -> Judgement {
        claims.judge(&member(by), (&artifact(of), COUNT), index, false)
    }

    #[test]
    fn the_second_asker_is_sent_to_the_first_and_the_first_may_ask_again() {
        let mut claims = site(&[1, 2]);
        assert_eq!(ask(&mut claims, 1, 9, 0), Judgement::Send);
        assert_eq!(ask(&mut claims, 2, 9, 0), Judgement::Elsewhere(member(1)));
        assert_eq!(ask(&mut claims, 2, 9, 1), Judgement::Send);
        assert_eq!(ask(&mut claims, 2, 8, 0), Judgement::Send);
        assert_eq!(ask(&mut claims, 1, 9, 0), Judgement::Send);
    }

    #[test]
    fn who_insists_is_served_and_holds_the_claim_from_then_on() {
        let mut claims = site(&[1, 2]);
        ask(&mut claims, 1, 9, 0);
        assert_eq!(claims.judge(&member(2), (&artifact(9), COUNT), 0, true), Judgement::Send);
        assert_eq!(ask(&mut claims, 1, 9, 0), Judgement::Elsewhere(member(2)));
    }

    #[test]
    fn a_member_that_is_gone_holds_nothing_back_until_it_is_there_again() {
        let mut claims = site(&[1, 2, 3]);
        ask(&mut claims, 1, 9, 0);
        claims.disconnected(&member(1), []);
        assert_eq!(ask(&mut claims, 2, 9, 1), Judgement::Send);
        claims.connected(member(1));
        assert_eq!(ask(&mut claims, 2, 9, 0), Judgement::Elsewhere(member(1)));
        claims.disconnected(&member(1), []);
        assert_eq!(ask(&mut claims, 3, 9, 0), Judgement::Send);
    }

    #[test]
    fn what_was_not_sent_to_its_end_is_free_again() {
        let mut claims = site(&[1, 2]);
        ask(&mut claims, 1, 9, 0);
        ask(&mut claims, 2, 9, 1);
        claims.disconnected(&member(1), [(artifact(9), 0), (artifact(9), 1), (artifact(9), 7)]);
        claims.connected(member(1));
        assert_eq!(ask(&mut claims, 2, 9, 0), Judgement::Send);
        assert_eq!(ask(&mut claims, 1, 9, 1), Judgement::Elsewhere(member(2)));
    }

    #[test]
    fn a_chunk_beyond_the_artifact_and_a_member_that_is_not_connected_are_served_without_a_claim() {
        let mut claims = site(&[1]);
        assert_eq!(ask(&mut claims, 1, 9, COUNT), Judgement::Send);
        assert_eq!(ask(&mut claims, 5, 9, 0), Judgement::Send);
        assert_eq!(ask(&mut claims, 1, 9, 0), Judgement::Send);
    }

    #[test]
    fn the_artifact_that_was_used_longest_ago_falls_out() {
        let mut claims = site(&[1, 2]);
        for n in 0..=ARTIFACTS_MAX as u8 {
            ask(&mut claims, 1, n, 0);
            ask(&mut claims, 1, 0, 1);
        }
        assert_eq!(claims.artifacts.len(), ARTIFACTS_MAX);
        assert_eq!(ask(&mut claims, 2, 0, 0), Judgement::Elsewhere(member(1)));
        assert_eq!(ask(&mut claims, 2, 1, 0), Judgement::Send);
    }
}
