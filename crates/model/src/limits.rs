//! Every bound that more than one crate must know, with the arithmetic that chose it.

/// Largest artifact: 64 GiB, so that chunk indexes stay far below `u32` and a manifest below its bound.
pub const ARTIFACT_BYTES_MAX: u64 = 64 << 30;
/// Largest encoded manifest: 64 GiB at the smallest average (1 MiB) is 65,536 rows of 36 bytes, 2.3 MiB; minimum-size
/// chunks (256 KiB) make four times that, 9.4 MiB.
pub const MANIFEST_BYTES_MAX: u64 = 10 << 20;
/// Largest chunk, hence largest frame body.
pub const CHUNK_BYTES_MAX: u32 = 4 << 20;
/// Artifacts of one patch: a monthly kernel set has some 20; the install transaction stays reviewable.
pub const ARTIFACTS_PER_PATCH_MAX: usize = 64;
/// Rows of one `fleet/endpoints-<site>`.
pub const ENDPOINTS_PER_SITE_MAX: usize = 20_000;
/// Largest signed document (roster, endpoints, topology, limits): 20,000 rows of about 200 bytes are 4 MB.
pub const DOCUMENT_BYTES_MAX: u64 = 8 << 20;
/// Largest gossip message.
pub const GOSSIP_BYTES_MAX: usize = 48 << 10;
/// Largest outcome report envelope; output of the package manager is cut to fit.
pub const REPORT_BYTES_MAX: usize = 16 << 10;
/// Outcome reports in one batch: 100 of 16 KiB are 1.6 MB.
pub const REPORTS_PER_BATCH_MAX: usize = 100;
/// Reports that a node keeps for the repo server: 100,000 of about 1 KiB are 100 MB.
pub const SPOOL_REPORTS_MAX: u64 = 100_000;
/// Members that are banned at once: more than any site has nodes; a row takes some 500 bytes.
pub const BANS_MAX: usize = 1_024;
/// Longest reason, note or name for people, in characters.
pub const TEXT_CHARS_MAX: usize = 1_000;
/// Suspensions in force at once: more is no suspension of something but a fleet that should be stopped whole.
pub const SUSPENSIONS_MAX: usize = 500;
/// Tombstones that a node or agent keeps apart from archives before the oldest are folded.
pub const TOMBSTONES_LISTED_MAX: usize = 1_000;
