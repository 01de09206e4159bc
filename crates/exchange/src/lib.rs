//! The exchange protocol's decisions: what frames look like, who leads a chunk, whom to ask and when to stop waiting.
//!
//! Pure core: it knows no socket, no clock, no disk and no entropy of its own. `transport` moves the frames; the
//! node's exchange loop reports what happened to a [`picker::Picker`] and performs its actions.

pub mod claims;
pub mod evidence;
pub mod frame;
pub mod have;
pub mod picker;
pub mod rank;
