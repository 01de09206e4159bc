//! One file for each thing that the repo server can be asked to do. No HTTP in here.

pub mod announce;
pub mod approve;
pub mod apt;
pub mod audit_export;
pub mod audited;
pub mod bans;
pub mod calendar;
pub mod ceremony;
pub mod compliance;
mod deb;
pub mod endpoints;
pub mod enrol;
pub mod explain;
pub mod failure;
pub mod fleet_documents;
pub mod nodes;
pub mod outcomes;
pub mod person_tokens;
pub mod proposal;
pub mod publish;
pub mod quarantine;
pub mod reinstate;
pub mod restore;
pub mod retract;
pub mod second_person;
pub mod sites;
pub mod suspend;
pub mod tokens;
pub mod upload;
pub mod withheld;

pub use failure::Failure;

use crate::served::Served;
use sluice_api::problem::ProblemType;
use sluice_model::{Member, MemberKey, MemberKind};

/// The roster's row of a node, or the problem of a device that is none.
fn member_only<'a>(served: &'a Served, key: &MemberKey) -> Result<&'a Member, Failure> {
    let member = served.roster.member(key).filter(|member| member.kind == MemberKind::Node);
    member.ok_or_else(|| not_enrolled(key))
}

/// The problem of a device that has no place in the fleet.
fn not_enrolled(key: &MemberKey) -> Failure {
    let detail = format!("the key {} is not enrolled, or was revoked; enrol the device with a token", key.short());
    Failure::refused(ProblemType::NotEnrolled, detail)
}
