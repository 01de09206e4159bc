//! The two versions that the demo publishes: built here as valid Debian packages, or real ones that were given.

use crate::cargo;
use anyhow::{Context, Result, bail};
use ring::digest;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Content of the old version: a WAN of 20 Mbit/s carries it in 7 s.
const OLD_BYTES: usize = 17 << 20;
/// Content of the new version: a killed node loses at most the chunk that it was receiving, on average 1 MiB, and that must
/// stay below the promised 5 %.
const NEW_BYTES: usize = 44 << 20;
/// What the package made here needs, and one endpoint lacks on purpose.
pub const RUNTIME: &str = "sluice-demo-runtime";

/// The field that names it.
const NEEDS: &str = "Depends: sluice-demo-runtime (>= 1.0)\n";

/// A Debian package file and the fields that matter here.
#[derive(Clone, Debug)]
pub struct Deb {
    pub path: PathBuf,
    pub package: String,
    pub version: String,
    pub architecture: String,
    pub sha256: String,
    /// Packages that it needs, with a version that satisfies the relation.
    pub needs: Vec<(String, String)>,
}

/// One version of the patch.
#[derive(Clone, Debug)]
pub struct Version {
    pub debs: Vec<Deb>,
}

/// Both versions.
pub struct Versions {
    pub name: String,
    pub old: Version,
    pub new: Version,
    pub given: bool,
}

impl Version {
    /// The patch version: that of its first package.
    pub fn number(&self) -> &str {
        &self.debs[0].version
    }
}

impl Versions {
    /// Builds both, or reads the given ones.
    pub fn prepare(folder: &Path, old: &[PathBuf], new: &[PathBuf]) -> Result<Self> {
        let given = !old.is_empty();
        let (old, new) = if given {
            (read_all(old)?, read_all(new)?)
        } else {
            (vec![build(folder, "1.0-1", OLD_BYTES, NEEDS)?], vec![build(folder, "2.0-1", NEW_BYTES, NEEDS)?])
        };
        if old[0].version == new[0].version {
            bail!("both versions of {} are {}; give two different ones", old[0].package, old[0].version);
        }
        let name = old[0].package.clone();
        Ok(Self { name, old: Version { debs: old }, new: Version { debs: new }, given })
    }

    /// Everything that either version needs and does not bring, each package once with its highest need as written.
    pub fn missing_needs(&self) -> Vec<(String, String)> {
        let all = || self.old.debs.iter().chain(&self.new.debs);
        let mut needs: Vec<(String, String)> = Vec::new();
        for (package, version) in all().flat_map(|deb| deb.needs.iter()) {
            if all().any(|deb| deb.package == *package) {
                continue;
            }
            match needs.iter_mut().find(|(known, _)| known == package) {
                Some(known) if is_newer(version, &known.1) => known.1.clone_from(version),
                Some(_) => {}
                None => needs.push((package.clone(), version.clone())),
            }
        }
        needs
    }
}

fn is_newer(version: &str, than: &str) -> bool {
    Command::new("dpkg").args(["--compare-versions", version, "gt", than]).status().is_ok_and(|status| status.success())
}

/// Builds `sluice-demo-data` in `version` with `bytes` of data into `folder`: for tests that need sizes of their own.
pub fn one(folder: &Path, version: &str, bytes: usize) -> Result<Version> {
    Ok(Version { debs: vec![build(folder, version, bytes, NEEDS)?] })
}

/// The same without a dependency: for a machine whose packages are real ones.
pub fn one_free(folder: &Path, version: &str, bytes: usize) -> Result<Version> {
    Ok(Version { debs: vec![build(folder, version, bytes, "")?] })
}

/// `sluice-demo-data`: a program and generated data, no maintainer scripts. Data differs in every byte between versions.
fn build(folder: &Path, version: &str, bytes: usize, needs: &str) -> Result<Deb> {
    let tree = folder.join(format!("tree-{version}"));
    let share = tree.join("usr/share/sluice-demo-data");
    std::fs::create_dir_all(tree.join("DEBIAN"))?;
    std::fs::create_dir_all(tree.join("usr/bin"))?;
    std::fs::create_dir_all(&share)?;
    write_data(&share.join("table.bin"), version, bytes)?;
    let program = tree.join("usr/bin/sluice-demo");
    std::fs::write(&program, format!("#!/bin/sh\necho sluice-demo-data {version}\n"))?;
    executable(&program)?;
    let control = format!(
        "Package: sluice-demo-data\nVersion: {version}\nArchitecture: all\nMaintainer: Sluice demo <demo@sluice.invalid>\n\
         {needs}Section: misc\nPriority: optional\nDescription: data that the Sluice demo carries\n"
    );
    std::fs::write(tree.join("DEBIAN/control"), control)?;
    let path = folder.join(format!("sluice-demo-data_{version}_all.deb"));
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "-Znone", "--build"]).arg(&tree).arg(&path);
    cargo::output(&mut command)?;
    std::fs::remove_dir_all(&tree)?;
    read(&path)
}

/// Bytes that do not compress and that nobody else has: SHA-256 in counter mode over the version.
fn write_data(path: &Path, version: &str, bytes: usize) -> Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut written = 0;
    let mut counter = 0u64;
    while written < bytes {
        let block = digest::digest(&digest::SHA256, format!("{version} {counter}").as_bytes());
        file.write_all(block.as_ref())?;
        written += block.as_ref().len();
        counter += 1;
    }
    file.flush().context("cannot write the demo's data")
}

fn executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).context("cannot make the program executable")
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Deb>> {
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Deb> {
    let field = |name: &str| -> Result<String> {
        let mut command = Command::new("dpkg-deb");
        command.arg("--field").arg(path).arg(name);
        Ok(cargo::output(&mut command)?.trim().to_owned())
    };
    refuse_scripts(path)?;
    let needs = ["Pre-Depends", "Depends"]
        .iter()
        .map(|name| field(name))
        .collect::<Result<Vec<_>>>()?
        .iter()
        .flat_map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|clause| need(&clause))
        .collect();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Deb {
        path: path.canonicalize()?,
        package: field("Package")?,
        version: field("Version")?,
        architecture: field("Architecture")?,
        sha256: hex::encode(digest::digest(&digest::SHA256, &bytes)),
        needs,
    })
}

fn refuse_scripts(path: &Path) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "dpkg-deb --ctrl-tarfile \"$0\" | tar -t"]).arg(path);
    let names = cargo::output(&mut command)?;
    for script in ["preinst", "postinst", "prerm", "postrm", "config"] {
        if names.lines().any(|name| name.trim_start_matches("./") == script) {
            bail!(
                "{} has a {script} script; the demo's package roots hold no shell, so give packages without scripts",
                path.display()
            );
        }
    }
    Ok(())
}

/// The first alternative of a clause such as `libc6 (>= 2.34) | libc6.1`, with a version that satisfies it.
fn need(clause: &str) -> Option<(String, String)> {
    let first = clause.split('|').next()?.trim();
    let (name, relation) =
        first.split_once('(').map_or((first, ""), |(name, rest)| (name, rest.trim_end_matches([')', ' '])));
    let name = name.trim().split(':').next()?.to_owned();
    if name.is_empty() {
        return None;
    }
    let version = match relation.trim().split_once(' ') {
        Some((">>", version)) => format!("{}+1", version.trim()),
        Some(("<<" | "<=", version)) => format!("{}~", version.trim()),
        Some((_, version)) => version.trim().to_owned(),
        None => "1.0".to_owned(),
    };
    Some((name, version))
}

#[cfg(test)]
mod tests {
    use super::need;

    #[test]
    fn a_need_gets_a_version_that_satisfies_it() {
        let pair = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(need(" libc6 (>= 2.34)"), pair("libc6", "2.34"));
        assert_eq!(need("libjq1 (= 1.6-2.1)"), pair("libjq1", "1.6-2.1"));
        assert_eq!(need("a:any (>> 1) | b"), pair("a", "1+1"));
        assert_eq!(need("a (<< 2)"), pair("a", "2~"));
        assert_eq!(need("plain"), pair("plain", "1.0"));
        assert_eq!(need(""), None);
    }
}
