//! The package manager: what it says is installed, and its transactions.
//!
//! Never passes `--force-depends` or anything like it. `--force-not-root` is passed only for a root other than `/`, and
//! only when the settings say so.

mod query;
mod run;
mod words;

pub use query::{PackageState, Snapshot};
pub use run::Ran;
pub use words::{classify, remarks, shorten};

use sluice_model::PackageName;
use sluice_settings::DpkgSettings;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// Longest query; it reads one file.
const QUERY_MAX: Duration = Duration::from_secs(60);

/// Why the package manager could not be asked or run.
#[derive(Debug, thiserror::Error)]
pub enum DpkgError {
    /// No database there.
    #[error(
        "there is no dpkg database at {}; is this a Debian system? --root must name the root of one",
        database.display()
    )]
    NoDatabase {
        /// Where it should be.
        database: PathBuf,
    },
    /// The settings ask for a forbidden force.
    #[error("force_not_root is for other roots only: to manage / the agent runs as root")]
    ForceOnRealRoot,
    /// The program did not start.
    #[error("cannot run {}; install the package dpkg or set [dpkg] program", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The query failed.
    #[error("dpkg-query failed: {words}")]
    Query {
        /// What it said.
        words: String,
    },
    /// No folder for temporary files.
    #[error("cannot prepare to run dpkg")]
    Prepare(#[source] std::io::Error),
}

/// dpkg and dpkg-query for one root.
#[derive(Clone, Debug)]
pub struct Dpkg {
    settings: DpkgSettings,
    architecture: OnceLock<String>,
}

impl Dpkg {
    /// Checks that the root has a database.
    pub fn open(settings: DpkgSettings) -> Result<Self, DpkgError> {
        let dpkg = Self { settings, architecture: OnceLock::new() };
        if dpkg.settings.force_not_root && dpkg.is_real_root() {
            return Err(DpkgError::ForceOnRealRoot);
        }
        let database = dpkg.database();
        if database.join("status").is_file() { Ok(dpkg) } else { Err(DpkgError::NoDatabase { database }) }
    }

    /// Root of the managed system.
    pub fn root(&self) -> &Path {
        &self.settings.root
    }

    fn is_real_root(&self) -> bool {
        self.settings.root == Path::new("/")
    }

    fn database(&self) -> PathBuf {
        self.settings.root.join("var/lib/dpkg")
    }

    /// What is installed now.
    pub async fn snapshot(&self) -> Result<Snapshot, DpkgError> {
        if self.architecture.get().is_none() {
            let told = run::run(&self.settings.program, &["--print-architecture".into()], QUERY_MAX).await?;
            // Two that asked at once were told the same.
            let _ = self.architecture.set(told.words.trim().to_owned());
        }
        let architecture = self.architecture.get().map_or("", String::as_str);
        let mut admin = OsString::from("--admindir=");
        admin.push(self.database());
        let format = format!("--showformat={}", query::FORMAT);
        let rows =
            run::run_whole(&self.settings.query_program, &[admin, "--show".into(), format.into()], QUERY_MAX).await?;
        // Without a single package dpkg-query fails; the database was there when the agent started.
        if !rows.success && !rows.words.contains("no packages found") {
            return Err(DpkgError::Query { words: shorten(&rows.words) });
        }
        Ok(Snapshot::read(&rows.words, architecture))
    }

    /// Installs all files in one invocation.
    ///
    /// Not to be dropped: dpkg would go on without anybody waiting for it.
    pub async fn install(&self, files: &[PathBuf]) -> Result<Ran, DpkgError> {
        let mut arguments = self.arguments();
        arguments.push("--install".into());
        arguments.extend(files.iter().map(|file| file.as_os_str().to_owned()));
        self.transact(arguments).await
    }

    /// Removes packages and their configuration, in one invocation.
    pub async fn purge(&self, packages: &[PackageName]) -> Result<Ran, DpkgError> {
        let mut arguments = self.arguments();
        arguments.push("--purge".into());
        arguments.extend(packages.iter().map(|package| OsString::from(package.as_str())));
        self.transact(arguments).await
    }

    async fn transact(&self, arguments: Vec<OsString>) -> Result<Ran, DpkgError> {
        run::run(&self.settings.program, &arguments, Duration::from_secs(self.settings.timeout_secs)).await
    }

    /// Root, conffile policy (what an administrator changed stays) and, where allowed, `--force-not-root`.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--force-confdef".into(), "--force-confold".into()];
        if !self.is_real_root() {
            let mut root = OsString::from("--root=");
            root.push(&self.settings.root);
            arguments.push(root);
            // The log of the machine itself is not about this root.
            arguments.push("--log=/dev/null".into());
            if self.settings.force_not_root {
                arguments.push("--force-not-root".into());
            }
        }
        arguments
    }
}
