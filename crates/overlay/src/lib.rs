//! The control overlay: small gossip between members of the roster over libp2p (TCP, noise, yamux).
//!
//! Decides who may connect (the allow-list that the program gives, from the signed roster), keeps connections to known
//! addresses alive, and carries announcements. Does not decide what a message is worth: the program judges each one
//! before it is forwarded. Bulk never goes here.
//!
//! Invariants
//! - Only keys of the allow-list hold a connection; a key that leaves it is cut off at once.
//! - A message is forwarded only after the program accepted it.
//! - Nothing is dropped that waits for a verdict: when the program lags, the swarm is not polled.

mod behaviour;
mod event;
mod handle;
mod redial;
mod task;

pub use event::{MessageId, OverlayEvent, Verdict};
pub use handle::{Overlay, OverlayConfig, OverlayError, OverlayHandle};
pub use task::OverlayTask;
