//! The agent against real dpkg and a real TLS listener that speaks for a node; only the node's insides are made up.

#![allow(clippy::disallowed_methods, reason = "tests start what a program would spawn in its wiring")]

mod packages;
mod passes;
mod reports;
mod site;
mod transactions;
