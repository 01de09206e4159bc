//! The files of keys that people hold: encrypted PKCS#8 for the secret, a PEM beside it for the public key.
//!
//! A passphrase comes by file descriptor or from the terminal, never from the command line or the environment, where
//! other users could see it.

use crate::failure::Failure;
use crate::hidden_input;
use sluice_metadata::{KeyId, Signer, public_key_pem, read_public_key_pem};
use sluice_model::PersonName;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use zeroize::Zeroizing;

/// Longest key file that is read.
const FILE_BYTES_MAX: u64 = 16 << 10;
/// Longest passphrase.
const PASSPHRASE_BYTES_MAX: u64 = 1 << 10;
/// Shortest passphrase of a new key.
const PASSPHRASE_CHARS_MIN: usize = 8;

/// Where a key is and how it is opened.
#[derive(Clone, Debug, clap::Args)]
pub struct KeyArgs {
    /// Your key file.
    // Where it may be left out, clap would ask for it all the same; where it may not, reading it fails.
    #[arg(long, value_name = "FILE", required = false)]
    pub key: PathBuf,
    /// File descriptor that the passphrase is read from; without it the terminal asks.
    #[arg(long, value_name = "N")]
    pub passphrase_fd: Option<u32>,
}

impl KeyArgs {
    /// Opens the key.
    pub fn open(&self) -> Result<Signer, Failure> {
        let wrong = |error: String| Failure::path("use", &self.key, std::io::Error::other(error));
        let pem = Zeroizing::new(read_text(&self.key)?);
        if !Signer::is_encrypted_pem(&pem) {
            return Signer::from_pkcs8_pem(&pem).map_err(|error| wrong(error.to_string()));
        }
        let passphrase = passphrase(self.passphrase_fd, &format!("passphrase of {}: ", self.key.display()))?;
        Signer::from_encrypted_pem(&pem, passphrase.as_bytes()).map_err(|error| wrong(error.to_string()))
    }
}

/// The passphrase of a file descriptor, or the terminal's answer. A line break at its end is not part of it.
pub fn passphrase(descriptor: Option<u32>, question: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    match descriptor {
        Some(number) => {
            let path = PathBuf::from(format!("/dev/fd/{number}"));
            let read = File::open(&path).and_then(|file| file.take(PASSPHRASE_BYTES_MAX).read_to_string(&mut text));
            read.map_err(|error| Failure::file(format!("cannot read the passphrase from descriptor {number}"), error))?;
        }
        None if !std::io::stdin().is_terminal() => {
            let text = "the key asks for a passphrase and there is no terminal; give it with --passphrase-fd N";
            return Err(Failure::Usage(text.into()));
        }
        None => {
            let asked = hidden_input::ask(question).map(Zeroizing::new);
            *text = asked.map_err(|error| Failure::file("cannot read the passphrase", error))?.to_string();
        }
    }
    let trimmed = text.trim_end_matches(['\n', '\r']).to_owned();
    Ok(Zeroizing::new(trimmed))
}

/// Checks the passphrase of a new key, asked for twice on a terminal.
pub fn new_passphrase(descriptor: Option<u32>) -> Result<Zeroizing<String>, Failure> {
    let first = passphrase(descriptor, "passphrase of the new key: ")?;
    if first.chars().count() < PASSPHRASE_CHARS_MIN {
        let text = format!("the passphrase is shorter than {PASSPHRASE_CHARS_MIN} characters; no key was made");
        return Err(Failure::Usage(text));
    }
    if descriptor.is_none() && *passphrase(None, "again: ")? != *first {
        return Err(Failure::Usage("the two passphrases differ; no key was made".into()));
    }
    Ok(first)
}

/// A new key, with its passphrase in force: `FILE` and `FILE.pub`, neither of which may exist.
pub fn create(path: &Path, passphrase: &str) -> Result<(Signer, PathBuf), Failure> {
    let mut random = Zeroizing::new([0; 64]);
    getrandom::fill(&mut *random)
        .map_err(|error| Failure::file("the system gave no random bytes", std::io::Error::other(error.to_string())))?;
    let (mut seed, mut salt, mut iv) = (Zeroizing::new([0; 32]), [0; 16], [0; 16]);
    seed.copy_from_slice(&random[..32]);
    salt.copy_from_slice(&random[32..48]);
    iv.copy_from_slice(&random[48..]);
    let signer = Signer::from_seed(*seed);
    let public = PathBuf::from(format!("{}.pub", path.display()));
    let pem = public_key_pem(&signer.public_key()).expect("a key of ours has a public key");
    // The public one first: what exists already is found before a secret is written.
    write_new(&public, pem.as_bytes(), 0o644)?;
    let written = write_new(path, signer.to_encrypted_pem(passphrase.as_bytes(), &salt, iv).as_bytes(), 0o600);
    if written.is_err() {
        let _ = std::fs::remove_file(&public);
    }
    written.map(|()| (signer, public))
}

/// Writes a file that does not exist yet, durably.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| Failure::path("create", path, error))
}

/// Reads a public key: the `.pub` file of a key.
pub fn read_public(path: &Path) -> Result<[u8; 32], Failure> {
    let pem = read_text(path)?;
    read_public_key_pem(&pem).map_err(|_| {
        let advice = "it is no Ed25519 public key in PEM; `sluice key new` writes one beside each key";
        Failure::path("use", path, std::io::Error::other(advice))
    })
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| Failure::path("read", path, error))
}

/// `NAME=FILE`: a person and his public key.
#[derive(Clone, Debug)]
pub struct HolderKey {
    /// Who.
    pub name: PersonName,
    file: PathBuf,
}

impl HolderKey {
    /// His key.
    pub fn read(&self) -> Result<(KeyId, [u8; 32]), Failure> {
        let key = read_public(&self.file)?;
        Ok((KeyId::of(&key), key))
    }
}

impl FromStr for HolderKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = text.split_once('=').ok_or("write NAME=FILE, for instance ann=ann.key.pub")?;
        Ok(Self { name: name.parse().map_err(|error: sluice_model::NameError| error.to_string())?, file: file.into() })
    }
}
