//! What a change must pass besides the tests.

use crate::tidy;
use anyhow::Result;
use sluice_xtask::cargo;

/// Format, lint, tidy; the first failure ends it.
pub fn run() -> Result<()> {
    cargo::run(cargo::cargo().args(["fmt", "--all", "--check"]))?;
    cargo::run(cargo::cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))?;
    tidy::run()
}
