//! Merges outcome reports into compliance states. Pure: no I/O, no clock.

mod report;

pub use report::{ByteSource, FailureClass, OutcomeKind, OutcomeReport, PackageVersion};
