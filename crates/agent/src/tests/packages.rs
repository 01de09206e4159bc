//! Real Debian packages and empty package roots.

use crate::dpkg::Dpkg;
use sluice_model::Sha256;
use sluice_settings::DpkgSettings;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether this machine can build and install packages; says so once a test when it cannot.
pub fn have_dpkg() -> bool {
    let found = Command::new("dpkg-deb").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        skip("agent_dpkg", "needs dpkg and dpkg-deb");
    }
    found
}

/// A package to be built.
#[derive(Clone, Debug)]
pub struct Package {
    pub name: &'static str,
    pub version: &'static str,
    pub depends: &'static str,
    pub postinst: Option<&'static str>,
    pub data_bytes: usize,
}

pub fn package(name: &'static str, version: &'static str) -> Package {
    Package { name, version, depends: "", postinst: None, data_bytes: 1_000 }
}

impl Package {
    pub fn depends(self, depends: &'static str) -> Self {
        Self { depends, ..self }
    }

    pub fn postinst(self, script: &'static str) -> Self {
        Self { postinst: Some(script), ..self }
    }

    pub fn data_bytes(self, data_bytes: usize) -> Self {
        Self { data_bytes, ..self }
    }

    pub fn build(&self, dir: &Path) -> PathBuf {
        let tree = dir.join(format!("{}-{}", self.name, self.version));
        let control = tree.join("DEBIAN");
        let share = tree.join("usr/share").join(self.name);
        std::fs::create_dir_all(&control).unwrap();
        std::fs::create_dir_all(&share).unwrap();
        let depends = if self.depends.is_empty() { String::new() } else { format!("Depends: {}\n", self.depends) };
        std::fs::write(
            control.join("control"),
            format!(
                "Package: {}\nVersion: {}\nArchitecture: all\nMaintainer: Test <test@example.org>\n{depends}Description: test\n",
                self.name, self.version
            ),
        )
        .unwrap();
        if let Some(script) = self.postinst {
            let path = control.join("postinst");
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        std::fs::write(share.join("data"), noise(self.data_bytes, self.version)).unwrap();
        let deb = dir.join(format!("{}_{}_all.deb", self.name, self.version));
        let built = Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Znone", "--build"])
            .arg(&tree)
            .arg(&deb)
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        deb
    }
}

/// Bytes that differ with the version and do not repeat soon.
fn noise(bytes: usize, seed: &str) -> Vec<u8> {
    let mut state = seed
        .bytes()
        .fold(0x9e37_79b9_7f4a_7c15u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

/// An empty package root.
pub fn root(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    for folder in ["info", "updates", "triggers"] {
        std::fs::create_dir_all(root.join("var/lib/dpkg").join(folder)).unwrap();
    }
    for file in ["status", "available"] {
        std::fs::write(root.join("var/lib/dpkg").join(file), "").unwrap();
    }
    root
}

pub fn settings(root: &Path) -> DpkgSettings {
    let force_not_root = !rustix::process::geteuid().is_root();
    DpkgSettings { root: root.to_owned(), force_not_root, timeout_secs: 60, ..DpkgSettings::default() }
}

pub fn dpkg(root: &Path) -> Dpkg {
    Dpkg::open(settings(root)).unwrap()
}

/// What dpkg-query says of a package: status and version.
pub fn status(root: &Path, package: &str) -> String {
    let output = Command::new("dpkg-query")
        .arg(format!("--admindir={}", root.join("var/lib/dpkg").display()))
        .args(["--show", "--showformat=${Status} ${Version}", package])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub fn sha256(bytes: &[u8]) -> Sha256 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    Sha256::from_bytes(digest.as_ref().try_into().unwrap())
}

/// Says visibly that something could not be tested; `cargo xtask test` lists what stands in this folder.
fn skip(test: &str, reason: &str) {
    println!("skipped: {test}: {reason}");
    if let Some(folder) = std::env::var_os("SLUICE_SKIPPED_DIR") {
        let _ = std::fs::write(std::path::Path::new(&folder).join(test), reason);
    }
}
