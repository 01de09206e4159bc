//! libtorrent, one seeder and one leecher, through its Python binding.

use super::{Running, free_port, python};
use anyhow::{Context, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// The script that drives it: make, seed, fetch.
const SCRIPT: &str = include_str!("torrent.py");

/// Whether the binding is installed (`cargo xtask setup` does that).
pub fn is_installed() -> bool {
    Command::new(python()).args(["-c", "import libtorrent"]).output().is_ok_and(|output| output.status.success())
}

/// A call of the script.
pub fn script(arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command.args(["-c", SCRIPT]).args(arguments);
    command
}

/// Seeds `file`; the torrent goes beside it as `<file>.torrent`.
pub fn seed(file: &Path) -> anyhow::Result<Running> {
    let name = file.to_string_lossy();
    let made = script(&["make", &name]).output().context("cannot start python")?;
    ensure!(made.status.success(), "making a torrent: {}", String::from_utf8_lossy(&made.stderr));
    let port = free_port()?;
    let child = script(&["seed", &name, "127.0.0.1", &port.to_string()]).stdin(Stdio::null()).spawn()?;
    Running::listening(child, port).context("the seeder")
}

/// The command that fetches it into `folder` and ends when every piece was checked.
pub fn fetch(file: &Path, port: u16, folder: &Path) -> Command {
    script(&["fetch", &file.to_string_lossy(), &folder.to_string_lossy(), &format!("127.0.0.1:{port}")])
}
