//! The chain of one endpoint's reports: numbered from 1, each naming the hash of the one before.
//!
//! Decides which report counts now, which waits for an earlier one, which was here before, and which proves that two
//! machines speak with one key. Reports count in the order of their numbers, whatever the order in which they came; a
//! report beyond a gap is held until the gap is filled.
//!
//! A chain with two different reports of one number, or with a report that does not follow the one before it, is broken
//! for good: nobody can say which of the two machines tells the truth. From the break on nothing counts any more; the
//! device enrols anew, and a new epoch begins a new chain. Reports below the break may still fill gaps, and later
//! evidence may move the break down: where and how a chain is broken depends on the set of reports that came, never on
//! their order.

use serde::{Deserialize, Serialize};
use sluice_model::Sha256;
use std::collections::BTreeMap;

/// Reports of one chain that may wait behind a gap: at 16 KiB each 16 MiB, and years of one endpoint's reports in days
/// of lost ones. The endpoint sends again what is not acknowledged, oldest first, so the gap is filled from below.
pub const HELD_MAX: usize = 1_000;

/// The hash that the first report of a chain names as its predecessor.
pub const FIRST_PREVIOUS: Sha256 = Sha256::from_bytes([0; 32]);

/// The place of a report in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// From 1.
    pub seq: u64,
    /// The hash that the report gives for `seq - 1`.
    pub previous: Sha256,
    /// SHA-256 of the report's payload bytes.
    pub hash: Sha256,
}

/// Why a chain takes nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Broken {
    /// Two different reports have this number: two devices sign with one key, or one was restored from an old image.
    Cloned {
        /// The number.
        seq: u64,
    },
    /// This report does not follow the one before it: a report was altered after it was sent, or the device forked.
    Altered {
        /// The number.
        seq: u64,
    },
}

impl Broken {
    /// The number at which it was found.
    pub fn seq(self) -> u64 {
        match self {
            Self::Cloned { seq } | Self::Altered { seq } => seq,
        }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cloned { seq } => {
                write!(f, "two different reports have number {seq}: the device's key is used twice")
            }
            Self::Altered { seq } => write!(f, "report {seq} does not follow the report before it"),
        }
    }
}

/// What became of one report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts now; no later one had come before it.
    New,
    /// It counts now, and so may reports that waited for it: it was overtaken on the way.
    Late,
    /// It was here before, byte for byte: sent again, or replayed.
    Duplicate,
    /// It is kept and counts when every number from here on has come.
    Gap {
        /// The first number that is lacking.
        missing: u64,
    },
    /// [`HELD_MAX`] reports wait already; it was not kept. The endpoint sends it again.
    GapFull {
        /// The first number that is lacking.
        missing: u64,
    },
    /// It shows that the chain is broken; it is evidence and does not count.
    Breaks(Broken),
    /// The chain was broken before; what it says is not believed.
    Quarantined(Broken),
    /// Number 0, or a first report that names a predecessor.
    Malformed,
}

/// One chain with what waits in it; `T` is whatever the caller keeps of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain<T> {
    /// Highest number without a gap; 0 for none. This is what may be acknowledged.
    pub head_seq: u64,
    /// Hash of that report; all zero for none.
    pub head_hash: Sha256,
    /// Reports beyond the gap, by number; of a broken chain also the one that does not follow.
    pub held: BTreeMap<u64, (Link, T)>,
    /// Never unset; later evidence may move it to a lower number.
    pub broken: Option<Broken>,
}

impl<T> Default for Chain<T> {
    fn default() -> Self {
        Self { head_seq: 0, head_hash: FIRST_PREVIOUS, held: BTreeMap::new(), broken: None }
    }
}

/// The effect of one report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge<T> {
    /// What became of it.
    pub verdict: Verdict,
    /// The reports that count from now on, in the order of their numbers.
    pub counted: Vec<(Link, T)>,
    /// Whether the report waits behind a gap now.
    pub is_held: bool,
}

impl<T> Chain<T> {
    /// Takes one report. `counted_hash` gives the hash of a report that already counts; it is asked at most once, for
    /// `link.seq`. O(reports that count now).
    pub fn merge(&mut self, link: Link, body: T, counted_hash: impl FnOnce(u64) -> Option<Sha256>) -> Merge<T> {
        let mut merge = Merge { verdict: Verdict::Malformed, counted: Vec::new(), is_held: false };
        if link.seq == 0 || (link.seq == 1 && link.previous != FIRST_PREVIOUS) {
            return merge;
        }
        let before = self.broken;
        let verdict = self.place(link, body, counted_hash, &mut merge.counted);
        merge.is_held = matches!(verdict, Verdict::Gap { .. }) && self.held.contains_key(&link.seq);
        merge.verdict = match (before, self.broken) {
            (None, Some(broken)) => Verdict::Breaks(broken),
            (Some(_), Some(broken)) => Verdict::Quarantined(broken),
            (_, None) => verdict,
        };
        merge
    }

    /// What may be acknowledged: 0 says that nothing is here yet while later reports wait. A broken chain, and one of
    /// which nothing came, is acknowledged no further.
    pub fn acknowledged(&self) -> Option<u64> {
        (self.broken.is_none() && (self.head_seq > 0 || !self.held.is_empty())).then_some(self.head_seq)
    }

    /// The verdict as if the chain were whole; a break is in `self.broken`.
    fn place(
        &mut self,
        link: Link,
        body: T,
        counted_hash: impl FnOnce(u64) -> Option<Sha256>,
        counted: &mut Vec<(Link, T)>,
    ) -> Verdict {
        let missing = self.head_seq + 1;
        if self.broken.is_some_and(|broken| link.seq > broken.seq()) {
            return Verdict::Duplicate;
        }
        let known = if link.seq <= self.head_seq {
            counted_hash(link.seq)
        } else {
            self.held.get(&link.seq).map(|(held, _)| held.hash)
        };
        match known {
            Some(hash) if hash == link.hash && link.seq <= self.head_seq => return Verdict::Duplicate,
            Some(hash) if hash == link.hash => return Verdict::Gap { missing },
            Some(_) => {
                self.break_at(Broken::Cloned { seq: link.seq });
                return Verdict::Duplicate;
            }
            None if link.seq <= self.head_seq => return Verdict::Duplicate,
            None => {}
        }
        if link.seq > missing && self.held.len() >= HELD_MAX {
            return Verdict::GapFull { missing };
        }
        let is_overtaken = !self.held.is_empty();
        self.held.insert(link.seq, (link, body));
        if link.seq > missing {
            return Verdict::Gap { missing };
        }
        self.advance(counted);
        if is_overtaken { Verdict::Late } else { Verdict::New }
    }

    /// Lets the reports count that follow the head without a gap, up to the break.
    fn advance(&mut self, counted: &mut Vec<(Link, T)>) {
        loop {
            let next = self.head_seq + 1;
            let is_beyond = self.broken.is_some_and(|broken| next >= broken.seq());
            let Some((link, body)) = self.held.remove(&next) else { return };
            if is_beyond || link.previous != self.head_hash {
                self.held.insert(next, (link, body));
                if !is_beyond {
                    self.break_at(Broken::Altered { seq: next });
                }
                return;
            }
            self.head_seq = link.seq;
            self.head_hash = link.hash;
            counted.push((link, body));
        }
    }

    /// Breaks the chain there, or moves the break there when that is lower. Of one number, two different reports say
    /// more than one that does not follow.
    fn break_at(&mut self, found: Broken) {
        let rank = |broken: Broken| (broken.seq(), matches!(broken, Broken::Altered { .. }));
        if self.broken.is_none_or(|known| rank(found) < rank(known)) {
            self.broken = Some(found);
            // What lies beyond says nothing more.
            self.held.retain(|seq, _| *seq <= found.seq());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> Sha256 {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Sha256::from_bytes(bytes)
    }

    fn link(seq: u64) -> Link {
        Link { seq, previous: hash(seq - 1), hash: hash(seq) }
    }

    fn merge(chain: &mut Chain<()>, link: Link) -> Merge<()> {
        chain.merge(link, (), |seq| Some(hash(seq)))
    }

    #[test]
    fn a_report_beyond_a_gap_waits_and_counts_in_its_order() {
        let mut chain = Chain::default();
        assert_eq!(merge(&mut chain, link(3)).verdict, Verdict::Gap { missing: 1 });
        assert_eq!(chain.acknowledged(), Some(0), "nothing is here, and something waits");
        assert_eq!(merge(&mut chain, link(1)).verdict, Verdict::Late);
        assert_eq!(chain.acknowledged(), Some(1));
        let merged = merge(&mut chain, link(2));
        assert_eq!(merged.counted.iter().map(|(link, ())| link.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(chain.acknowledged(), Some(3));
    }

    #[test]
    fn the_same_report_twice_is_a_duplicate_whether_it_counts_or_waits() {
        let mut chain = Chain::default();
        merge(&mut chain, link(1));
        assert_eq!(merge(&mut chain, link(1)).verdict, Verdict::Duplicate);
        merge(&mut chain, link(3));
        assert_eq!(merge(&mut chain, link(3)).verdict, Verdict::Gap { missing: 2 });
        assert_eq!((chain.acknowledged(), chain.held.len()), (Some(1), 1));
    }

    #[test]
    fn two_reports_of_one_number_are_a_clone_and_end_the_chain() {
        let mut chain = Chain::default();
        merge(&mut chain, link(1));
        merge(&mut chain, link(2));
        let other = Link { hash: hash(99), ..link(2) };
        assert_eq!(merge(&mut chain, other).verdict, Verdict::Breaks(Broken::Cloned { seq: 2 }));
        assert_eq!(merge(&mut chain, link(3)).verdict, Verdict::Quarantined(Broken::Cloned { seq: 2 }));
        assert_eq!(chain.acknowledged(), None);
    }

    #[test]
    fn a_report_that_does_not_follow_its_predecessor_is_an_alteration_also_when_it_waited() {
        let wrong = Link { previous: hash(77), ..link(2) };
        let mut direct = Chain::default();
        merge(&mut direct, link(1));
        assert_eq!(merge(&mut direct, wrong).verdict, Verdict::Breaks(Broken::Altered { seq: 2 }));
        let mut waited = Chain::default();
        merge(&mut waited, wrong);
        let merged = merge(&mut waited, link(1));
        assert_eq!(merged.verdict, Verdict::Breaks(Broken::Altered { seq: 2 }));
        assert_eq!(merged.counted.len(), 1, "the report before the alteration counts");
        assert_eq!(direct.broken, waited.broken);
    }

    #[test]
    fn later_evidence_moves_the_break_down_to_where_the_two_devices_parted() {
        let (other_two, other_three) =
            (Link { hash: hash(92), ..link(2) }, Link { seq: 3, previous: hash(92), hash: hash(93) });
        let mut chain = Chain::default();
        for report in [link(1), link(2), other_three] {
            merge(&mut chain, report);
        }
        assert_eq!(chain.broken, Some(Broken::Altered { seq: 3 }));
        assert_eq!(merge(&mut chain, link(3)).verdict, Verdict::Quarantined(Broken::Cloned { seq: 3 }));
        assert_eq!(merge(&mut chain, other_two).verdict, Verdict::Quarantined(Broken::Cloned { seq: 2 }));
        assert_eq!(merge(&mut chain, link(4)).verdict, Verdict::Quarantined(Broken::Cloned { seq: 2 }));
        assert_eq!((chain.held.len(), chain.acknowledged()), (0, None));
    }

    #[test]
    fn a_gap_below_the_break_is_still_filled_and_nothing_beyond_the_break_counts() {
        let mut chain = Chain::default();
        merge(&mut chain, link(3));
        let clone = merge(&mut chain, Link { hash: hash(93), ..link(3) });
        assert_eq!(clone.verdict, Verdict::Breaks(Broken::Cloned { seq: 3 }));
        let counted: Vec<u64> = [link(2), link(1), link(4)]
            .into_iter()
            .flat_map(|report| merge(&mut chain, report).counted)
            .map(|(link, ())| link.seq)
            .collect();
        assert_eq!(counted, [1, 2]);
    }

    #[test]
    fn number_zero_and_a_first_report_with_a_predecessor_are_malformed() {
        let mut chain = Chain::default();
        let zero = Link { seq: 0, previous: FIRST_PREVIOUS, hash: hash(5) };
        assert_eq!(merge(&mut chain, zero).verdict, Verdict::Malformed);
        assert_eq!(merge(&mut chain, Link { previous: hash(9), ..link(1) }).verdict, Verdict::Malformed);
        assert_eq!(chain, Chain::default());
    }

    #[test]
    fn the_reports_behind_a_gap_are_bounded() {
        let mut chain = Chain::default();
        for seq in 2..2 + HELD_MAX as u64 {
            assert_eq!(merge(&mut chain, link(seq)).verdict, Verdict::Gap { missing: 1 });
        }
        let beyond = link(5 + HELD_MAX as u64);
        assert_eq!(merge(&mut chain, beyond).verdict, Verdict::GapFull { missing: 1 });
        assert_eq!(merge(&mut chain, link(1)).counted.len(), HELD_MAX + 1);
    }
}
