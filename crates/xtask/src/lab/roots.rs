//! Endpoints as folders: a dpkg database of their own, with what the packages need written as installed.

use super::said;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Makes an empty package root in which `installed` (name, version) count as installed.
pub fn make(root: &Path, installed: &[(String, String)], architecture: &str) -> Result<()> {
    let database = root.join("var/lib/dpkg");
    for folder in ["info", "updates", "triggers", "parts"] {
        std::fs::create_dir_all(database.join(folder))
            .with_context(|| format!("cannot make {}", database.display()))?;
    }
    let mut status = String::new();
    let multi_arch = if architecture == "all" { "" } else { "Multi-Arch: same\n" };
    for (package, version) in installed {
        write!(
            status,
            "Package: {package}\nStatus: install ok installed\nPriority: optional\nSection: misc\nMaintainer: Sluice demo \
             <demo@sluice.invalid>\nArchitecture: {architecture}\n{multi_arch}Version: {version}\nDescription: written by \
             the demo as installed\n\n"
        )?;
        std::fs::write(database.join(format!("info/{package}:{architecture}.list")), "/.\n")?;
        std::fs::write(database.join(format!("info/{package}.list")), "/.\n")?;
    }
    std::fs::write(database.join("status"), status)?;
    std::fs::write(database.join("available"), "")?;
    Ok(())
}

/// The version that dpkg says is fully installed; `None` when it is not, not even half.
pub fn installed_version(root: &Path, package: &str) -> Result<Option<String>> {
    let mut command = query(root, package);
    let answer = said(&mut command)?;
    Ok(answer.out.strip_prefix("install ok installed ").map(|version| version.trim().to_owned()))
}

/// The command that a person would type.
pub fn query(root: &Path, package: &str) -> Command {
    let mut command = Command::new("dpkg-query");
    command.arg(format!("--root={}", root.display())).args(["--show", "--showformat=${Status} ${Version}\\n", package]);
    command
}
