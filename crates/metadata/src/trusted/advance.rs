//! The four steps forward: root, timestamp, snapshot, targets and delegated roles.

use super::*;
use crate::key::PublicKey;

impl Trusted {
    /// The next version of root, signed by a threshold of the old and of the new keys (specification, section 5.3).
    ///
    /// When it replaces the keys of timestamp or snapshot, what was held below is dropped and the floor with it: that is
    /// the way back after an attacker moved versions far ahead with stolen keys (section 5.3.11).
    pub fn update_root(&mut self, bytes: &[u8]) -> Result<Change, MetadataError> {
        let role = RoleName::root();
        check_size(&role, bytes, bytes_max(&role, self.profile))?;
        let file = Unverified::parse(&role, bytes, self.profile)?;
        let signed = file.verify(self.root.role(&role), version_of(&role, &self.root.header))?;
        let body = Root::parse(signed, self.profile)?;
        file.check_threshold(body.role(&role), version_of(&role, &body.header))?;
        if body.header.version < self.root.header.version {
            return Err(MetadataError::Rollback {
                role,
                found: body.header.version,
                trusted: self.root.header.version,
            });
        }
        if self.roots.get(&body.header.version).is_some_and(|known| **known == *bytes) {
            return Ok(Change::Same);
        }
        check_version(&role, body.header.version, self.root.header.version + 1)?;
        if body.repo_id != self.root.repo_id {
            return Err(MetadataError::OtherRepository { found: body.repo_id, expected: self.root.repo_id.clone() });
        }
        self.drop_what_other_keys_signed(&body);
        self.roots.insert(body.header.version, bytes.into());
        self.root = Arc::new(body);
        Ok(Change::Newer)
    }

    /// Drops what the next root's keys do not vouch for. In our own repository the loss of one online key voids all
    /// that stands below root; in foreign ones each file stands or falls by its own signatures.
    fn drop_what_other_keys_signed(&mut self, next: &Root) {
        let timestamp = self.is_void(next, RoleName::timestamp(), self.timestamp.as_ref().map(|held| &held.bytes));
        let snapshot = self.is_void(next, RoleName::snapshot(), self.snapshot.as_ref().map(|held| &held.bytes));
        let targets = self.is_void(next, RoleName::targets(), self.targets.as_ref().map(|held| &held.bytes));
        let online = timestamp || snapshot;
        if online || targets {
            self.targets = None;
            self.delegated.clear();
        }
        if self.profile == Profile::Foreign {
            self.timestamp = self.timestamp.take().filter(|_| !timestamp);
            self.snapshot = self.snapshot.take().filter(|_| !snapshot);
        } else if online {
            self.timestamp = None;
            self.snapshot = None;
            // A floor that was set when this rotation was already known stands above it.
            let root = RoleName::root();
            if self.floor.get(&root).is_none_or(|floor| next.header.version > *floor) {
                self.floor.retain(|role, _| *role == root);
            }
        }
    }

    /// Whether a threshold of the keys that `role` had is gone (section 5.3.11), or the held file no longer verifies. A key
    /// that is only added voids nothing: an older file that its old key signed must not be taken again.
    fn is_void(&self, next: &Root, role: RoleName, held: Option<&Arc<[u8]>>) -> bool {
        let (before, after) = (self.root.role(&role), next.role(&role));
        let is_gone = |key: &&PublicKey| !after.keys.values().any(|kept| kept == *key);
        let gone = before.keys.values().filter(is_gone).count() as u64;
        let is_rotated = self.profile == Profile::Strict && gone >= u64::from(before.threshold);
        let is_signed = |bytes: &Arc<[u8]>| {
            let file = Unverified::parse(&role, bytes, self.profile);
            file.is_ok_and(|file| file.check_threshold(after, version_of(&role, &next.header)).is_ok())
        };
        is_rotated || held.is_some_and(|bytes| !is_signed(bytes))
    }

    /// A newer timestamp (specification, section 5.4).
    pub fn update_timestamp(&mut self, bytes: &[u8], now: Timestamp) -> Result<Change, MetadataError> {
        self.take_timestamp(bytes, Some(now))
    }

    pub(super) fn take_timestamp(&mut self, bytes: &[u8], now: Option<Timestamp>) -> Result<Change, MetadataError> {
        let role = RoleName::timestamp();
        let root = RoleName::root();
        self.check_floor(&root, self.root.header.version)?;
        check_expiry(&root, &self.root.header, now)?;
        check_size(&role, bytes, bytes_max(&role, self.profile))?;
        let file = Unverified::parse(&role, bytes, self.profile)?;
        let signed = file.verify(self.root.role(&role), version_of(&root, &self.root.header))?;
        let body = TimestampBody::parse(signed, self.profile)?;
        self.check_floor(&role, body.header.version)?;
        self.check_floor(&RoleName::snapshot(), body.snapshot.version)?;
        if let Some(held) = &self.timestamp {
            // A foreign timestamp of the version that is held already says nothing (specification, section 5.4.3.1).
            if self.profile == Profile::Foreign && body.header.version == held.body.header.version {
                return Ok(Change::Same);
            }
            check_timestamp_forward(&body, bytes, held)?;
        }
        check_expiry(&role, &body.header, now)?;
        if self.timestamp.as_ref().is_some_and(|held| *held.bytes == *bytes) {
            return Ok(Change::Same);
        }
        self.timestamp = Some(Held::new(bytes, body));
        Ok(Change::Newer)
    }

    /// The snapshot that the timestamp names (specification, section 5.5).
    pub fn update_snapshot(&mut self, bytes: &[u8], now: Timestamp) -> Result<Change, MetadataError> {
        self.take_snapshot(bytes, Some(now))
    }

    pub(super) fn take_snapshot(&mut self, bytes: &[u8], now: Option<Timestamp>) -> Result<Change, MetadataError> {
        let role = RoleName::snapshot();
        let timestamp = self.timestamp.as_ref().ok_or_else(|| out_of_order(&role, RoleName::timestamp()))?;
        let meta = timestamp.body.snapshot;
        check_bytes(&role, bytes, &meta, self.profile)?;
        let body = self.verified_snapshot(bytes)?;
        check_version(&role, body.header.version, meta.version)?;
        for (name, meta) in &body.meta {
            self.check_floor(name, meta.version)?;
        }
        if let Some(held) = &self.snapshot {
            // Where no hash says so: two files under one version have two meanings.
            if held.body.header.version == body.header.version && *held.bytes != *bytes {
                return Err(MetadataError::SameVersionOtherBytes { role, version: body.header.version });
            }
            for (name, known) in &held.body.meta {
                let found = body.meta.get(name).ok_or_else(|| MetadataError::RoleDropped { role: name.clone() })?;
                check_forward(name, found, known)?;
            }
        }
        check_expiry(&role, &body.header, now)?;
        if self.snapshot.as_ref().is_some_and(|held| *held.bytes == *bytes) {
            return Ok(Change::Same);
        }
        self.snapshot = Some(Held::new(bytes, body));
        Ok(Change::Newer)
    }

    pub(super) fn verified_snapshot(&self, bytes: &[u8]) -> Result<Snapshot, MetadataError> {
        let role = RoleName::snapshot();
        let file = Unverified::parse(&role, bytes, self.profile)?;
        let by = version_of(&RoleName::root(), &self.root.header);
        Snapshot::parse(file.verify(self.root.role(&role), by)?, self.profile)
    }

    /// `targets` (parent `root`) or a role that `parent` delegates to, in the version that the snapshot names
    /// (specification, sections 5.6 and 4.5).
    pub fn update_role(
        &mut self,
        role: &RoleName,
        parent: &RoleName,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<Change, MetadataError> {
        self.take_role(role, parent, bytes, Some(now))
    }

    pub(super) fn take_role(
        &mut self,
        role: &RoleName,
        parent: &RoleName,
        bytes: &[u8],
        now: Option<Timestamp>,
    ) -> Result<Change, MetadataError> {
        let snapshot = self.current_snapshot().ok_or_else(|| out_of_order(role, RoleName::snapshot()))?;
        let (keys, by) = self.keys_for(role, parent, snapshot)?;
        let meta = snapshot.meta.get(role).ok_or_else(|| MetadataError::NotInSnapshot { role: role.clone() })?;
        check_bytes(role, bytes, meta, self.profile)?;
        self.check_one_meaning(role, meta, bytes)?;
        let file = Unverified::parse(role, bytes, self.profile)?;
        let body = Targets::parse(role, file.verify(keys, by)?, self.profile)?;
        check_version(role, body.header.version, meta.version)?;
        if !self.is_bound_of_one_ring(role) {
            check_expiry(role, &body.header, now)?;
        }
        for delegation in &body.delegations {
            if self.profile == Profile::Strict && !snapshot.meta.contains_key(&delegation.name) {
                return Err(MetadataError::NotInSnapshot { role: delegation.name.clone() });
            }
        }
        let held = Held::new(bytes, body);
        self.drop_what_is_delegated_otherwise(role, parent, &held.body);
        let known = match *parent == RoleName::root() {
            true => self.targets.replace(held),
            false => self.delegated.insert((parent.clone(), role.clone()), held),
        };
        Ok(if known.is_some_and(|known| *known.bytes == *bytes) { Change::Same } else { Change::Newer })
    }

    /// Who must have signed `role`, by the word of `parent`.
    fn keys_for(
        &self,
        role: &RoleName,
        parent: &RoleName,
        snapshot: &Snapshot,
    ) -> Result<(&RoleKeys, RoleVersion), MetadataError> {
        let targets = RoleName::targets();
        let not_delegated = || MetadataError::NotDelegated { role: role.clone(), parent: parent.clone() };
        if *parent == RoleName::root() && *role == targets {
            return Ok((self.root.role(role), version_of(parent, &self.root.header)));
        }
        let is_top = *parent == targets;
        if !is_top && self.profile == Profile::Strict {
            return Err(not_delegated());
        }
        let meta = snapshot.meta.get(parent).ok_or_else(not_delegated)?;
        let delegators = self.delegated.iter().filter(|((_, name), _)| name == parent).map(|(_, held)| held);
        let mut held = self.targets.iter().filter(|_| is_top).chain(delegators).filter(|held| held.is_as_in(meta));
        let held = held.next().ok_or_else(|| out_of_order(role, parent.clone()))?;
        let keys = held.body.keys_of(role).ok_or_else(not_delegated)?;
        Ok((keys, version_of(parent, &held.body.header)))
    }

    /// Roles that `delegator` delegates to stay only where its new version does so with the same keys.
    fn drop_what_is_delegated_otherwise(&mut self, delegator: &RoleName, parent: &RoleName, next: &Targets) {
        let known = match *parent == RoleName::root() {
            true => self.targets.as_ref(),
            false => self.delegated.get(&(parent.clone(), delegator.clone())),
        };
        let known = known.map(|held| held.body.clone());
        self.delegated.retain(|(by, role), _| {
            let keys = next.keys_of(role);
            let keys_before = known.as_ref().and_then(|known| known.keys_of(role));
            by != delegator || (keys.is_some() && keys == keys_before)
        });
    }

    /// Where a snapshot names no hashes, two files of one version may be shown: now and before, or to two delegators of
    /// one role. They must be one file, so that it does not matter when and by which path a role is reached.
    fn check_one_meaning(&self, role: &RoleName, meta: &FileMeta, bytes: &[u8]) -> Result<(), MetadataError> {
        let delegated = self.delegated.iter().filter(|((_, name), _)| name == role).map(|(_, held)| held);
        let top = self.targets.iter().filter(|_| *role == RoleName::targets());
        let mut others = delegated.chain(top).filter(|held| held.body.header.version == meta.version);
        match others.all(|held| *held.bytes == *bytes) {
            true => Ok(()),
            false => Err(MetadataError::SameVersionOtherBytes { role: role.clone(), version: meta.version }),
        }
    }

    fn check_floor(&self, role: &RoleName, found: u64) -> Result<(), MetadataError> {
        match self.floor.get(role) {
            Some(floor) if found < *floor => {
                Err(MetadataError::Rollback { role: role.clone(), found, trusted: *floor })
            }
            _ => Ok(()),
        }
    }
}

fn check_timestamp_forward(
    body: &TimestampBody,
    bytes: &[u8],
    held: &Held<TimestampBody>,
) -> Result<(), MetadataError> {
    let role = RoleName::timestamp();
    let known = &held.body;
    if body.header.version < known.header.version {
        return Err(MetadataError::Rollback { role, found: body.header.version, trusted: known.header.version });
    }
    if body.header.version == known.header.version && *held.bytes != *bytes {
        return Err(MetadataError::SameVersionOtherBytes { role, version: body.header.version });
    }
    check_forward(&RoleName::snapshot(), &body.snapshot, &known.snapshot)?;
    if body.issued_at < known.issued_at {
        return Err(MetadataError::IssuedBackwards { found: body.issued_at, trusted: known.issued_at });
    }
    if body.retraction_serial < known.retraction_serial {
        return Err(MetadataError::RetractionsBackwards {
            found: body.retraction_serial,
            trusted: known.retraction_serial,
        });
    }
    Ok(())
}

fn out_of_order(role: &RoleName, needs: RoleName) -> MetadataError {
    MetadataError::OutOfOrder { role: role.clone(), needs }
}
