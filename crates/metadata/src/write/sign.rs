//! One signing: which roles get a new version, their bytes, and the chain of snapshot and timestamp above them.

use super::*;
use crate::{KeyId, envelope};

/// One commit under way.
pub(super) struct Signing<'a> {
    writer: &'a Writer,
    keyring: &'a Keyring,
    now: Timestamp,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// What the new snapshot says of the roles that changed.
    meta: BTreeMap<RoleName, Json>,
}

impl<'a> Signing<'a> {
    pub(super) fn new(writer: &'a Writer, keyring: &'a Keyring, now: Timestamp) -> Self {
        Self { writer, keyring, now, files: BTreeMap::new(), meta: BTreeMap::new() }
    }

    fn is_due(&self, role: &RoleName, expires: Timestamp) -> bool {
        expires.since(self.now) < lifetime(role) / 3
    }

    pub(super) fn sign_root(&mut self) -> Result<(), WriteError> {
        let role = RoleName::root();
        let root = self.writer.trusted.root_body();
        if !self.is_due(&role, root.header.expires) || self.signers(&role, root.role(&role)).is_err() {
            return Ok(());
        }
        let mut signed = self.writer.stored(&role, root.header.version)?;
        self.bump(&role, &mut signed, root.header.version);
        let signers = self.signers(&role, root.role(&role))?;
        let bytes = envelope::sign(&Json::Object(signed), &signers);
        self.files.insert(format!("{}.root.json", root.header.version + 1), bytes);
        Ok(())
    }

    /// `targets` and every delegated role that changed or is due.
    pub(super) fn sign_roles(&mut self) -> Result<(), WriteError> {
        let trusted = &self.writer.trusted;
        let top = RoleName::targets();
        let targets = trusted.role_body(&top).ok_or_else(|| missing("targets.json"))?;
        let by_root = (top.clone(), trusted.root_body().role(&top));
        let delegated = targets.delegations.iter().map(|delegation| (delegation.name.clone(), &delegation.keys));
        for (role, keys) in delegated.chain([by_root]) {
            let body = trusted.role_body(&role).ok_or_else(|| missing(role.as_str()))?;
            let pending = self.writer.pending.get(&role).filter(|entries| **entries != body.targets);
            let signers = match (pending, self.is_due(&role, body.header.expires)) {
                (None, false) => continue,
                (Some(_), _) => self.signers(&role, keys)?,
                // What this server cannot renew by itself is its owners' duty; their calendar warns them.
                (None, true) => match self.signers(&role, keys) {
                    Ok(signers) => signers,
                    Err(_) => continue,
                },
            };
            let mut signed = self.writer.stored(&role, body.header.version)?;
            if let Some(entries) = pending {
                signed.insert("targets".into(), encode_targets(entries)?);
            }
            self.bump(&role, &mut signed, body.header.version);
            self.add(&role, body.header.version + 1, Json::Object(signed), &signers)?;
        }
        Ok(())
    }

    /// The snapshot's meta entry for the timestamp: of a new one when a role changed or it is due, else the present one.
    pub(super) fn sign_snapshot(&mut self) -> Result<Json, WriteError> {
        let role = RoleName::snapshot();
        let trusted = &self.writer.trusted;
        let body = trusted.snapshot_body().ok_or_else(|| missing("snapshot.json"))?;
        let version = body.header.version;
        if self.meta.is_empty() && !self.is_due(&role, body.header.expires) {
            let bytes =
                &self.writer.files.get(&format!("{version}.snapshot.json")).ok_or_else(|| missing("snapshot"))?;
            return Ok(file_meta(version, bytes));
        }
        let mut signed = self.writer.stored(&role, version)?;
        let Some(Json::Object(table)) = signed.get_mut("meta") else { return Err(missing("snapshot").into()) };
        for (name, meta) in std::mem::take(&mut self.meta) {
            table.insert(format!("{name}.json"), meta);
        }
        self.bump(&role, &mut signed, version);
        let signers = self.signers(&role, trusted.root_body().role(&role))?;
        self.add(&role, version + 1, Json::Object(signed), &signers)?;
        self.meta.remove(&role).ok_or_else(|| missing("snapshot").into())
    }

    pub(super) fn sign_timestamp(&mut self, snapshot: Json, lease: Duration) -> Result<(), WriteError> {
        let role = RoleName::timestamp();
        let trusted = &self.writer.trusted;
        let signers = self.signers(&role, trusted.root_body().role(&role))?;
        let tombstones = self.writer.entries(&RoleName::retractions());
        let version = trusted.timestamp_version() + 1;
        let signed = encode_timestamp(version, self.now, lease, snapshot, tombstones);
        self.files.insert("timestamp.json".into(), envelope::sign(&signed, &signers));
        Ok(())
    }

    fn add(&mut self, role: &RoleName, version: u64, signed: Json, signers: &[Signer]) -> Result<(), WriteError> {
        let bytes = envelope::sign(&signed, signers);
        let length_max = if *role == RoleName::snapshot() { SNAPSHOT_BYTES_MAX } else { ROLE_BYTES_MAX };
        let length = bytes.len() as u64;
        if length > length_max {
            return Err(WriteError::RoleTooLarge { role: role.clone(), length, length_max });
        }
        self.meta.insert(role.clone(), file_meta(version, &bytes));
        self.files.insert(format!("{version}.{role}.json"), bytes);
        Ok(())
    }

    fn bump(&self, role: &RoleName, signed: &mut BTreeMap<String, Json>, version: u64) {
        signed.insert("version".into(), Json::Unsigned(version + 1));
        signed.insert("expires".into(), json::text(self.now.plus(lifetime(role)).to_seconds_text()));
    }

    /// The keys held here that the role names, if they reach its threshold.
    fn signers(&self, role: &RoleName, keys: &envelope::RoleKeys) -> Result<Vec<Signer>, WriteError> {
        let named = |signer: &&Signer| keys.keys.contains_key(&KeyId::of(&signer.public_key()));
        let signers: Vec<Signer> = self.keyring.signers(role).iter().filter(named).cloned().collect();
        if (signers.len() as u64) < u64::from(keys.threshold) {
            return Err(WriteError::KeysMissing { role: role.clone(), held: signers.len(), threshold: keys.threshold });
        }
        Ok(signers)
    }
}

/// How long a role is valid from its signing.
pub(super) fn lifetime(role: &RoleName) -> Duration {
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

pub(super) fn header(kind: &str, version: u64, expires: Timestamp) -> BTreeMap<String, Json> {
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

fn encode_targets(entries: &BTreeMap<TargetName, TargetEntry>) -> Result<Json, WriteError> {
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
) -> Json {
    let serials = tombstones.into_iter().flatten().filter_map(|(target, _)| target.file().parse::<u64>().ok());
    let (count, serial) = serials.fold((0, 0), |(count, highest), serial| (count + 1, highest.max(serial)));
    let mut signed = header("timestamp", version, now.plus(lease));
    signed.insert("meta".into(), json::object([("snapshot.json", snapshot)]));
    signed.insert("x-issued".into(), Json::Unsigned(now.as_millis()));
    let retractions = json::object([("count", Json::Unsigned(count)), ("serial", Json::Unsigned(serial))]);
    signed.insert("x-retractions".into(), retractions);
    Json::Object(signed)
}
