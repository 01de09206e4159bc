//! What a client of a foreign repository asks: what it stored before, whether time is over, and where a target is.

use super::*;
use crate::hashes::Hashes;
use std::collections::BTreeSet;

/// Roles visited in one look-up, `targets` among them (specification 1.0.34, section 5.6.7.1).
const VISITED_MAX: usize = 32;

/// What a foreign repository says of one target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForeignTarget {
    /// Length in bytes.
    pub length: u64,
    /// What its bytes must hash to; empty where no hash is named that this client knows: it must be refused then.
    pub hashes: Hashes,
}

/// The next step of a look-up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// Fetch this, [`Trusted::accept`] it, and look again.
    Wanted(Wanted),
    /// Here it is.
    Found(ForeignTarget),
    /// No role that may speak for the name lists it.
    NotFound,
}

impl Trusted {
    /// Looks a target up in pre-order, depth first, each role once (specification, section 5.6.7). Needs complete
    /// metadata of a foreign repository. O(roles visited); nothing is remembered between two calls but accepted roles.
    pub fn find(&self, target: &str) -> Result<Lookup, MetadataError> {
        let snapshot =
            self.current_snapshot().ok_or_else(|| MetadataError::Missing { file: "snapshot.json".into() })?;
        let mut visited = BTreeSet::new();
        let mut stack = vec![(RoleName::targets(), RoleName::root())];
        while let Some((role, parent)) = stack.pop() {
            if visited.contains(&role) {
                continue;
            }
            if visited.len() >= VISITED_MAX {
                let target = target.chars().take(160).collect();
                return Err(MetadataError::TooManyDelegations { target, max: VISITED_MAX });
            }
            let meta = snapshot.meta.get(&role).ok_or_else(|| MetadataError::NotInSnapshot { role: role.clone() })?;
            let Some(held) = self.held(&role, &parent).filter(|held| held.is_as_in(meta)) else {
                return Ok(Lookup::Wanted(self.wanted(&role, &parent, meta)));
            };
            if let Some(found) = held.body.foreign.get(target) {
                return Ok(Lookup::Found(*found));
            }
            let (next, is_last) = delegates(&held.body, target);
            if is_last {
                stack.clear();
            }
            stack.extend(next.into_iter().rev().map(|child| (child, role.clone())));
            visited.insert(role);
        }
        Ok(Lookup::NotFound)
    }

    fn held(&self, role: &RoleName, parent: &RoleName) -> Option<&Held<Targets>> {
        match *parent == RoleName::root() {
            true => self.targets.as_ref(),
            false => self.delegated.get(&(parent.clone(), role.clone())),
        }
    }

    /// Takes up `timestamp`, `snapshot` or `targets` as a client kept them. Their signatures are checked, not their
    /// time. The snapshot may be older than the timestamp says: it still forbids going back. Stored targets that are not
    /// the current ones are refused without harm.
    pub fn take_stored(&mut self, role: &RoleName, bytes: &[u8]) -> Result<(), MetadataError> {
        check_size(role, bytes, bytes_max(role, self.profile))?;
        match role.as_str() {
            "timestamp" => self.take_timestamp(bytes, None).map(drop),
            "snapshot" => {
                let body = self.verified_snapshot(bytes)?;
                self.snapshot = Some(Held::new(bytes, body));
                Ok(())
            }
            _ => self.take_role(role, &RoleName::root(), bytes, None).map(drop),
        }
    }

    /// The bytes held of one of the four roles on top.
    pub fn bytes_of(&self, role: &RoleName) -> Option<Arc<[u8]>> {
        match role.as_str() {
            "root" => self.roots.get(&self.root_version()).cloned(),
            "timestamp" => self.timestamp.as_ref().map(|held| held.bytes.clone()),
            "snapshot" => self.snapshot.as_ref().map(|held| held.bytes.clone()),
            _ => self.targets.as_ref().map(|held| held.bytes.clone()),
        }
    }

    /// Whether file names carry hashes and versions.
    pub fn is_consistent_snapshot(&self) -> bool {
        self.root.is_consistent
    }

    /// Whether the time of one of the four roles on top is over: what was accepted earlier may have expired since.
    pub fn check_not_expired(&self, now: Timestamp) -> Result<(), MetadataError> {
        let now = Some(now);
        check_expiry(&RoleName::root(), &self.root.header, now)?;
        if let Some(held) = &self.timestamp {
            check_expiry(&RoleName::timestamp(), &held.body.header, now)?;
        }
        if let Some(held) = &self.snapshot {
            check_expiry(&RoleName::snapshot(), &held.body.header, now)?;
        }
        match &self.targets {
            Some(held) => check_expiry(&RoleName::targets(), &held.body.header, now),
            None => Ok(()),
        }
    }
}

/// The roles that may speak for `target`, in order of precedence, and whether nothing after them may.
fn delegates(body: &Targets, target: &str) -> (Vec<RoleName>, bool) {
    if let Some(bins) = &body.succinct {
        // One bin has the only word, as if its delegation were terminating.
        return (vec![bins.role_of(target)], true);
    }
    let mut roles = Vec::new();
    for delegation in body.delegations.iter().filter(|delegation| delegation.covers(target)) {
        roles.push(delegation.name.clone());
        if delegation.is_terminating {
            return (roles, true);
        }
    }
    (roles, false)
}

/// A role's name as it stands in a URL and in a file name (RFC 3986, section 2.3: all but unreserved characters are
/// encoded).
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
