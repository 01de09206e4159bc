//! `key new` and `key show`.

use crate::failure::Failure;
use crate::key_file;
use crate::output::{Output, Report, fields};
use clap::Subcommand;
use serde::Serialize;
use sluice_metadata::KeyId;
use sluice_model::Timestamp;
use std::path::PathBuf;

/// Keys that people hold: of root, of targets, of a ring.
#[derive(Debug, clap::Args)]
pub struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key. The secret is encrypted and never leaves this machine.
    New(New),
    /// Show a key's id and public part.
    #[command(after_help = "Example:\n  sluice key show ann.key.pub")]
    Show(Show),
}

const AFTER_HELP: &str = "\
FILE holds the secret (PKCS#8, encrypted with the passphrase, mode 0600) and FILE.pub the public
part, which goes to the administrator. Neither may exist. `openssl pkey` reads both.

Examples:
  sluice key new --out ann.key
  sluice key new --out ann.key --passphrase-fd 3 3< <(pass show sluice/ann)";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
struct New {
    /// File of the secret; FILE.pub is made beside it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// File descriptor that the passphrase is read from; without it the terminal asks.
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// A public key: the .pub file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
struct Made {
    file: Option<String>,
    public_file: String,
    keyid: String,
    public: String,
}

impl Group {
    pub fn run(self, output: &Output) -> Result<(), Failure> {
        match self.command {
            Command::New(new) => {
                let passphrase = key_file::new_passphrase(new.passphrase_fd)?;
                let (signer, public) = key_file::create(&new.out, &passphrase)?;
                output.report(&Made {
                    file: Some(new.out.display().to_string()),
                    public_file: public.display().to_string(),
                    keyid: signer.key_id().to_string(),
                    public: hex(&signer.public_key()),
                })
            }
            Command::Show(show) => {
                let public = key_file::read_public(&show.file)?;
                output.report(&Made {
                    file: None,
                    public_file: show.file.display().to_string(),
                    keyid: KeyId::of(&public).to_string(),
                    public: hex(&public),
                })
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Report for Made {
    fn text(&self, _now: Timestamp) -> String {
        let rows = fields([
            ("key id", self.keyid.clone()),
            ("public key", self.public.clone()),
            ("public file", self.public_file.clone()),
        ]);
        match &self.file {
            Some(file) => format!(
                "{rows}secret       {file}\n\nKeep {file} offline, and its passphrase elsewhere: without both the key is \
                 lost.\nGive {} to the administrator.\n",
                self.public_file
            ),
            None => rows,
        }
    }
}
