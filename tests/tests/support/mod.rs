//! What several tests of whole programs share: members of the fleet whose keys the test holds.
#![allow(dead_code, clippy::unwrap_used, clippy::disallowed_methods, reason = "helpers; each test uses a part of them")]

pub mod liar;
pub mod member;
