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
use std::collections::{HashMap, VecDeque};

/// Artifacts whose claims are kept for a site. At 2 GiB each with chunks of 256 KiB that is 64 x 32 KiB = 2 MiB.
pub const ARTIFACTS_MAX: usize = 64;
/// Members of one site that are told apart; more of them are served without claims.
pub const MEMBERS_MAX: usize = 4_096;
/// A served connection has two chunks in memory, the one that is being sent and the next: only these can be unfinished
/// when it ends, and one that the system had taken and the network had not.
const UNFINISHED_MAX: usize = 3;

/// What the origin does with a request for a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Send it; the asker holds the claim now.
    Send,
    /// Name this member, which has it or is being sent it.
    Elsewhere(MemberKey),
}

/// A connection of a member, as [`Claims::connected`] numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

#[derive(Debug)]
struct Connection {
    member: MemberKey,
    /// What it was sent last.
    last: VecDeque<(ArtifactId, u32)>,
}

/// Claims of one artifact: index into `members` plus one, 0: nobody.
#[derive(Debug)]
struct Artifact {
    holders: Vec<u32>,
    used_at: u64,
}

/// The claims of one site.
#[derive(Debug, Default)]
pub struct Claims {
    members: Vec<MemberKey>,
    connections: HashMap<ConnectionId, Connection>,
    artifacts: HashMap<ArtifactId, Artifact>,
    uses: u64,
}

impl Claims {
    /// `member` made a connection to the origin.
    pub fn connected(&mut self, member: MemberKey) -> ConnectionId {
        if !self.members.contains(&member) && self.members.len() < MEMBERS_MAX {
            self.members.push(member);
        }
        self.uses += 1;
        let id = ConnectionId(self.uses);
        self.connections.insert(id, Connection { member, last: VecDeque::new() });
        id
    }

    /// A connection ended: what it was sent last may not have arrived and is free again.
    pub fn disconnected(&mut self, connection: ConnectionId) {
        let Some(Connection { member, last }) = self.connections.remove(&connection) else { return };
        let Some(place) = self.place(&member) else { return };
        for (artifact, index) in last {
            let holder = self.artifacts.get_mut(&artifact).and_then(|claims| claims.holders.get_mut(index as usize));
            if let Some(holder) = holder.filter(|holder| **holder == place) {
                *holder = 0;
            }
        }
    }

    /// Over `connection` chunk `index` of `artifact`, which has `chunk_count` chunks, would be sent next. `insists`: the
    /// asker tried the other one. O(members and connections of the site).
    pub fn judge(
        &mut self,
        connection: ConnectionId,
        (artifact, chunk_count): (&ArtifactId, u32),
        index: u32,
        insists: bool,
    ) -> Judgement {
        let Some(asker) = self.connections.get(&connection).map(|connection| connection.member) else {
            return Judgement::Send;
        };
        let Some(place) = self.place(&asker) else { return Judgement::Send };
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
        let other = holder.checked_sub(1).and_then(|other| self.members.get(other as usize));
        let is_connected = |key: &&MemberKey| self.connections.values().any(|connection| connection.member == **key);
        if let Some(other) = other.filter(|other| **other != asker && !insists).filter(is_connected) {
            return Judgement::Elsewhere(*other);
        }
        *holder = place;
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.last.push_back((*artifact, index));
            if connection.last.len() > UNFINISHED_MAX {
                connection.last.pop_front();
            }
        }
        Judgement::Send
    }

    /// How `member` stands in [`Artifact::holders`].
    fn place(&self, member: &MemberKey) -> Option<u32> {
        self.members.iter().position(|known| known == member).map(|at| at as u32 + 1)
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

    /// The site, and a connection for each member.
    fn site<const N: usize>(members: [u8; N]) -> (Claims, [ConnectionId; N]) {
        let mut claims = Claims::default();
        let connections = members.map(|n| claims.connected(member(n)));
        (claims, connections)
    }

    fn ask(claims: &mut Claims, by: ConnectionId, of: u8, index: u32) -> Judgement {
        claims.judge(by, (&artifact(of), COUNT), index, false)
    }

    #[test]
    fn the_second_asker_is_sent_to_the_first_and_the_first_may_ask_again() {
        let (mut claims, [one, two]) = site([1, 2]);
        assert_eq!(ask(&mut claims, one, 9, 0), Judgement::Send);
        assert_eq!(ask(&mut claims, two, 9, 0), Judgement::Elsewhere(member(1)));
        assert_eq!(ask(&mut claims, two, 9, 1), Judgement::Send);
        assert_eq!(ask(&mut claims, two, 8, 0), Judgement::Send);
        assert_eq!(ask(&mut claims, one, 9, 0), Judgement::Send);
    }

    #[test]
    fn who_insists_is_served_and_holds_the_claim_from_then_on() {
        let (mut claims, [one, two]) = site([1, 2]);
        ask(&mut claims, one, 9, 0);
        assert_eq!(claims.judge(two, (&artifact(9), COUNT), 0, true), Judgement::Send);
        assert_eq!(ask(&mut claims, one, 9, 0), Judgement::Elsewhere(member(2)));
    }

    #[test]
    fn a_member_that_is_gone_holds_nothing_back_until_it_is_there_again() {
        let (mut claims, [one, two, three]) = site([1, 2, 3]);
        for index in [0, 1, 2, 0, 1, 2] {
            ask(&mut claims, one, 8, index);
            ask(&mut claims, one, 9, index);
        }
        claims.disconnected(one);
        assert_eq!(ask(&mut claims, two, 9, 0), Judgement::Send);
        let again = claims.connected(member(1));
        assert_eq!(ask(&mut claims, three, 8, 0), Judgement::Elsewhere(member(1)));
        claims.disconnected(again);
        assert_eq!(ask(&mut claims, three, 8, 0), Judgement::Send);
    }

    #[test]
    fn what_was_sent_last_over_a_connection_that_ended_is_free_again() {
        let (mut claims, [one, two]) = site([1, 2]);
        ask(&mut claims, one, 9, 0);
        ask(&mut claims, two, 9, 1);
        claims.disconnected(one);
        let again = claims.connected(member(1));
        assert_eq!(ask(&mut claims, two, 9, 0), Judgement::Send);
        assert_eq!(ask(&mut claims, again, 9, 1), Judgement::Elsewhere(member(2)));
    }

    #[test]
    fn one_of_two_connections_that_ends_leaves_the_member_connected() {
        let (mut claims, [one, other, two]) = site([1, 1, 2]);
        ask(&mut claims, one, 9, 0);
        claims.disconnected(other);
        assert_eq!(ask(&mut claims, two, 9, 0), Judgement::Elsewhere(member(1)));
    }

    #[test]
    fn a_chunk_beyond_the_artifact_is_nobodys() {
        let (mut claims, [one, two]) = site([1, 2]);
        assert_eq!(ask(&mut claims, one, 9, COUNT), Judgement::Send);
        assert_eq!(ask(&mut claims, two, 9, COUNT), Judgement::Send);
    }

    #[test]
    fn the_artifact_that_was_used_longest_ago_falls_out() {
        let (mut claims, [one, two]) = site([1, 2]);
        for n in 0..=ARTIFACTS_MAX as u8 {
            ask(&mut claims, one, n, 0);
            ask(&mut claims, one, 0, 1);
        }
        assert_eq!(claims.artifacts.len(), ARTIFACTS_MAX);
        assert_eq!(ask(&mut claims, two, 0, 0), Judgement::Elsewhere(member(1)));
        assert_eq!(ask(&mut claims, two, 1, 0), Judgement::Send);
    }
}
