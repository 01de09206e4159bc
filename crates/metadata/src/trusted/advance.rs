//! The four steps forward: root, timestamp, snapshot, targets and delegated roles.

use super::*;

impl Trusted {
    /// The next version of root, signed by a threshold of the old and of the new keys (specification, section 5.3).
    ///
    /// When it replaces the keys of timestamp or snapshot, what was held below is dropped and the floor with it: that is
    /// the way back after an attacker moved versions far ahead with stolen keys (section 5.3.11).
    pub fn update_root(&mut self, bytes: &[u8]) -> Result<Change, MetadataError> {
        let role = RoleName::root();
        check_size(&role, bytes, ROOT_BYTES_MAX)?;
        let file = Unverified::parse(&role, bytes)?;
        let signed = file.verify(self.root.role(&role), version_of(&role, &self.root.header))?;
        let body = Root::parse(signed)?;
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

    fn drop_what_other_keys_signed(&mut self, next: &Root) {
        let is_replaced = |role: RoleName| next.role(&role) != self.root.role(&role);
        let online = is_replaced(RoleName::timestamp()) || is_replaced(RoleName::snapshot());
        if online || is_replaced(RoleName::targets()) {
            self.targets = None;
            self.delegated.clear();
        }
        if online {
            self.timestamp = None;
            self.snapshot = None;
            // A floor that was set when this rotation was already known stands above it.
            let root = RoleName::root();
            if self.floor.get(&root).is_none_or(|floor| next.header.version > *floor) {
                self.floor.retain(|role, _| *role == root);
            }
        }
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
        check_size(&role, bytes, TIMESTAMP_BYTES_MAX)?;
        let file = Unverified::parse(&role, bytes)?;
        let body = TimestampBody::parse(file.verify(self.root.role(&role), version_of(&root, &self.root.header))?)?;
        self.check_floor(&role, body.header.version)?;
        self.check_floor(&RoleName::snapshot(), body.snapshot.version)?;
        if let Some(held) = &self.timestamp {
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
        check_bytes(&role, bytes, &meta)?;
        let file = Unverified::parse(&role, bytes)?;
        let by = version_of(&RoleName::root(), &self.root.header);
        let body = Snapshot::parse(file.verify(self.root.role(&role), by)?)?;
        check_version(&role, body.header.version, meta.version)?;
        for (name, meta) in &body.meta {
            self.check_floor(name, meta.version)?;
        }
        if let Some(held) = &self.snapshot {
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
        check_bytes(role, bytes, meta)?;
        let body = Targets::parse(role, Unverified::parse(role, bytes)?.verify(keys, by)?)?;
        check_version(role, body.header.version, meta.version)?;
        check_expiry(role, &body.header, now)?;
        for delegation in &body.delegations {
            if !snapshot.meta.contains_key(&delegation.name) {
                return Err(MetadataError::NotInSnapshot { role: delegation.name.clone() });
            }
        }
        let held = Held::new(bytes, body);
        let known = match *parent == RoleName::root() {
            true => self.replace_targets(held),
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
        if *parent != targets {
            return Err(not_delegated());
        }
        let meta = snapshot.meta.get(&targets).ok_or_else(not_delegated)?;
        let held = self
            .targets
            .as_ref()
            .filter(|held| held.is_as_in(meta))
            .ok_or_else(|| out_of_order(role, targets.clone()))?;
        let delegation = held.body.delegation(role).ok_or_else(not_delegated)?;
        Ok((&delegation.keys, version_of(&targets, &held.body.header)))
    }

    /// Delegated roles stay only where the new targets delegates to them with the same keys.
    fn replace_targets(&mut self, held: Held<Targets>) -> Option<Held<Targets>> {
        let known = self.targets.replace(held.clone());
        self.delegated.retain(|(_, role), _| {
            let keys = held.body.delegation(role).map(|found| &found.keys);
            let keys_before = known.as_ref().and_then(|known| known.body.delegation(role)).map(|found| &found.keys);
            keys.is_some() && keys == keys_before
        });
        known
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
