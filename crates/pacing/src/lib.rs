//! How fast bytes may move and when, how fast they did, and how many requests a caller may make.
//!
//! Pure core: no clock, no sleep, no tokio. The caller says what time it is; the limiter says how many bytes may move
//! now or how long to wait; the meter says what the busiest second was. `transport::Throttle` is the shell.
//!
//! Invariants
//! - Over any interval of `s` seconds at most `rate * s + burst` bytes (and one cell of 1 KiB) are granted.
//! - A request larger than the burst is split, never refused and never let through whole.
//! - A rate change hands out no new burst: what was used up stays used up.

#![warn(missing_docs)]

mod limiter;
mod meter;
mod quota;
mod schedule;

pub use limiter::{CELL_BYTES, Grant, Limiter, SLICE_BYTES_MAX, burst_for};
pub use meter::RateMeter;
pub use quota::RequestQuota;
pub use schedule::{UnknownZone, WanCalendar, WanNow, check_zone};
