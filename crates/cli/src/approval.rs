//! Judges what an approver is asked to sign: it must be the next version of what is in force, and differ from it in
//! nothing but what is shown; every artifact that it adds must be one that the approver holds.
//!
//! Pure: the verified state, the proposal and the measured artifacts come in; lines to show or reasons to refuse go out.

use serde::Deserialize;
use sluice_content::Cut;
use sluice_metadata::{DraftFile, ReleasePlan, RowChange, TargetEntry, changed_rows, explain_release};
use sluice_model::{PatchTarget, Reinstatement, Sha256, TargetName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longest that a release role may be valid: 90 days, and a day for clocks.
const VALID_MAX: Duration = Duration::from_secs(91 * 24 * 3_600);

/// An artifact of the approver's own source.
pub struct Measured {
    /// As he named it.
    pub path: String,
    /// What its bytes are.
    pub cut: Cut,
}

/// What a proposal is judged by.
pub struct Ground<'a> {
    /// What is in force; `None` before the first version.
    pub live: Option<&'a ReleasePlan>,
    /// Content that is retracted, with the serials of its retractions.
    pub retracted: &'a BTreeMap<Sha256, BTreeSet<u64>>,
    /// The approver's own files.
    pub artifacts: &'a [Measured],
    /// Now.
    pub now: Timestamp,
}

/// The lines that a person reads before signing, or every reason not to sign.
pub fn judge(proposal: &DraftFile, ground: &Ground<'_>) -> Result<Vec<String>, Vec<String>> {
    let plan = ReleasePlan::of(proposal).map_err(|error| vec![error.to_string()])?;
    let mut reasons = Vec::new();
    if !plan.to_draft().is_ok_and(|draft| proposal.is_wholly(&draft)) {
        reasons.push("it holds members that this program does not know and cannot show".into());
    }
    let version = ground.live.map_or(0, |live| live.version) + 1;
    if plan.version != version || ground.live.is_some_and(|live| live.role != plan.role) {
        reasons.push(format!("it is version {} of {}, and version {version} is next", plan.version, plan.role));
    }
    if plan.expires <= ground.now || plan.expires.since(ground.now) > VALID_MAX {
        reasons
            .push(format!("it is valid until {}, not for the coming 90 days at most", plan.expires.to_seconds_text()));
    }
    let nothing = BTreeMap::new();
    let before = ground.live.map_or(&nothing, |live| &live.entries);
    for change in changed_rows(before, &plan.entries) {
        match change {
            RowChange::Added(name, row) => check_added(name, row, &plan, ground, &mut reasons),
            RowChange::Altered(name) => reasons.push(format!("it makes {name} stand for something else")),
            RowChange::Removed(..) => {}
        }
    }
    if !reasons.is_empty() {
        return Err(reasons);
    }
    let mut lines = explain_release(ground.live, &plan);
    let used = |measured: &&Measured| plan.entries.values().any(|row| row.sha256 == measured.cut.sha256);
    for unused in ground.artifacts.iter().filter(|measured| !used(measured)) {
        lines.push(format!("note: {} is not part of it", unused.path));
    }
    Ok(lines)
}

fn check_added(
    name: &TargetName,
    row: &TargetEntry,
    plan: &ReleasePlan,
    ground: &Ground<'_>,
    reasons: &mut Vec<String>,
) {
    let ring = plan.role.ring();
    if ring.as_ref().is_none_or(|ring| name.directory() != format!("patches/{ring}")) {
        reasons.push(format!("it adds {name}, which is not in the folder of its ring"));
        return;
    }
    if reinstatement_of(row).is_some() {
        return;
    }
    let Some(patch) = patch_of(row) else {
        reasons.push(format!("it adds {name}, whose description this program cannot show wholly"));
        return;
    };
    let lifted: BTreeSet<u64> = plan.entries.values().filter_map(reinstatement_of).collect();
    if ground.retracted.get(&row.sha256).is_some_and(|serials| !serials.is_subset(&lifted)) {
        reasons.push(format!("it adds {name}, whose content was retracted"));
    }
    let place = |idx: u32| {
        plan.entries
            .values()
            .filter_map(patch_of)
            .any(|other| other.patch_ref() == patch.patch_ref() && other.set.index == idx)
    };
    if !(0..patch.set.count).all(place) {
        reasons.push(format!(
            "it adds a part of {} only: some of its {} files are missing",
            patch.patch_ref(),
            patch.set.count
        ));
    }
    let Some(measured) = ground.artifacts.iter().find(|measured| measured.cut.sha256 == row.sha256) else {
        reasons.push(format!(
            "none of your files is {} of {} (sha256 {}); name it with --artifact",
            name.file(),
            patch.patch_ref(),
            row.sha256
        ));
        return;
    };
    let cut = &measured.cut;
    let is_said = (cut.length, cut.sha512, cut.artifact, cut.manifest.reference())
        == (row.length, patch.sha512, patch.blake3, patch.manifest.clone());
    if !is_said {
        reasons.push(format!("it says another length, hash or manifest of {} than {} has", name.file(), measured.path));
    }
}

/// The serial of the retraction that a row lifts for its ring, when nothing in the row is unknown to this program.
fn reinstatement_of(row: &TargetEntry) -> Option<u64> {
    let custom = row.custom.as_ref()?;
    let lifted = Reinstatement::deserialize(custom.get("reinstatement")?).ok()?;
    let again = serde_json::json!({ "reinstatement": lifted });
    (again == *custom).then_some(lifted.serial)
}

/// The description of a row, when nothing in it is unknown to this program.
fn patch_of(row: &TargetEntry) -> Option<PatchTarget> {
    let custom = row.custom.as_ref()?;
    let patch = PatchTarget::deserialize(custom.get("patch")?).ok()?;
    let again = serde_json::json!({ "patch": patch });
    (again == *custom).then_some(patch)
}

#[cfg(test)]
mod tests;
