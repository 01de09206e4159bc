//! What the demo and the tests of whole programs share: real processes in a temporary folder, packages, package roots.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool talks on the terminal")]

pub mod cargo;
pub mod lab;
