//! Reads what `sluice-repo init` says of people: names, files of public keys, rings.

use crate::{InitArgs, clock};
use anyhow::{Context, bail, ensure};
use sluice_metadata::{InitPlan, KeyId, RepositoryProfile, RingPlan, Terms, read_public_key_pem};
use sluice_model::{PersonName, RingName};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// `NAME=FILE`.
#[derive(Clone, Debug)]
pub struct HolderKey {
    name: PersonName,
    file: PathBuf,
}

/// `RING:NAME=FILE`.
#[derive(Clone, Debug)]
pub struct ApproverKey {
    ring: RingName,
    key: HolderKey,
}

impl FromStr for HolderKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = text.split_once('=').ok_or("write NAME=FILE, for instance ann=ann.key.pub")?;
        Ok(Self { name: name.parse().map_err(|error: sluice_model::NameError| error.to_string())?, file: file.into() })
    }
}

impl FromStr for ApproverKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "write RING:NAME=FILE, for instance production:dora=dora.key.pub";
        let (ring, key) = text.split_once(':').ok_or(wanted)?;
        let ring = ring.parse().map_err(|error: sluice_model::NameError| error.to_string())?;
        Ok(Self { ring, key: key.parse()? })
    }
}

/// The plan that the arguments describe.
pub fn plan(args: InitArgs) -> anyhow::Result<InitPlan> {
    let mut names = BTreeMap::new();
    let profile = args.profile.as_deref().and_then(RepositoryProfile::parse).context("a profile is needed")?;
    let root = terms("--root-key", &args.root_keys, args.root_threshold, &mut names)?;
    let targets = terms("--targets-key", &args.targets_keys, args.targets_threshold, &mut names)?;
    let mut rings: Vec<RingPlan> =
        args.rings.iter().map(|name| RingPlan { name: name.clone(), approvers: Vec::new() }).collect();
    for approver in &args.approvers {
        let key = read(&approver.key, &mut names)?;
        match rings.iter_mut().find(|ring| ring.name == approver.ring) {
            Some(ring) => ring.approvers.push(key),
            None => bail!("--approver names ring {}, which is not among --rings", approver.ring),
        }
    }
    Ok(InitPlan { repo_id: args.name, profile, rings, root, targets, names, now: clock::timestamp() })
}

fn terms(
    flag: &str,
    holders: &[HolderKey],
    threshold: u32,
    names: &mut BTreeMap<KeyId, String>,
) -> anyhow::Result<Terms> {
    let mut keys = Vec::new();
    for holder in holders {
        keys.push(read(holder, names)?);
    }
    let terms = Terms::new(keys, threshold);
    ensure!(
        terms.keys.len() == holders.len() && terms.threshold as usize <= terms.keys.len() && terms.threshold > 0,
        "{flag}: {} different keys cannot give {threshold} signatures; name more holders, three are advised, or lower the \
         threshold",
        terms.keys.len()
    );
    Ok(terms)
}

fn read(holder: &HolderKey, names: &mut BTreeMap<KeyId, String>) -> anyhow::Result<[u8; 32]> {
    let HolderKey { name, file } = holder;
    let pem = std::fs::read_to_string(file).with_context(|| format!("reading the public key {}", file.display()))?;
    let key = read_public_key_pem(&pem).map_err(|_| {
        anyhow::anyhow!("{} is no Ed25519 public key; `sluice key new` writes one beside each key", file.display())
    })?;
    match names.insert(KeyId::of(&key), name.to_string()) {
        Some(known) if known != name.as_str() => {
            bail!("{} is the key of {known} already, not of {name}", file.display())
        }
        _ => Ok(key),
    }
}

/// Who signs what, a line each.
pub fn people(plan: &InitPlan) -> String {
    let named = |terms: &Terms| {
        let names: Vec<&str> = terms.keys.keys().filter_map(|id| plan.names.get(id).map(String::as_str)).collect();
        format!("{} of {}", terms.threshold, names.join(", "))
    };
    let mut lines = vec![format!("    root: {}", named(&plan.root)), format!("    targets: {}", named(&plan.targets))];
    for ring in plan.rings.iter().filter(|ring| !ring.approvers.is_empty()) {
        let names: Vec<&str> =
            ring.approvers.iter().filter_map(|key| plan.names.get(&KeyId::of(key)).map(String::as_str)).collect();
        lines.push(format!("    ring {}: one of {}", ring.name, names.join(", ")));
    }
    lines.join("\n") + "\n"
}
