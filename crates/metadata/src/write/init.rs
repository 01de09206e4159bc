//! The first version of every role: root with its keys, targets with its delegations, empty roles, and the chain above.

use super::sign::{encode_timestamp, file_meta, header, lifetime};
use super::*;
use crate::KeyId;
use crate::ceremony::{DelegationPlan, RootPlan, TargetsPlan};
use crate::envelope;

/// The paths of `retractions`, `fleet` and `policy`, which come first in this order.
const FIXED: [&str; 3] = ["retractions/*", "fleet/*", "policy/*"];
/// Rings of one repository.
pub const RINGS_MAX: usize = DELEGATIONS_MAX - FIXED.len();

/// A ring of a new repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingPlan {
    /// Its name.
    pub name: RingName,
    /// Public keys of its approvers. With any, the server's signature and one of theirs are needed; with none, the
    /// server's alone.
    pub approvers: Vec<[u8; 32]>,
}

/// A new repository whose root and targets are signed by people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitPlan {
    /// `x-repo-id`: 1 to 64 lower-case letters, digits and '-'.
    pub repo_id: String,
    /// `x-profile`.
    pub profile: RepositoryProfile,
    /// In lifecycle order, at least one, at most [`RINGS_MAX`], each once.
    pub rings: Vec<RingPlan>,
    /// Who signs root.
    pub root: Terms,
    /// Who signs targets.
    pub targets: Terms,
    /// Names of the keys that persons hold.
    pub names: BTreeMap<KeyId, String>,
    /// Now.
    pub now: Timestamp,
}

/// Every role of a repository with these rings: each needs a key in the keyring of [`Writer::init`].
pub fn dev_roles(rings: &[RingName]) -> Vec<RoleName> {
    let mut roles = vec![RoleName::root(), RoleName::targets()];
    roles.extend(online_roles(rings));
    roles
}

/// The roles of which a production server has a key.
pub fn online_roles(rings: &[RingName]) -> Vec<RoleName> {
    let mut roles = vec![RoleName::snapshot(), RoleName::timestamp()];
    roles.extend(delegations(rings.iter()).map(|(role, _)| role));
    roles
}

fn delegations<'a>(rings: impl Iterator<Item = &'a RingName>) -> impl Iterator<Item = (RoleName, String)> {
    let fixed = [RoleName::retractions(), RoleName::fleet(), RoleName::policy()].into_iter().zip(FIXED);
    let fixed = fixed.map(|(role, path)| (role, path.to_owned()));
    fixed.chain(rings.map(|ring| (RoleName::release(ring), format!("patches/{ring}/*"))))
}

impl InitPlan {
    /// Root, targets, and every release role that the server cannot begin alone, with the signatures that the keys of
    /// `keyring` can give. The keyring needs a key for each of [`online_roles`].
    pub fn drafts(&self, keyring: &Keyring) -> Result<Vec<DraftFile>, WriteError> {
        self.check()?;
        let root = self.root_plan(keyring)?;
        let targets = self.targets_plan(keyring)?;
        let mut drafts = vec![root.to_draft(), targets.to_draft()];
        for delegation in &targets.delegations {
            if !keyring.reaches(&delegation.role, &delegation.terms) {
                let mut draft = ReleasePlan::first(delegation.role.clone(), self.now).to_draft()?;
                keyring.named(&delegation.role, &delegation.terms).iter().for_each(|signer| draft.sign(signer));
                drafts.push(draft);
            }
        }
        Ok(drafts)
    }

    fn check(&self) -> Result<(), WriteError> {
        if !body::is_repo_id(&self.repo_id) {
            return Err(WriteError::BadParameter { field: "repository id", rule: body::REPO_ID_RULE.into() });
        }
        let rings: Vec<&RingName> = self.rings.iter().map(|ring| &ring.name).collect();
        let twice = rings.iter().enumerate().any(|(idx, ring)| rings[..idx].contains(ring));
        if rings.is_empty() || rings.len() > RINGS_MAX || twice {
            let rule = format!("1 to {RINGS_MAX} rings, each named once");
            return Err(WriteError::BadParameter { field: "rings", rule });
        }
        for (field, terms) in [("keys of root", &self.root), ("keys of targets", &self.targets)] {
            if terms.threshold == 0 || terms.threshold as usize > terms.keys.len() {
                let rule = format!("{} keys cannot give {} signatures", terms.keys.len(), terms.threshold);
                return Err(WriteError::BadParameter { field, rule });
            }
        }
        Ok(())
    }

    fn root_plan(&self, keyring: &Keyring) -> Result<RootPlan, WriteError> {
        let mut roles =
            BTreeMap::from([(RoleName::root(), self.root.clone()), (RoleName::targets(), self.targets.clone())]);
        for role in [RoleName::snapshot(), RoleName::timestamp()] {
            roles.insert(role.clone(), Terms::new(held(keyring, &role)?, 1));
        }
        Ok(RootPlan {
            version: 1,
            expires: self.now.plus(lifetime(&RoleName::root())),
            profile: self.profile,
            repo_id: self.repo_id.clone(),
            roles,
            names: self.names.clone(),
        })
    }

    fn targets_plan(&self, keyring: &Keyring) -> Result<TargetsPlan, WriteError> {
        let mut rows = Vec::new();
        for (role, path) in delegations(self.rings.iter().map(|ring| &ring.name)) {
            let ring = self.rings.iter().find(|ring| RoleName::release(&ring.name) == role);
            let approvers = ring.map(|ring| ring.approvers.clone()).unwrap_or_default();
            let threshold = if approvers.is_empty() { 1 } else { 2 };
            let terms = Terms::new(held(keyring, &role)?.into_iter().chain(approvers), threshold);
            rows.push(DelegationPlan { role, terms, paths: vec![path] });
        }
        Ok(TargetsPlan {
            version: 1,
            expires: self.now.plus(lifetime(&RoleName::targets())),
            delegations: rows,
            names: self.names.clone(),
        })
    }
}

fn held(keyring: &Keyring, role: &RoleName) -> Result<Vec<[u8; 32]>, WriteError> {
    match keyring.signers(role) {
        [] => Err(WriteError::KeysMissing { role: role.clone(), held: 0, threshold: 1 }),
        signers => Ok(signers.iter().map(Signer::public_key).collect()),
    }
}

impl Writer {
    /// A new dev repository with an empty release role a ring. The keyring needs a key for each of [`dev_roles`]; every
    /// threshold is 1.
    pub fn init(params: InitParams, keyring: &Keyring) -> Result<(Self, Publication), WriteError> {
        check_lease(params.lease)?;
        if params.profile != RepositoryProfile::Dev {
            return Err(WriteError::NeedsCeremony(params.profile));
        }
        let rings = params.rings.into_iter().map(|name| RingPlan { name, approvers: Vec::new() });
        let plan = InitPlan {
            repo_id: params.repo_id,
            profile: params.profile,
            rings: rings.collect(),
            root: Terms::new(held(keyring, &RoleName::root())?, 1),
            targets: Terms::new(held(keyring, &RoleName::targets())?, 1),
            names: BTreeMap::new(),
            now: params.now,
        };
        Self::start(plan.drafts(keyring)?, keyring, params.now, params.lease)
    }

    /// A new repository of the files that people signed: those of [`InitPlan::drafts`].
    pub fn start(
        given: Vec<DraftFile>,
        keyring: &Keyring,
        now: Timestamp,
        lease: Duration,
    ) -> Result<(Self, Publication), WriteError> {
        check_lease(lease)?;
        let mut first = First { given: BTreeMap::new(), keyring, now, files: BTreeMap::new() };
        first.given.extend(given.into_iter().map(|draft| (draft.role().clone(), draft)));
        let root = RootPlan::of(first.needed(&RoleName::root())?)?;
        let targets = TargetsPlan::of(first.needed(&RoleName::targets())?)?;
        let mut meta = BTreeMap::new();
        for delegation in &targets.delegations {
            first.add(&delegation.role, &delegation.terms, &mut meta)?;
        }
        first.add(&RoleName::targets(), &root.terms(&RoleName::targets()), &mut meta)?;
        first.add(&RoleName::root(), &root.terms(&RoleName::root()), &mut BTreeMap::new())?;
        let signers = |role: &RoleName| {
            let terms = root.terms(role);
            match keyring.reaches(role, &terms) {
                true => Ok(keyring.named(role, &terms)),
                false => Err(WriteError::KeysMissing { role: role.clone(), held: 0, threshold: terms.threshold }),
            }
        };
        let role = RoleName::snapshot();
        let mut signed = header("snapshot", 1, now.plus(lifetime(&role)));
        signed.insert("meta".into(), Json::Object(meta));
        let snapshot = envelope::sign(&Json::Object(signed), &signers(&role)?);
        let signed = encode_timestamp(1, now, lease, file_meta(1, &snapshot), None, None);
        let mut files = first.files;
        files.insert("1.snapshot.json".into(), snapshot);
        files.insert("timestamp.json".into(), envelope::sign(&signed, &signers(&RoleName::timestamp())?));

        let root = files.get("1.root.json").ok_or_else(|| MetadataError::Missing { file: "1.root.json".into() })?;
        let trusted = Trusted::new(root, Profile::Strict)?.apply(&mut |name| files.get(name).cloned(), now)?.trusted;
        let files = trusted.files().into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect();
        Ok((Self::of(trusted), Publication { files }))
    }
}

/// The first files, as they are made.
struct First<'a> {
    given: BTreeMap<RoleName, DraftFile>,
    keyring: &'a Keyring,
    now: Timestamp,
    files: BTreeMap<String, Vec<u8>>,
}

impl First<'_> {
    fn needed(&self, role: &RoleName) -> Result<&DraftFile, WriteError> {
        let draft = self.given.get(role);
        draft.ok_or_else(|| MetadataError::Missing { file: format!("1.{role}.json") }.into())
    }

    /// The file that was given, or an empty one, with this server's signatures.
    fn add(&mut self, role: &RoleName, terms: &Terms, meta: &mut BTreeMap<String, Json>) -> Result<(), WriteError> {
        let mut draft = match self.given.get(role) {
            Some(draft) => draft.clone(),
            None => ReleasePlan::first(role.clone(), self.now).to_draft()?,
        };
        if draft.version() != 1 {
            return Err(WriteError::NotNext { role: role.clone(), found: draft.version(), expected: 1 });
        }
        self.keyring.named(role, terms).iter().for_each(|signer| draft.sign(signer));
        draft.keep_valid(&[terms]);
        match draft.missing(terms) {
            0 => {
                let bytes = draft.to_bytes();
                meta.insert(format!("{role}.json"), file_meta(1, &bytes));
                self.files.insert(draft.file_name(), bytes);
                Ok(())
            }
            missing => Err(WriteError::Unsigned { role: role.clone(), missing, threshold: terms.threshold }),
        }
    }
}
