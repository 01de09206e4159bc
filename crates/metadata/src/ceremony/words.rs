//! A draft in words: what a person reads before signing.

use super::{ReleasePlan, RootPlan, TargetsPlan, Terms};
use crate::{KeyId, RoleName, TargetEntry};
use serde::Deserialize;
use sluice_model::{ArtifactKind, PatchTarget, Reinstatement, TargetName};
use std::collections::BTreeMap;

/// What becomes of one row of a release role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RowChange<'a> {
    /// It is new.
    Added(&'a TargetName, &'a TargetEntry),
    /// It goes.
    Removed(&'a TargetName, &'a TargetEntry),
    /// The name stays and stands for something else.
    Altered(&'a TargetName),
}

/// What differs between the rows of two versions, by name.
pub fn changed_rows<'a>(
    before: &'a BTreeMap<TargetName, TargetEntry>,
    after: &'a BTreeMap<TargetName, TargetEntry>,
) -> Vec<RowChange<'a>> {
    let added = after.iter().filter_map(|(name, row)| match before.get(name) {
        None => Some(RowChange::Added(name, row)),
        Some(known) if known != row => Some(RowChange::Altered(name)),
        Some(_) => None,
    });
    let removed = before.iter().filter(|(name, _)| !after.contains_key(*name));
    added.chain(removed.map(|(name, row)| RowChange::Removed(name, row))).collect()
}

/// What `after` changes in root; everything that it says when there is nothing before.
pub fn explain_root(before: Option<&RootPlan>, after: &RootPlan) -> Vec<String> {
    let mut lines = vec![format!("root of repository {}, version {}", after.repo_id, after.version)];
    lines.push(format!("valid until {}", after.expires.to_seconds_text()));
    match before {
        Some(before) if before.profile != after.profile => {
            lines.push(format!("profile: {} becomes {}", before.profile.as_str(), after.profile.as_str()));
        }
        Some(_) => {}
        None => lines.push(format!("profile: {}", after.profile.as_str())),
    }
    if let Some(before) = before.filter(|before| before.repo_id != after.repo_id) {
        lines.push(format!("the repository's id: {} becomes {}", before.repo_id, after.repo_id));
    }
    let count = lines.len();
    let nothing = Terms::default();
    for (role, terms) in &after.roles {
        let known = before.and_then(|before| before.roles.get(role)).unwrap_or(&nothing);
        explain_terms(role, known, terms, &names(before.map(|before| &before.names), &after.names), &mut lines);
    }
    explain_names(before.map(|before| &before.names), &after.names, &mut lines);
    if before.is_some() && lines.len() == count {
        lines.push("no key changes: this renews root".into());
    }
    lines
}

/// What `after` changes in targets; everything that it says when there is nothing before.
pub fn explain_targets(before: Option<&TargetsPlan>, after: &TargetsPlan) -> Vec<String> {
    let mut lines = vec![format!("targets, version {}", after.version)];
    lines.push(format!("valid until {}", after.expires.to_seconds_text()));
    let count = lines.len();
    let nothing = Terms::default();
    for (idx, delegation) in after.delegations.iter().enumerate() {
        let role = &delegation.role;
        let known = before.and_then(|before| before.delegation(role));
        if known.is_none() {
            lines.push(format!("{role}: new, in place {}, may list {}", idx + 1, delegation.paths.join(", ")));
        } else if let Some(known) = known.filter(|known| known.paths != delegation.paths) {
            for path in delegation.paths.iter().filter(|path| !known.paths.contains(path)) {
                lines.push(format!("{role}: may list {path} from now on"));
            }
            for path in known.paths.iter().filter(|path| !delegation.paths.contains(path)) {
                lines.push(format!("{role}: may no longer list {path}"));
            }
        }
        let terms = known.map_or(&nothing, |known| &known.terms);
        let names = names(before.map(|before| &before.names), &after.names);
        explain_terms(role, terms, &delegation.terms, &names, &mut lines);
    }
    if let Some(before) = before {
        for gone in before.delegations.iter().filter(|known| after.delegation(&known.role).is_none()) {
            lines.push(format!("{}: ends; nothing that it lists is valid any more", gone.role));
        }
        let order = |plan: &TargetsPlan, other: &TargetsPlan| -> Vec<RoleName> {
            let both = plan.delegations.iter().filter(|found| other.delegation(&found.role).is_some());
            both.map(|found| found.role.clone()).collect()
        };
        if order(before, after) != order(after, before) {
            let roles = after.delegations.iter().map(|found| found.role.as_str()).collect::<Vec<_>>();
            lines.push(format!("the order of precedence becomes {}", roles.join(", ")));
        }
    }
    explain_names(before.map(|before| &before.names), &after.names, &mut lines);
    if before.is_some() && lines.len() == count {
        lines.push("no key changes: this renews targets".into());
    }
    lines
}

/// What `after` changes in a release role. One line a row.
pub fn explain_release(before: Option<&ReleasePlan>, after: &ReleasePlan) -> Vec<String> {
    let ring = after.role.ring().map_or_else(|| after.role.to_string(), |ring| format!("ring {ring}"));
    let mut lines = vec![format!("{ring}, version {}", after.version)];
    lines.push(format!("valid until {}", after.expires.to_seconds_text()));
    let nothing = BTreeMap::new();
    let rows = before.map_or(&nothing, |before| &before.entries);
    let changes = changed_rows(rows, &after.entries);
    for change in &changes {
        lines.push(match change {
            RowChange::Added(name, row) => format!("adds {}", explain_row(name, row)),
            RowChange::Removed(name, row) => format!("removes {}", explain_row(name, row)),
            RowChange::Altered(name) => format!("makes {name} stand for something else"),
        });
    }
    match before {
        _ if !changes.is_empty() => {}
        Some(_) => lines.push("no patch changes: this renews the ring".into()),
        None => lines.push("lists no patch".into()),
    }
    lines
}

fn explain_row(name: &TargetName, row: &TargetEntry) -> String {
    let custom = row.custom.as_ref().and_then(|custom| PatchTarget::deserialize(custom.get("patch")?).ok());
    let lifted = row.custom.as_ref().and_then(|custom| Reinstatement::deserialize(custom.get("reinstatement")?).ok());
    if let Some(lifted) = lifted {
        let by = lifted.by.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        return format!(
            "a reinstatement: retraction {} of {} no longer counts in this ring, by {by}: {}",
            lifted.serial, lifted.patch, lifted.reason
        );
    }
    let Some(custom) = custom else { return format!("{name} ({} bytes), which is no patch", row.length) };
    let ArtifactKind::Deb(deb) = &custom.artifact;
    let cves = custom.cves.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let cves = if cves.is_empty() { String::new() } else { format!(", mends {cves}") };
    let supersedes = custom.supersedes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let supersedes = if supersedes.is_empty() { String::new() } else { format!(", supersedes {supersedes}") };
    let set = match custom.set.count {
        1 => String::new(),
        count => format!(" (file {} of {count})", custom.set.index + 1),
    };
    format!(
        "{}/{}{set}: {} {} {}, {} bytes, {}{cves}{supersedes}, file {}, sha256 {}",
        custom.patch,
        custom.patch_version,
        deb.package,
        deb.version,
        deb.architecture,
        row.length,
        custom.severity,
        name.file(),
        row.sha256
    )
}

type Names = BTreeMap<KeyId, String>;

fn names(before: Option<&Names>, after: &Names) -> Names {
    let mut names = before.cloned().unwrap_or_default();
    names.extend(after.clone());
    names
}

fn explain_terms(role: &RoleName, before: &Terms, after: &Terms, names: &Names, lines: &mut Vec<String>) {
    let is_new = before.keys.is_empty();
    for id in after.keys.keys().filter(|id| !before.keys.contains_key(*id)) {
        let verb = if is_new { "is signed by" } else { "gets" };
        lines.push(format!("{role}: {verb} {}", holder(id, names)));
    }
    for id in before.keys.keys().filter(|id| !after.keys.contains_key(*id)) {
        lines.push(format!("{role}: loses {}", holder(id, names)));
    }
    let count = after.keys.len();
    if is_new {
        lines.push(format!("{role}: {} of {count} must sign", after.threshold));
    } else if before.threshold != after.threshold || before.keys.len() != count {
        let (threshold, known) = (before.threshold, before.keys.len());
        lines.push(format!("{role}: {} of {count} must sign; it was {threshold} of {known}", after.threshold));
    }
}

fn explain_names(before: Option<&Names>, after: &Names, lines: &mut Vec<String>) {
    let Some(before) = before else { return };
    for (id, name) in after {
        if let Some(known) = before.get(id).filter(|known| *known != name) {
            lines.push(format!("the key {} changes its name from {known} to {name}", short(id)));
        }
    }
}

/// `ann (key 1a2b3c4d...)`.
fn holder(id: &KeyId, names: &Names) -> String {
    match names.get(id) {
        Some(name) => format!("{name} (key {})", short(id)),
        None => format!("the unnamed key {}", short(id)),
    }
}

fn short(id: &KeyId) -> &str {
    id.as_str().get(..16).unwrap_or(id.as_str())
}
