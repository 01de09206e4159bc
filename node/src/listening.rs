//! Says where the program listens: `listening.json` in the data folder, there while it runs.

use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const FILE: &str = "listening.json";

/// Addresses that were bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Listening {
    /// Plain HTTP.
    pub http: SocketAddr,
    /// TLS with raw keys.
    pub device: SocketAddr,
    /// libp2p over TCP.
    pub overlay: SocketAddr,
}

/// The file; removed when this is dropped at a clean stop. After a kill it stays and is replaced at the next start.
#[derive(Debug)]
pub struct ListeningFile {
    path: PathBuf,
}

impl ListeningFile {
    /// Writes the file below `data`, whole or not at all.
    pub fn write(data: &Path, listening: &Listening) -> io::Result<Self> {
        let path = data.join(FILE);
        let new = data.join(format!("{FILE}.new"));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(listening)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        Ok(Self { path })
    }
}

impl Drop for ListeningFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the file that says where this listened");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_this_form_and_goes_with_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let listening = Listening { http: address(1), device: address(2), overlay: address(3) };
        let file = ListeningFile::write(dir.path(), &listening).unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join(FILE)).unwrap(),
            r#"{"http":"127.0.0.1:1","device":"127.0.0.1:2","overlay":"127.0.0.1:3"}"#
        );
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
