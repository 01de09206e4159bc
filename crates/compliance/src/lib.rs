//! Merges outcome reports into facts, and derives compliance states from facts. Pure: no I/O, no clock.
//!
//! Three things are kept apart. A *report* is what an endpoint said, in its own chain ([`chain`]). A *fact* is the last
//! thing it said of one patch, and the *standing* is what that comes to once its other words about the same patch name
//! are heard ([`standing`]). The *compliance state* is what people are shown: standing, retraction and age together
//! ([`state`]).
//!
//! Invariants
//! - The same set of reports, in any order and however often repeated, ends in the same facts and acknowledgement, or in
//!   the same break.
//! - Unknown is never good: no report, old reports and doubtful reports are `unknown`, never `installed`.
#![warn(missing_docs)]

pub mod chain;
mod report;
pub mod standing;
pub mod state;

pub use chain::{Broken, Chain, HELD_MAX, Link, Merge, Verdict};
pub use report::{
    AttemptNote, ByteSource, FailureClass, OutcomeKind, OutcomeReport, PackageVersion, ReportError, WITHHELD_MAX,
    WithheldBy,
};
pub use standing::{Fact, Order, Standing, standings};
pub use state::{ComplianceState, Counts, HEARTBEAT, SILENCE_MAX, is_heard, state};
