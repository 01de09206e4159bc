//! The whole job with real processes on loopback.

use anyhow::Result;
use clap::Args;

#[derive(Args)]
pub struct DemoArguments {}

pub fn run(_arguments: &DemoArguments) -> Result<()> {
    anyhow::bail!("not here yet")
}
