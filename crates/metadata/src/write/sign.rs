//! One signing: which roles get a new version, their bytes, and the chain of snapshot and timestamp above them.

use super::*;
use crate::ceremony::{RootPlan, TargetsPlan};
use crate::envelope;
use sluice_model::LogHead;

/// One commit under way.
pub(super) struct Signing<'a> {
    writer: &'a Writer,
    keyring: &'a Keyring,
    now: Timestamp,
    /// What is in force from this commit on.
    root: RootPlan,
    targets: TargetsPlan,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// What the new snapshot says of the roles that changed.
    meta: BTreeMap<RoleName, Json>,
}

impl<'a> Signing<'a> {
    pub(super) fn new(writer: &'a Writer, keyring: &'a Keyring, now: Timestamp) -> Result<Self, WriteError> {
        let in_force = |role: RoleName| -> Result<DraftFile, WriteError> {
            match writer.given.get(&role) {
                Some(draft) => Ok(draft.clone()),
                None => writer.current(&role),
            }
        };
        let root = RootPlan::of(&in_force(RoleName::root())?)?;
        let targets = TargetsPlan::of(&in_force(RoleName::targets())?)?;
        Ok(Self { writer, keyring, now, root, targets, files: BTreeMap::new(), meta: BTreeMap::new() })
    }

    fn is_due(&self, role: &RoleName, expires: Timestamp) -> bool {
        expires.since(self.now) < lifetime(role) / 3
    }

    pub(super) fn sign_root(&mut self) -> Result<(), WriteError> {
        let role = RoleName::root();
        let body = self.writer.trusted.root_body();
        let before = RootPlan::of(&self.writer.current(&role)?)?.terms(&role);
        let after = self.root.terms(&role);
        if let Some(draft) = self.writer.given.get(&role) {
            let mut draft = draft.clone();
            for signer in self.keyring.signers(&role) {
                draft.sign(signer);
            }
            draft.keep_valid(&[&before, &after]);
            for terms in [&before, &after] {
                self.check_signed(&draft, terms)?;
            }
            self.files.insert(draft.file_name(), draft.to_bytes());
            return Ok(());
        }
        let version = body.header.version;
        if self.is_due(&role, body.header.expires) && self.keyring.reaches(&role, &after) {
            let mut signed = self.writer.stored(&role, version)?;
            self.renew(&role, &mut signed, version + 1);
            let bytes = envelope::sign(&Json::Object(signed), &self.keyring.named(&role, &after));
            self.files.insert(format!("{}.root.json", version + 1), bytes);
        }
        Ok(())
    }

    /// `targets` and every delegated role that was given, changed, is due, or has other keys than before.
    pub(super) fn sign_roles(&mut self) -> Result<(), WriteError> {
        let top = RoleName::targets();
        let delegated = self.targets.delegations.iter();
        let mut roles: Vec<(RoleName, Terms)> = delegated.map(|row| (row.role.clone(), row.terms.clone())).collect();
        roles.push((top.clone(), self.root.terms(&top)));
        for (role, terms) in roles {
            match self.writer.given.get(&role) {
                Some(draft) => self.take_given(draft.clone(), &terms)?,
                None => self.sign_role(&role, &terms)?,
            }
        }
        Ok(())
    }

    fn take_given(&mut self, mut draft: DraftFile, terms: &Terms) -> Result<(), WriteError> {
        for signer in self.keyring.named(draft.role(), terms) {
            draft.sign(&signer);
        }
        draft.keep_valid(&[terms]);
        self.check_signed(&draft, terms)?;
        self.add(&draft.role().clone(), draft.version(), draft.to_bytes())
    }

    fn check_signed(&self, draft: &DraftFile, terms: &Terms) -> Result<(), WriteError> {
        match draft.missing(terms) {
            0 => Ok(()),
            missing => Err(WriteError::Unsigned { role: draft.role().clone(), missing, threshold: terms.threshold }),
        }
    }

    fn sign_role(&mut self, role: &RoleName, terms: &Terms) -> Result<(), WriteError> {
        let Some(body) = self.writer.trusted.role_body(role) else { return self.sign_first(role, terms) };
        let version = body.header.version;
        let pending = self.writer.pending.get(role).filter(|entries| **entries != body.targets);
        // Without a ceremony the keys are those under which it was verified when it was loaded.
        let is_ceremony = !self.writer.given.is_empty();
        let still_verifies = !is_ceremony || self.writer.current(role)?.reaches(terms);
        let is_jump = self.writer.skipped > 0;
        if pending.is_none() && still_verifies && !is_jump && !self.is_due(role, body.header.expires) {
            return Ok(());
        }
        let signers = self.keyring.named(role, terms);
        if (signers.len() as u64) < u64::from(terms.threshold) {
            let missing = terms.threshold as usize - signers.len();
            return match (pending, still_verifies) {
                // What this server cannot renew by itself is its holders' duty; the calendar warns them.
                (None, true) => Ok(()),
                (None, false) => Err(WriteError::Unsigned { role: role.clone(), missing, threshold: terms.threshold }),
                (Some(_), _) => {
                    Err(WriteError::KeysMissing { role: role.clone(), held: signers.len(), threshold: terms.threshold })
                }
            };
        }
        let mut signed = self.writer.stored(role, version)?;
        if let Some(entries) = pending {
            signed.insert("targets".into(), encode_targets(entries)?);
        }
        let next = self.after(version);
        self.renew(role, &mut signed, next);
        self.add(role, next, envelope::sign(&Json::Object(signed), &signers))
    }

    /// A role that targets delegates to from now on: empty, if this server may say so.
    fn sign_first(&mut self, role: &RoleName, terms: &Terms) -> Result<(), WriteError> {
        let draft = ReleasePlan::first(role.clone(), self.now).to_draft()?;
        self.take_given(draft, terms)
    }

    /// The snapshot's meta entry for the timestamp: of a new one when a role changed or it is due, else the present one.
    pub(super) fn sign_snapshot(&mut self) -> Result<Json, WriteError> {
        let role = RoleName::snapshot();
        let trusted = &self.writer.trusted;
        let body = trusted.snapshot_body().ok_or_else(|| missing("snapshot.json"))?;
        let version = body.header.version;
        let terms = self.root.terms(&role);
        let has_its_keys = RootPlan::of(&self.writer.current(&RoleName::root())?)?.terms(&role) == terms;
        if self.meta.is_empty() && has_its_keys && self.writer.skipped == 0 && !self.is_due(&role, body.header.expires)
        {
            let bytes =
                &self.writer.files.get(&format!("{version}.snapshot.json")).ok_or_else(|| missing("snapshot"))?;
            return Ok(file_meta(version, bytes));
        }
        let mut signed = self.writer.stored(&role, version)?;
        let Some(Json::Object(table)) = signed.get_mut("meta") else { return Err(missing("snapshot").into()) };
        for (name, meta) in std::mem::take(&mut self.meta) {
            table.insert(format!("{name}.json"), meta);
        }
        let next = self.after(version);
        self.renew(&role, &mut signed, next);
        let bytes = envelope::sign(&Json::Object(signed), &self.signers(&role)?);
        self.add(&role, next, bytes)?;
        self.meta.remove(&role).ok_or_else(|| missing("snapshot").into())
    }

    pub(super) fn sign_timestamp(&mut self, snapshot: Json, lease: Duration) -> Result<(), WriteError> {
        let role = RoleName::timestamp();
        let trusted = &self.writer.trusted;
        let signers = self.signers(&role)?;
        let tombstones = self.writer.entries(&RoleName::retractions());
        let version = self.after(trusted.timestamp_version());
        let log = self.writer.log.or_else(|| trusted.log_head());
        let signed = encode_timestamp(version, self.now, lease, snapshot, tombstones, log);
        self.files.insert("timestamp.json".into(), envelope::sign(&signed, &signers));
        Ok(())
    }

    fn add(&mut self, role: &RoleName, version: u64, bytes: Vec<u8>) -> Result<(), WriteError> {
        let length_max = if *role == RoleName::snapshot() { SNAPSHOT_BYTES_MAX } else { ROLE_BYTES_MAX };
        let length = bytes.len() as u64;
        if length > length_max {
            return Err(WriteError::RoleTooLarge { role: role.clone(), length, length_max });
        }
        self.meta.insert(role.clone(), file_meta(version, &bytes));
        self.files.insert(format!("{version}.{role}.json"), bytes);
        Ok(())
    }

    /// The version that this commit gives a role of `version`.
    fn after(&self, version: u64) -> u64 {
        version.saturating_add(1).saturating_add(self.writer.skipped)
    }

    fn renew(&self, role: &RoleName, signed: &mut BTreeMap<String, Json>, version: u64) {
        signed.insert("version".into(), Json::Unsigned(version));
        signed.insert("expires".into(), json::text(self.now.plus(lifetime(role)).to_seconds_text()));
    }

    /// The keys held here that the new root names for an online role, if they reach its threshold.
    fn signers(&self, role: &RoleName) -> Result<Vec<Signer>, WriteError> {
        let terms = self.root.terms(role);
        let signers = self.keyring.named(role, &terms);
        if (signers.len() as u64) < u64::from(terms.threshold) {
            return Err(WriteError::KeysMissing {
                role: role.clone(),
                held: signers.len(),
                threshold: terms.threshold,
            });
        }
        Ok(signers)
    }
}

/// How long a role is valid from its signing.
pub(crate) fn lifetime(role: &RoleName) -> Duration {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    match role.as_str() {
        "root" | "targets" => DAY * 365,
        name if name.starts_with("rel-") => DAY * 90,
        _ => DAY * 7,
    }
}

fn missing(file: &str) -> MetadataError {
    MetadataError::Missing { file: file.to_owned() }
}

pub(crate) fn header(kind: &str, version: u64, expires: Timestamp) -> BTreeMap<String, Json> {
    BTreeMap::from([
        ("_type".to_owned(), json::text(kind)),
        ("spec_version".to_owned(), json::text(SPEC_VERSION)),
        ("version".to_owned(), Json::Unsigned(version)),
        ("expires".to_owned(), json::text(expires.to_seconds_text())),
    ])
}

fn hashes(sha256: &sluice_model::Sha256) -> Json {
    json::object([("sha256", json::text(sha256.to_hex()))])
}

pub(super) fn file_meta(version: u64, bytes: &[u8]) -> Json {
    json::object([
        ("version", Json::Unsigned(version)),
        ("length", Json::Unsigned(bytes.len() as u64)),
        ("hashes", hashes(&json::sha256(bytes))),
    ])
}

pub(crate) fn encode_targets(entries: &BTreeMap<TargetName, TargetEntry>) -> Result<Json, WriteError> {
    let mut rows = BTreeMap::new();
    for (target, entry) in entries {
        let mut row = BTreeMap::from([
            ("length".to_owned(), Json::Unsigned(entry.length)),
            ("hashes".to_owned(), hashes(&entry.sha256)),
        ]);
        if let Some(custom) = &entry.custom {
            let custom =
                json::from_value(custom).map_err(|reason| WriteError::BadCustom { target: target.clone(), reason })?;
            row.insert("custom".into(), custom);
        }
        rows.insert(target.to_string(), Json::Object(row));
    }
    Ok(Json::Object(rows))
}

pub(super) fn encode_timestamp(
    version: u64,
    now: Timestamp,
    lease: Duration,
    snapshot: Json,
    tombstones: Option<&BTreeMap<TargetName, TargetEntry>>,
    log: Option<LogHead>,
) -> Json {
    let (count, serial) = tombstones.map(archive::totals).unwrap_or_default();
    let mut signed = header("timestamp", version, now.plus(lease));
    signed.insert("meta".into(), json::object([("snapshot.json", snapshot)]));
    signed.insert("x-issued".into(), Json::Unsigned(now.as_millis()));
    let retractions = json::object([("count", Json::Unsigned(count)), ("serial", Json::Unsigned(serial))]);
    signed.insert("x-retractions".into(), retractions);
    if let Some(log) = log {
        let log = [("size", Json::Unsigned(log.size)), ("root", json::text(log.root.to_hex()))];
        signed.insert("x-log".into(), json::object(log));
    }
    Json::Object(signed)
}
