//! Root, targets and what depends on them come into force together; keys that lost their role are deleted.
//!
//! The server makes no decision here that its signatures carry: root and targets are signed by people (in profile dev by
//! the keys that the server holds), and the verifier judges the whole as a client would before anything is stored.

use crate::authority::Authority;
use crate::authorize::Principal;
use crate::draft::Draft;
use crate::key_files;
use crate::operations::proposal::chain;
use crate::operations::{Failure, audited};
use crate::served::Served;
use crate::state::App;
use sluice_api::ceremony::{CeremonyDone, CeremonyState, ServerKey};
use sluice_api::problem::ProblemType;
use sluice_metadata::{DraftFile, KeyId, Keyring, RoleName, Signer};
use sluice_model::Timestamp;
use sluice_repo_store::WriteTx;
use sluice_repo_store::audit::{self, NewAuditLine};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Files in one ceremony: root, targets and every ring.
const FILES_MAX: usize = 2 + sluice_metadata::RINGS_MAX;
/// Spare keys that a role may have: one in force, one for the next ceremony, and two that were never used.
const KEYS_PER_ROLE_MAX: usize = 4;

/// What drafts begin with.
pub async fn state(app: &App) -> CeremonyState {
    let keyring = app.authority.keyring().await;
    let served = app.served();
    let lacks = |duty: &&sluice_metadata::Duty| !keyring.reaches(&duty.role, &duty.terms);
    let needs_people = served.duties.iter().filter(lacks).map(|duty| {
        let held = keyring.named(&duty.role, &duty.terms).len() as u32;
        (duty.role.to_string(), duty.terms.threshold.saturating_sub(held))
    });
    let server_keys = keyring.iter().map(|(role, signers)| {
        (role.to_string(), signers.iter().map(|signer| hex::encode(signer.public_key())).collect())
    });
    CeremonyState {
        repository: served.view.repo_id.clone(),
        profile: served.view.profile.as_str().to_owned(),
        needs_people: needs_people.collect(),
        server_keys: server_keys.collect(),
    }
}

/// Makes a further key of an online role, to be named by a draft.
pub async fn new_key(app: &App, principal: &Principal, role: &str) -> Result<ServerKey, Failure> {
    let person = principal.person.to_string();
    let outcome = make_key(app, role).await;
    let key = audited::outcome(app, &person, "ceremony.key", role, outcome).await?;
    let line = audited::done(person, "ceremony.key", &key.role, format!("key {}", key.keyid));
    app.store.change(move |tx| audit::append(tx, line).map(|_| ())).await?;
    Ok(key)
}

async fn make_key(app: &App, role: &str) -> Result<ServerKey, Failure> {
    let invalid = |text: String| Failure::refused(ProblemType::Invalid, text);
    let role: RoleName = role.parse().map_err(|error: sluice_metadata::RoleNameError| invalid(error.to_string()))?;
    let online =
        [RoleName::timestamp(), RoleName::snapshot(), RoleName::retractions(), RoleName::fleet(), RoleName::policy()];
    if !online.contains(&role) && role.ring().is_none() {
        let detail = format!("the server keeps no key of {role}; its holders make their own with `sluice key new`");
        return Err(invalid(detail));
    }
    if app.authority.keyring().await.signers(&role).len() >= KEYS_PER_ROLE_MAX {
        let detail = format!("the server has {KEYS_PER_ROLE_MAX} keys of {role} already; draft with one of those");
        return Err(Failure::refused(ProblemType::Full, detail));
    }
    let signer = key_files::new_signer().map_err(|error| Failure::broken("drawing a key", error))?;
    let (folder, named, copy) = (app.data.join("keys"), role.clone(), signer.clone());
    let write =
        move || key_files::write(&folder, &named, &copy).map_err(|error| Failure::broken("writing a key file", error));
    app.authority.add_key(role.clone(), signer.clone(), write).await?;
    let (keyid, public) = (signer.key_id().to_string(), hex::encode(signer.public_key()));
    Ok(ServerKey { role: role.to_string(), keyid, public })
}

/// Brings files that people signed into force.
pub async fn publish(
    app: &App,
    principal: &Principal,
    files: BTreeMap<String, serde_json::Value>,
) -> Result<CeremonyDone, Failure> {
    let person = principal.person.to_string();
    let subject = files.keys().cloned().collect::<Vec<_>>().join(", ");
    let files = files.into_iter().map(|(name, file)| (name, file.to_string().into_bytes())).collect();
    let outcome = enforce(&app.authority, &app.data, &person, files).await;
    audited::outcome(app, &person, "ceremony.publish", &subject, outcome).await
}

/// As [`publish`], without a server around it.
pub async fn enforce(
    authority: &Authority,
    data: &Path,
    who: &str,
    files: Vec<(String, Vec<u8>)>,
) -> Result<CeremonyDone, Failure> {
    let drafts = read(files)?;
    let who = who.to_owned();
    let before = authority.served();
    let published: Vec<String> = drafts.iter().map(DraftFile::file_name).collect();
    let names = published.clone();
    authority.change(move |draft, tx| give_all(draft, tx, &who, drafts)).await?;
    let after = authority.served();
    let is_new = |name: &&String| !before.files.contains_key(*name) && !names.contains(*name);
    let signed_by_server = after.files.keys().filter(is_new).cloned().collect();
    let lost: BTreeSet<KeyId> = named_keys(&before).difference(&named_keys(&after)).cloned().collect();
    let keys_deleted = delete_keys(authority, data, &lost).await?;
    Ok(CeremonyDone { published, signed_by_server, keys_deleted })
}

/// Reads files by the role that their names say; copies of one draft are merged.
pub fn read(files: Vec<(String, Vec<u8>)>) -> Result<Vec<DraftFile>, Failure> {
    let invalid = |text: String| Failure::refused(ProblemType::Invalid, text);
    if files.is_empty() || files.len() > FILES_MAX {
        return Err(invalid(format!("1 to {FILES_MAX} files come into force together; these are {}", files.len())));
    }
    let mut drafts: Vec<DraftFile> = Vec::new();
    for (name, bytes) in files {
        let draft =
            DraftFile::read_named(&name, &bytes).map_err(|error| invalid(format!("{name}: {}", chain(&error))))?;
        match drafts.iter_mut().find(|known| known.role() == draft.role()) {
            Some(known) => known.merge(&draft).map_err(|error| invalid(error.to_string()))?,
            None => drafts.push(draft),
        }
    }
    Ok(drafts)
}

fn give_all(draft: &mut Draft, tx: &WriteTx, who: &str, files: Vec<DraftFile>) -> Result<(), Failure> {
    let names = files.iter().map(DraftFile::file_name).collect::<Vec<_>>().join(", ");
    for file in files {
        draft.give(file)?;
    }
    note(tx, who, draft.now(), names)
}

fn note(tx: &WriteTx, who: &str, at: Timestamp, subject: String) -> Result<(), Failure> {
    let line = NewAuditLine {
        at,
        who: who.to_owned(),
        action: "ceremony.publish",
        subject,
        done: true,
        detail: "signed by their holders".into(),
    };
    audit::append(tx, line)?;
    Ok(())
}

/// Every key that root or targets name.
fn named_keys(served: &Served) -> BTreeSet<KeyId> {
    served.duties.iter().flat_map(|duty| duty.terms.keys.keys().cloned()).collect()
}

/// Forgets the server's keys that lost their role, on disk too: nobody can steal them any more.
async fn delete_keys(authority: &Authority, data: &Path, lost: &BTreeSet<KeyId>) -> Result<Vec<String>, Failure> {
    let keyring = authority.keyring().await;
    let is_lost = |signer: &&Signer| lost.contains(&signer.key_id());
    let mine: BTreeSet<KeyId> =
        keyring.iter().flat_map(|(_, signers)| signers.iter().filter(is_lost).map(Signer::key_id)).collect();
    let kept: Vec<(RoleName, Signer)> = keyring
        .iter()
        .flat_map(|(role, signers)| signers.iter().map(move |signer| (role.clone(), signer.clone())))
        .filter(|(_, signer)| !mine.contains(&signer.key_id()))
        .collect();
    let mut next = Keyring::default();
    kept.into_iter().for_each(|(role, signer)| next.insert(role, signer));
    let (folder, deleted) = (data.join("keys"), mine.clone());
    let delete = move || {
        key_files::delete(&folder, &deleted)
            .map_err(|error| Failure::broken("deleting keys that lost their role", error))
    };
    authority.set_keyring(next, delete).await?;
    Ok(mine.iter().map(ToString::to_string).collect())
}
