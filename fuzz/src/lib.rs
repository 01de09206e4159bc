//! Fuzz targets: every parser that meets foreign bytes, with what must hold for whatever it accepts.
//!
//! A target takes bytes and answers with the *shape* of what came of them: the reason of a refusal without its numbers, or
//! what was accepted. It panics when something is wrong. The loop ([`Fuzzer`]) changes corpus files, keeps what gives a
//! new shape and goes on from there; it needs no special compiler and no coverage counters. Corpora are in
//! `fuzz/corpus/<target>/`; a file there is replayed in every test run, so a mended crash stays mended.
//!
//! Invariants
//! - Equal seeds give equal inputs.
//! - The pool of inputs is bounded.
#![warn(missing_docs)]
#![allow(clippy::panic, reason = "a target panics when a parser is wrong")]

mod fuzzer;
mod mutate;
mod seeds;
mod targets;

pub use fuzzer::{Fuzzer, Wrong, corpus};
pub use mutate::Chance;
pub use seeds::seeds;
pub use targets::{ALL, Target};
