//! What `dpkg-query` says, read.

use sluice_compliance::PackageVersion;
use sluice_model::PackageName;
use std::collections::BTreeMap;

/// One line a package.
pub(super) const FORMAT: &str = "${Package}\\t${Version}\\t${Architecture}\\t${Status}\\n";

/// State of one package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageState {
    /// Installed, whole and configured, in this version.
    Installed(String),
    /// Unpacked, half-configured, half-installed or waiting for triggers: not installed.
    Partial {
        /// The version that is in the way.
        version: String,
        /// dpkg's word for the state.
        state: String,
    },
    /// Not there (configuration files may be).
    Absent,
}

/// Every package of the native architecture or of all, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// dpkg's own architecture.
    pub architecture: String,
    packages: BTreeMap<PackageName, PackageState>,
}

impl Snapshot {
    /// Reads the rows. Rows that cannot be read are left out: nothing of ours can be among them.
    pub(super) fn read(rows: &str, architecture: &str) -> Self {
        let packages = rows
            .lines()
            .filter_map(|row| {
                let mut fields = row.split('\t');
                let (name, version) = (fields.next()?, fields.next()?);
                let (of, status) = (fields.next()?, fields.next()?);
                let is_native = of == architecture || of == "all" || of.is_empty();
                is_native.then_some(())?;
                Some((name.parse().ok()?, state_of(version, status)?))
            })
            .collect();
        Self { architecture: architecture.to_owned(), packages }
    }

    /// The state of a package.
    pub fn state(&self, package: &PackageName) -> &PackageState {
        self.packages.get(package).unwrap_or(&PackageState::Absent)
    }

    /// The version of a package, when it is installed.
    pub fn version(&self, package: &PackageName) -> Option<&str> {
        match self.state(package) {
            PackageState::Installed(version) => Some(version),
            _ => None,
        }
    }

    /// Every installed package.
    pub fn installed(&self) -> BTreeMap<PackageName, String> {
        let version_of = |(name, state): (&PackageName, &PackageState)| match state {
            PackageState::Installed(version) => Some((name.clone(), version.clone())),
            _ => None,
        };
        self.packages.iter().filter_map(version_of).collect()
    }

    /// These packages in the form of a report.
    pub fn versions<'a>(&self, packages: impl Iterator<Item = &'a PackageName>) -> Vec<PackageVersion> {
        packages
            .map(|package| PackageVersion {
                package: package.to_string(),
                version: self.version(package).map(str::to_owned),
            })
            .collect()
    }
}

/// `Status` is: what is wanted, whether an error is flagged, the state.
fn state_of(version: &str, status: &str) -> Option<PackageState> {
    let mut words = status.split_whitespace();
    let (_wanted, flag, state) = (words.next()?, words.next()?, words.next()?);
    match (flag, state) {
        ("ok", "installed") => Some(PackageState::Installed(version.to_owned())),
        (_, "not-installed" | "config-files") => None,
        _ => Some(PackageState::Partial { version: version.to_owned(), state: state.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_configured_whole_and_without_an_error_flag_counts_as_installed() {
        let rows = "a1\t1\tall\tinstall ok installed\nb1\t2\tamd64\thold ok installed\n\
                    c1\t3\tamd64\tinstall ok half-configured\nd1\t4\tall\tinstall ok unpacked\n\
                    e1\t5\tall\tdeinstall ok config-files\nf1\t\t\tunknown ok not-installed\n\
                    g1\t7\tall\tinstall reinstreq installed\nh1\t8\ti386\tinstall ok installed\n\
                    i1\t9\tall\tinstall ok triggers-awaited\nbroken\n";
        let snapshot = Snapshot::read(rows, "amd64");
        let installed: Vec<String> = snapshot.installed().keys().map(ToString::to_string).collect();
        assert_eq!(installed, ["a1", "b1"]);
        let state = |name: &str| snapshot.state(&name.parse().unwrap()).clone();
        assert_eq!(state("c1"), PackageState::Partial { version: "3".into(), state: "half-configured".into() });
        assert_eq!(state("e1"), PackageState::Absent);
        assert_eq!(state("f1"), PackageState::Absent);
        assert_eq!(state("g1"), PackageState::Partial { version: "7".into(), state: "installed".into() });
        assert_eq!(state("h1"), PackageState::Absent);
    }
}
