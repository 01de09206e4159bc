//! Which way reports go next, and which node is to be asked why none came through.
//!
//! Pure: the caller says what happened and when. A way is a node of the site, or the repository itself. Reports stay with
//! the way that took them for [`Ways::within`]; without an acknowledgement they go another way, and in the end directly.
//! A node is named only when another way worked: while the WAN is down nobody's reports come through, and nobody is to
//! blame.
//!
//! Invariants
//! - Reports are never with more ways than there are; each way's record is replaced by its next.
//! - A node is checked only after another way brought the acknowledgement that it lacks.

use sluice_model::MemberKey;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Number of a report in its chain: epoch and seq.
pub type Place = (u32, u64);

/// Nodes that wait to be checked: more than an endpoint tries at once.
const CHECKS_MAX: usize = 16;
/// A node that does not answer is asked so often; one that is down is not one that drops.
const TRIES_MAX: u32 = 5;

/// Reports at a way that took them.
#[derive(Clone, Copy, Debug)]
struct Holder {
    way: MemberKey,
    up_to: Place,
    reports: u64,
    at: Instant,
    is_overdue: bool,
}

/// A node whose reports came through another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// The node.
    pub way: MemberKey,
    /// The highest report that it took.
    pub up_to: Place,
    /// How many it took.
    pub reports: u64,
    due: Instant,
    tries: u32,
}

/// Who may be asked.
pub struct Choice<'a> {
    /// The nodes of the site, by preference.
    pub nodes: &'a [MemberKey],
    /// The repository's own keys.
    pub direct: &'a [MemberKey],
    /// Nodes that withheld reports lately.
    pub suspects: &'a BTreeSet<MemberKey>,
}

/// Where reports are, and since when.
#[derive(Debug)]
pub struct Ways {
    /// How long a way is given until the acknowledgement is back.
    pub within: Duration,
    holders: Vec<Holder>,
    checks: Vec<Check>,
    failing_since: Option<Instant>,
}

impl Ways {
    /// Nothing is anywhere.
    pub fn new(within: Duration) -> Self {
        Self { within, holders: Vec::new(), checks: Vec::new(), failing_since: None }
    }

    /// The ways in the order in which they are tried at `now`: the one that has the reports, good nodes, the repository
    /// where it is time for that, suspects, and last those whose time has run out.
    pub fn order(&self, choice: &Choice<'_>, now: Instant) -> Vec<MemberKey> {
        let good = |key: &MemberKey| !choice.suspects.contains(key) && !self.is_overdue(key);
        let has_good = choice.nodes.iter().any(good);
        let is_failing = self.failing_since.is_some_and(|since| now.saturating_duration_since(since) >= self.within);
        let may_go_direct = !has_good || is_failing || self.holders.iter().any(|holder| holder.is_overdue);
        let mut order: Vec<MemberKey> = self.current().into_iter().filter(|key| choice.nodes.contains(key)).collect();
        order.extend(choice.nodes.iter().filter(|key| good(key)));
        if may_go_direct {
            order.extend(choice.direct);
        }
        order.extend(choice.nodes.iter().filter(|key| !self.is_overdue(key)));
        let mut overdue: Vec<&Holder> = self.holders.iter().filter(|holder| holder.is_overdue).collect();
        overdue.sort_by_key(|holder| holder.at);
        order.extend(overdue.iter().map(|holder| holder.way).filter(|key| choice.nodes.contains(key)));
        let mut seen = BTreeSet::new();
        order.retain(|key| seen.insert(*key));
        order
    }

    /// Whether the way that has reports now has this one.
    pub fn is_handed(&self, place: Place) -> bool {
        self.current_holder().is_some_and(|holder| place <= holder.up_to)
    }

    /// The way that has reports and whose time has not run out.
    pub fn current(&self) -> Option<MemberKey> {
        self.current_holder().map(|holder| holder.way)
    }

    /// `way` said that it has everything up to `up_to` durably, `reports` of them new to it.
    pub fn note_handed(&mut self, way: MemberKey, up_to: Place, reports: u64, now: Instant) {
        let before = self.take_holder(way);
        let reports = reports + before.filter(|holder| !holder.is_overdue).map_or(0, |holder| holder.reports);
        self.holders.push(Holder { way, up_to, reports, at: now, is_overdue: false });
        self.failing_since = None;
    }

    /// A node would not have them: it is left for last, and the repository may be asked. It took nothing, so it is not
    /// checked.
    pub fn note_refused(&mut self, way: MemberKey, now: Instant) {
        self.take_holder(way);
        self.holders.push(Holder { way, up_to: (0, 0), reports: 0, at: now, is_overdue: true });
    }

    /// Nobody took them.
    pub fn note_failing(&mut self, now: Instant) {
        self.failing_since.get_or_insert(now);
    }

    /// The ways whose time has run out just now.
    pub fn mark_overdue(&mut self, now: Instant) -> Vec<MemberKey> {
        let within = self.within;
        let is_late = |holder: &&mut Holder| !holder.is_overdue && now.saturating_duration_since(holder.at) >= within;
        let late = self.holders.iter_mut().filter(is_late).map(|holder| {
            holder.is_overdue = true;
            holder.way
        });
        late.collect()
    }

    /// Everything up to `up_to` is acknowledged; `by` is the way that brought the word.
    pub fn note_acknowledged(&mut self, up_to: Place, by: MemberKey, now: Instant) {
        let (done, left) = self.holders.iter().partition(|holder| holder.up_to <= up_to);
        self.holders = left;
        let late =
            done.into_iter().filter(|holder: &Holder| holder.is_overdue && holder.way != by && holder.reports > 0);
        for holder in late {
            let (way, up_to, reports) = (holder.way, holder.up_to, holder.reports);
            self.checks.retain(|check| check.way != way);
            if self.checks.len() < CHECKS_MAX {
                self.checks.push(Check { way, up_to, reports, due: now + self.within, tries: 0 });
            }
        }
    }

    /// Nothing is anywhere any more: reports must be handed over anew.
    pub fn forget_handed(&mut self) {
        self.holders.clear();
    }

    /// Takes out the checks that are due.
    pub fn due_checks(&mut self, now: Instant) -> Vec<Check> {
        self.checks.extract_if(.., |check| check.due <= now).collect()
    }

    /// The node did not answer: it is asked later, a few times.
    pub fn check_later(&mut self, check: Check, now: Instant) {
        if check.tries + 1 < TRIES_MAX {
            self.checks.push(Check { due: now + self.within, tries: check.tries + 1, ..check });
        }
    }

    /// Whether somebody is to be checked.
    pub fn has_checks(&self) -> bool {
        !self.checks.is_empty()
    }

    fn current_holder(&self) -> Option<&Holder> {
        self.holders.iter().rev().find(|holder| !holder.is_overdue)
    }

    fn is_overdue(&self, key: &MemberKey) -> bool {
        self.holders.iter().any(|holder| holder.way == *key && holder.is_overdue)
    }

    fn take_holder(&mut self, way: MemberKey) -> Option<Holder> {
        let at = self.holders.iter().position(|holder| holder.way == way)?;
        Some(self.holders.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(120);

    fn key(byte: u8) -> MemberKey {
        MemberKey::from_bytes([byte; 32])
    }

    struct Site {
        ways: Ways,
        nodes: Vec<MemberKey>,
        suspects: BTreeSet<MemberKey>,
        now: Instant,
    }

    impl Site {
        fn new(nodes: u8) -> Self {
            let now = crate::clock::now();
            Self { ways: Ways::new(WITHIN), nodes: (1..=nodes).map(key).collect(), suspects: BTreeSet::new(), now }
        }

        fn order(&self) -> Vec<MemberKey> {
            let choice = Choice { nodes: &self.nodes, direct: &[key(0)], suspects: &self.suspects };
            self.ways.order(&choice, self.now)
        }

        /// Hands reports to whoever is first and waits until its time has run out.
        fn hand_over_and_wait(&mut self) -> MemberKey {
            let way = self.order()[0];
            self.ways.note_handed(way, (1, 3), 3, self.now);
            self.now += WITHIN;
            assert_eq!(self.ways.mark_overdue(self.now), [way]);
            way
        }
    }

    #[test]
    fn reports_go_round_every_node_then_to_the_repository_and_begin_again() {
        let mut site = Site::new(3);
        assert_eq!(site.order(), [key(1), key(2), key(3)], "nothing goes directly while nodes are good");
        let tried: Vec<MemberKey> = (0..3).map(|_| site.hand_over_and_wait()).collect();
        assert_eq!(tried, [key(1), key(2), key(3)]);
        assert_eq!(site.order(), [key(0), key(1), key(2), key(3)]);
        assert!(!site.ways.has_checks(), "while nothing comes through nobody is to blame");
    }

    #[test]
    fn a_node_is_checked_once_another_way_brought_the_word_and_only_then() {
        let mut site = Site::new(2);
        site.hand_over_and_wait();
        assert_eq!(site.order()[0], key(2));
        site.ways.note_handed(key(2), (1, 3), 3, site.now);
        site.ways.note_acknowledged((1, 2), key(2), site.now);
        assert!(!site.ways.has_checks(), "not everything that it took is through");
        site.ways.note_acknowledged((1, 3), key(2), site.now);
        assert!(site.ways.due_checks(site.now).is_empty(), "it is given time: its link may have come back just now");
        site.now += WITHIN;
        let due = site.ways.due_checks(site.now);
        assert_eq!((due.len(), due[0].way, due[0].reports), (1, key(1), 3));
        for _ in 0..TRIES_MAX {
            for check in site.ways.due_checks(site.now).into_iter().chain(due.iter().copied().take(1)) {
                site.ways.check_later(check, site.now);
            }
        }
        assert!(site.ways.has_checks());
    }

    #[test]
    fn a_node_that_brings_the_word_itself_though_late_is_not_checked() {
        let mut site = Site::new(2);
        let late = site.hand_over_and_wait();
        site.ways.note_acknowledged((1, 3), late, site.now);
        assert!(!site.ways.has_checks());
        assert_eq!(site.order(), [key(1), key(2)]);
    }

    #[test]
    fn a_suspect_comes_after_the_repository_and_a_node_that_refuses_last() {
        let mut site = Site::new(1);
        site.suspects.insert(key(1));
        assert_eq!(site.order(), [key(0), key(1)]);
        let mut site = Site::new(2);
        site.ways.note_refused(key(1), site.now);
        assert_eq!(site.order(), [key(2), key(0), key(1)]);
        site.ways.note_acknowledged((1, 3), key(0), site.now);
        assert!(!site.ways.has_checks(), "it took nothing");
    }

    #[test]
    fn when_no_node_answers_for_long_the_repository_is_asked() {
        let mut site = Site::new(1);
        site.ways.note_failing(site.now);
        assert_eq!(site.order(), [key(1)]);
        site.now += WITHIN;
        site.ways.note_failing(site.now);
        assert_eq!(site.order(), [key(1), key(0)]);
    }
}
