//! The command line.

use crate::commands::Command;
use crate::credentials::Given;
use crate::output::Format;
use clap::Parser;
use std::path::PathBuf;

const GLOBAL: &str = "Options of every command";

const AFTER_HELP: &str = "\
Examples:
  sluice login http://127.0.0.1:8470              store address and token
  sluice publish openssl_3.0.22-1_amd64.deb --name openssl --patch-version 3.0.22-1 \\
      --severity critical --cve CVE-2026-12345
  sluice approve openssl/3.0.22-1 --ring pilot
  sluice retract openssl/3.0.22-1 --reason 'crashes at boot'
  sluice -o json nodes | jq '.nodes[].link'

Exit codes:
  0  done
  1  the server refused; it says why and what to do
  2  the command line, the address or the credentials cannot be used; nothing was changed
  3  the server cannot be reached
  4  a file of this machine cannot be read or written
  5  the answer is not one of a Sluice server of this version

Environment:
  SLUICE_URL, SLUICE_TOKEN   address and token, before the credentials file
  SLUICE_FINGERPRINT         the internal CA that the https address must show, with both of them
  NO_COLOR                   no colours";

/// Publishes, approves and retracts patches, and shows what became of them.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub struct Arguments {
    /// How results are printed: for people, or as the admin API's own JSON.
    #[arg(short, long, global = true, value_enum, default_value = "table", value_name = "FORMAT", help_heading = GLOBAL)]
    pub output: Format,

    /// Address of the repo server [env: SLUICE_URL] [default: the one that `login` stored].
    #[arg(long, global = true, value_name = "URL", help_heading = GLOBAL)]
    pub url: Option<String>,

    /// Credentials file [default: $XDG_CONFIG_HOME/sluice/credentials.toml].
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub credentials: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// Address, token and file as the command line and the environment give them.
    pub fn given(&self) -> Given {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Given {
            file: self.credentials.clone(),
            url: self.url.clone().or_else(|| text("SLUICE_URL")),
            token: text("SLUICE_TOKEN"),
            fingerprint: text("SLUICE_FINGERPRINT"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
