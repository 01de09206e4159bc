//! The first version of every role: root with its keys, targets with its delegations, empty roles, and the chain above.

use super::sign::{encode_timestamp, file_meta, header, lifetime};
use super::*;
use crate::envelope;

/// The paths of `retractions`, `fleet` and `policy`, which come first in this order.
const FIXED: [&str; 3] = ["retractions/*", "fleet/*", "policy/*"];
/// Rings of one repository.
const RINGS_MAX: usize = DELEGATIONS_MAX - FIXED.len();

/// Every role of a repository with these rings: each needs a key in the keyring of [`Writer::init`].
pub fn dev_roles(rings: &[RingName]) -> Vec<RoleName> {
    let mut roles = vec![RoleName::root(), RoleName::targets(), RoleName::snapshot(), RoleName::timestamp()];
    roles.extend(delegations(rings).map(|(role, _)| role));
    roles
}

fn delegations(rings: &[RingName]) -> impl Iterator<Item = (RoleName, String)> + '_ {
    let fixed = [RoleName::retractions(), RoleName::fleet(), RoleName::policy()].into_iter().zip(FIXED);
    let fixed = fixed.map(|(role, path)| (role, path.to_owned()));
    fixed.chain(rings.iter().map(|ring| (RoleName::release(ring), format!("patches/{ring}/*"))))
}

impl Writer {
    /// A new repository with an empty release role a ring. The keyring needs a key for each of [`dev_roles`]; every
    /// threshold is 1.
    pub fn init(params: InitParams, keyring: &Keyring) -> Result<(Self, Publication), WriteError> {
        check_params(&params)?;
        for role in dev_roles(&params.rings) {
            if keyring.signers(&role).is_empty() {
                return Err(WriteError::KeysMissing { role, held: 0, threshold: 1 });
            }
        }
        let now = params.now;
        let root = encode_root(&params, keyring);
        let root = envelope::sign(&root, keyring.signers(&RoleName::root()));
        let mut files = BTreeMap::new();
        let mut meta = BTreeMap::new();
        let mut add = |role: &RoleName, members: Vec<(&str, Json)>| {
            let mut signed = header("targets", 1, now.plus(lifetime(role)));
            signed.extend(members.into_iter().map(|(key, value)| (key.to_owned(), value)));
            let bytes = envelope::sign(&Json::Object(signed), keyring.signers(role));
            meta.insert(format!("{role}.json"), file_meta(1, &bytes));
            files.insert(format!("1.{role}.json"), bytes);
        };
        let empty = || Json::Object(BTreeMap::new());
        for (role, _) in delegations(&params.rings) {
            add(&role, vec![("targets", empty())]);
        }
        let delegations = encode_delegations(&params.rings, keyring);
        add(&RoleName::targets(), vec![("targets", empty()), ("delegations", delegations)]);

        let role = RoleName::snapshot();
        let mut signed = header("snapshot", 1, now.plus(lifetime(&role)));
        signed.insert("meta".into(), Json::Object(meta));
        let snapshot = envelope::sign(&Json::Object(signed), keyring.signers(&role));
        let signed = encode_timestamp(1, now, params.lease, file_meta(1, &snapshot), None);
        files.insert("1.snapshot.json".into(), snapshot);
        files.insert("timestamp.json".into(), envelope::sign(&signed, keyring.signers(&RoleName::timestamp())));

        let trusted = Trusted::new(&root, Profile::Strict)?.apply(&mut |name| files.get(name).cloned(), now)?.trusted;
        let files = trusted.files().into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect();
        Ok((Self::of(trusted), Publication { files }))
    }
}

fn check_params(params: &InitParams) -> Result<(), WriteError> {
    check_lease(params.lease)?;
    if params.profile != RepositoryProfile::Dev {
        return Err(WriteError::NeedsCeremony(params.profile));
    }
    if !body::is_repo_id(&params.repo_id) {
        return Err(WriteError::BadParameter { field: "repository id", rule: body::REPO_ID_RULE.into() });
    }
    let rings = &params.rings;
    let twice = rings.iter().enumerate().any(|(idx, ring)| rings[..idx].contains(ring));
    if rings.is_empty() || rings.len() > RINGS_MAX || twice {
        let rule = format!("1 to {RINGS_MAX} rings, each named once");
        return Err(WriteError::BadParameter { field: "rings", rule });
    }
    Ok(())
}

fn encode_key(public_key: &[u8; 32]) -> Json {
    json::object([
        ("keytype", json::text("ed25519")),
        ("scheme", json::text("ed25519")),
        ("keyval", json::object([("public", json::text(hex::encode(public_key)))])),
    ])
}

/// The key table of these roles.
fn encode_keys<'a>(roles: impl Iterator<Item = &'a RoleName>, keyring: &Keyring) -> Json {
    let keys = roles.flat_map(|role| keyring.signers(role));
    Json::Object(keys.map(|key| (key.key_id().to_string(), encode_key(&key.public_key()))).collect())
}

/// `keyids` and `threshold` of a role.
fn encode_role_keys(role: &RoleName, keyring: &Keyring) -> [(&'static str, Json); 2] {
    let keyids = keyring.signers(role).iter().map(|key| json::text(key.key_id().as_str())).collect();
    [("keyids", Json::Array(keyids)), ("threshold", Json::Unsigned(1))]
}

fn encode_root(params: &InitParams, keyring: &Keyring) -> Json {
    let names = [RoleName::root(), RoleName::targets(), RoleName::snapshot(), RoleName::timestamp()];
    let roles = names.iter().map(|role| (role.to_string(), json::object(encode_role_keys(role, keyring)))).collect();
    let mut signed = header("root", 1, params.now.plus(lifetime(&RoleName::root())));
    signed.insert("consistent_snapshot".into(), Json::Bool(true));
    signed.insert("keys".into(), encode_keys(names.iter(), keyring));
    signed.insert("roles".into(), Json::Object(roles));
    signed.insert("x-profile".into(), json::text(params.profile.as_str()));
    signed.insert("x-repo-id".into(), json::text(params.repo_id.clone()));
    Json::Object(signed)
}

fn encode_delegations(rings: &[RingName], keyring: &Keyring) -> Json {
    let names: Vec<RoleName> = delegations(rings).map(|(role, _)| role).collect();
    let rows = delegations(rings)
        .map(|(role, path)| {
            let [keyids, threshold] = encode_role_keys(&role, keyring);
            json::object([
                ("name", json::text(role.as_str())),
                keyids,
                threshold,
                ("paths", Json::Array(vec![json::text(path)])),
                ("terminating", Json::Bool(true)),
            ])
        })
        .collect();
    json::object([("keys", encode_keys(names.iter(), keyring)), ("roles", Json::Array(rows))])
}
