//! What the demo and the tests of whole programs share: real processes in a temporary folder, packages, package roots.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool talks on the terminal")]
#![allow(clippy::disallowed_methods, reason = "it measures how long real processes take")]

pub mod cargo;
pub mod lab;
