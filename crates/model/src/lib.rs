//! The vocabulary of Sluice: ids, names, sizes, rates, timestamps, limits, and the signed documents.
//!
//! Values here are valid by construction: text is parsed once, at the edge, and an invalid name, hash or
//! rate cannot be written afterwards. There is no I/O, no clock and no entropy in this crate.

mod bans;
pub mod dsse;
mod fleet;
mod hash;
mod key;
pub mod limits;
mod log;
mod name;
mod network;
mod patch;
mod person;
mod policy;
mod rate;
mod release;
mod schedule;
mod timestamp;

pub use bans::{BanEvidence, BannedMember, Bans, LiftedBans};
pub use fleet::{
    Boundary, EndpointRow, EndpointRows, EndpointState, Member, MemberAddresses, MemberKind, Revoked, Roster, Site,
    Topology,
};
pub use hash::{ArtifactId, ChunkId, ManifestId, ParseHexError, Sha256, Sha512};
pub use key::{EndpointId, MemberKey};
pub use log::LogHead;
pub use name::{NameError, PackageName, PatchName, PatchRef, PatchVersion, PersonName, RingName, SiteName, TargetName};
pub use network::{Network, normalise};
pub use patch::{ArtifactKind, ArtifactSet, Cve, DebFields, ManifestRef, PatchTarget, Severity};
pub use person::{AccessScope, PersonRole};
pub use policy::{
    Limits, PlainNetwork, SiteLimits, Suspension, SuspensionScope, SuspensionSubject, Suspensions, VersionRange,
};
pub use rate::{ByteRate, ParseRateError};
pub use release::{ArchivedTombstone, Reinstatement, ReleasedArtifact, RetractedContent, Tombstone, TombstoneArchive};
pub use schedule::{
    ParseWindowError, SCHEDULE_WINDOWS_MAX, ScheduleWindow, SiteSchedule, WallTime, Weekdays, WindowCap, ZoneName,
};
pub use timestamp::{ParseTimestampError, Timestamp};
