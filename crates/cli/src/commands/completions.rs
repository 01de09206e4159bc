//! `completions`.

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::Output;
use clap::CommandFactory;
use clap_complete::Shell;

const AFTER_HELP: &str = "\
Examples:
  sluice completions bash > /etc/bash_completion.d/sluice
  sluice completions zsh > \"${fpath[1]}/_sluice\"";

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Print {
    /// Which shell.
    shell: Shell,
}

impl Print {
    pub fn run(self, output: &Output) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "sluice", &mut script);
        output.raw(&String::from_utf8_lossy(&script))
    }
}
