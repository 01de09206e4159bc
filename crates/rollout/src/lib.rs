//! Decides what a ring offers, what an endpoint does about it now, and which client may have which bytes.
//!
//! Pure core: no I/O, no clock, no tokio. The same functions run in the agent, in the node's gate and in the repo
//! server's `explain`, so that the three never tell different stories.
//!
//! - [`lease`]: how fresh verified metadata is, and the trusted clock it is measured with.
//! - [`offer`]: of the rows of a ring and the tombstones, the version that is offered and the one to go back to.
//! - [`decide`]: what an endpoint should do now for each patch name, with the reason in words.
//! - [`gate`]: which client may have which artifact.
//! - [`suspend`]: which suspension stops what.
//! - [`deb_version`]: the order of Debian versions.

pub mod deb_version;
pub mod decide;
pub mod gate;
pub mod lease;
pub mod offer;
pub mod suspend;

pub use decide::{Attempt, Decision, Facts, Installed, Memory, PatchDecision, Reason, RetryPolicy, decide};
pub use gate::{Catalogue, Purpose, Reinstated, Verdict, WantedContent};
pub use lease::{Freshness, TrustedClock};
pub use offer::{Offers, PatchOffers, PatchSet, Retracted, Tombstones};
pub use suspend::InForce;
