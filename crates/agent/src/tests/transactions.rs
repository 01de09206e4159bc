//! Transactions with real packages in a root of their own.

use super::packages::{dpkg, have_dpkg, package, root, settings, sha256, status};
use crate::download::Fetcher;
use crate::dpkg::{Dpkg, DpkgError};
use crate::memory;
use crate::shelf::Shelf;
use crate::transaction::{Applied, Transaction};
use sluice_compliance::FailureClass;
use sluice_model::{
    ArtifactId, ArtifactKind, ArtifactSet, DebFields, ManifestId, ManifestRef, PackageName, PatchTarget,
    ReleasedArtifact, RingName, Severity, Sha512, TargetName, Timestamp,
};
use sluice_rollout::{PatchSet, Purpose};
use sluice_state_store::StateStore;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Signed rows of built packages, as one patch.
pub fn set_of(patch: &str, serial: u64, debs: &[(PathBuf, &str, &str)]) -> PatchSet {
    let ring: RingName = "pilot".parse().unwrap();
    let count = u32::try_from(debs.len()).unwrap();
    let artifacts = debs.iter().zip(0u32..).map(|((file, package, version), index)| {
        let bytes = std::fs::read(file).unwrap();
        let sha256 = sha256(&bytes);
        ReleasedArtifact {
            target: TargetName::of_patch(&ring, file.file_name().unwrap().to_str().unwrap()).unwrap(),
            ring: ring.clone(),
            length: bytes.len() as u64,
            sha256,
            custom: PatchTarget {
                schema: 1,
                patch: patch.split('/').next().unwrap().parse().unwrap(),
                patch_version: patch.split('/').nth(1).unwrap().parse().unwrap(),
                blake3: ArtifactId::from_bytes(*sha256.as_bytes()),
                sha512: Sha512::from_bytes([0; 64]),
                manifest: ManifestRef {
                    blake3: ManifestId::from_bytes([0; 32]),
                    length: 52,
                    chunker: "fastcdc-2020/64K-256K-1M".into(),
                },
                artifact: ArtifactKind::Deb(DebFields {
                    package: package.parse().unwrap(),
                    version: (*version).into(),
                    architecture: "all".into(),
                }),
                set: ArtifactSet { index, count },
                severity: Severity::High,
                cves: Vec::new(),
                supersedes: Vec::new(),
                approved_serial: serial,
                approved_at: Timestamp::from_millis(serial),
            },
        }
    });
    PatchSet { patch: patch.parse().unwrap(), approved_serial: serial, artifacts: artifacts.collect() }
}

struct Machine {
    dir: TempDir,
    root: PathBuf,
    dpkg: Dpkg,
    store: StateStore,
    shelf: Shelf,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = root(dir.path());
        for folder in ["downloads", "retained"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Self {
            dpkg: dpkg(&root),
            store: StateStore::open(dir.path().join("state.redb")).unwrap(),
            shelf: Shelf::new(dir.path().join("downloads"), dir.path().join("retained")),
            root,
            dir,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// As a download would leave them.
    fn keep(&self, set: &PatchSet, files: &[PathBuf]) {
        for (artifact, file) in set.artifacts.iter().zip(files) {
            std::fs::copy(file, self.shelf.whole(&artifact.sha256)).unwrap();
        }
    }

    async fn apply(&self, set: &PatchSet, files: &[PathBuf], back: &[ReleasedArtifact], leftovers: &[&str]) -> Applied {
        let stop = CancellationToken::new();
        let fetcher = Fetcher { nodes: &[], shelf: &self.shelf, purpose: Purpose::Ordinary, data: None, stop: &stop };
        let transaction = Transaction { dpkg: &self.dpkg, store: &self.store, fetcher: &fetcher, ways_back: back };
        let leftovers: Vec<PackageName> = leftovers.iter().map(|name| name.parse().unwrap()).collect();
        let applied = transaction.apply(set, files, &leftovers).await.unwrap();
        memory::note_attempt(&self.store, None).unwrap();
        applied
    }

    fn status(&self, package: &str) -> String {
        status(&self.root, package)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_installed_in_one_transaction_whatever_the_order_of_its_files() {
    if !have_dpkg() {
        return;
    }
    let machine = Machine::new();
    let tool = package("tool", "1.0").depends("libtool (= 1.0)").build(machine.path());
    let library = package("libtool", "1.0").build(machine.path());
    let set = set_of("tool/1.0", 1, &[(tool.clone(), "tool", "1.0"), (library.clone(), "libtool", "1.0")]);
    let applied = machine.apply(&set, &[tool, library], &[], &[]).await;
    assert_eq!(applied.failure, None, "{}", applied.words);
    assert_eq!(machine.status("tool"), "install ok installed 1.0");
    assert_eq!(machine.status("libtool"), "install ok installed 1.0");
    assert_eq!(applied.before.iter().filter(|package| package.version.is_some()).count(), 0);
    assert_eq!(applied.added.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_dependency_is_a_failure_in_dpkgs_words_and_leaves_nothing_behind() {
    if !have_dpkg() {
        return;
    }
    let machine = Machine::new();
    let file = package("tool", "1.0").depends("libmissing (>= 2)").build(machine.path());
    let set = set_of("tool/1.0", 1, &[(file.clone(), "tool", "1.0")]);
    let applied = machine.apply(&set, &[file], &[], &[]).await;
    assert_eq!(applied.failure, Some(FailureClass::Dependency));
    assert!(applied.words.contains("tool depends on libmissing (>= 2)"), "{}", applied.words);
    assert!(applied.words.contains("removed again: tool"), "{}", applied.words);
    assert!(applied.after.iter().all(|package| package.version.is_none()));
    assert_eq!(machine.status("tool"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_upgrade_puts_the_version_before_back_and_removes_what_was_new() {
    if !have_dpkg() {
        return;
    }
    let machine = Machine::new();
    let old = package("tool", "1.0").build(machine.path());
    let old_set = set_of("tool/1.0", 1, &[(old.clone(), "tool", "1.0")]);
    machine.keep(&old_set, std::slice::from_ref(&old));
    assert_eq!(machine.apply(&old_set, &[old], &[], &[]).await.failure, None);

    let new = package("tool", "2.0").depends("libmissing").build(machine.path());
    let extra = package("tool-extra", "2.0").build(machine.path());
    let set = set_of("tool/2.0", 2, &[(new.clone(), "tool", "2.0"), (extra.clone(), "tool-extra", "2.0")]);
    let applied = machine.apply(&set, &[new, extra], &old_set.artifacts, &[]).await;
    assert_eq!(applied.failure, Some(FailureClass::Dependency));
    assert!(applied.words.contains("put back: tool 1.0"), "{}", applied.words);
    assert_eq!(machine.status("tool"), "install ok installed 1.0");
    assert_eq!(machine.status("tool-extra"), "");
    let data = std::fs::read(machine.root.join("usr/share/tool/data")).unwrap();
    assert_eq!(data, std::fs::read(machine.path().join("tool-1.0/usr/share/tool/data")).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_earlier_package_the_state_is_left_as_dpkg_left_it_and_said_so() {
    if !have_dpkg() {
        return;
    }
    let machine = Machine::new();
    let old = package("tool", "1.0").build(machine.path());
    let old_set = set_of("tool/1.0", 1, &[(old.clone(), "tool", "1.0")]);
    assert_eq!(machine.apply(&old_set, &[old], &[], &[]).await.failure, None);
    let new = package("tool", "2.0").depends("libmissing").build(machine.path());
    let set = set_of("tool/2.0", 2, &[(new.clone(), "tool", "2.0")]);
    let applied = machine.apply(&set, &[new], &[], &[]).await;
    assert_eq!(applied.failure, Some(FailureClass::Dependency));
    assert!(applied.words.contains("tool 1.0 could not be put back"), "{}", applied.words);
    assert_eq!(machine.status("tool"), "install ok unpacked 2.0");
    assert_eq!(applied.after[0].version, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_maintainer_script_is_never_called_installed() {
    if !have_dpkg() {
        return;
    }
    // The root has no shell, so the script cannot run.
    let machine = Machine::new();
    let file = package("tool", "1.0").postinst("#!/bin/sh\nexit 1\n").build(machine.path());
    let set = set_of("tool/1.0", 1, &[(file.clone(), "tool", "1.0")]);
    let applied = machine.apply(&set, &[file], &[], &[]).await;
    assert_eq!(applied.failure, Some(FailureClass::PackageManager), "{}", applied.words);
    assert_eq!(machine.status("tool"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_downgrades_and_removes_what_the_newer_version_brought() {
    if !have_dpkg() {
        return;
    }
    let machine = Machine::new();
    let old = package("tool", "1.0").build(machine.path());
    let old_set = set_of("tool/1.0", 1, &[(old.clone(), "tool", "1.0")]);
    assert_eq!(machine.apply(&old_set, std::slice::from_ref(&old), &[], &[]).await.failure, None);
    let new = package("tool", "2.0").depends("libtool").build(machine.path());
    let library = package("libtool", "2.0").build(machine.path());
    let set = set_of("tool/2.0", 2, &[(new.clone(), "tool", "2.0"), (library.clone(), "libtool", "2.0")]);
    let applied = machine.apply(&set, &[new, library], &[], &[]).await;
    assert_eq!((applied.failure, applied.added), (None, vec!["libtool".parse().unwrap()]));

    let back = machine.apply(&old_set, &[old], &[], &["libtool"]).await;
    assert_eq!(back.failure, None, "{}", back.words);
    assert_eq!(machine.status("tool"), "install ok installed 1.0");
    assert_eq!(machine.status("libtool"), "");
    assert_eq!(back.before.iter().filter(|package| package.version.as_deref() == Some("2.0")).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_cut_the_next_attempt_still_knows_what_was_before() {
    if !have_dpkg() {
        return;
    }
    let machine = Machine::new();
    let old = package("tool", "1.0").build(machine.path());
    let old_set = set_of("tool/1.0", 1, &[(old.clone(), "tool", "1.0")]);
    machine.keep(&old_set, std::slice::from_ref(&old));
    assert_eq!(machine.apply(&old_set, &[old], &[], &[]).await.failure, None);
    // The power went after dpkg unpacked version 2 and before anything was noted of its end.
    let new = package("tool", "2.0").depends("libmissing").build(machine.path());
    let before = [("tool".parse().unwrap(), Some("1.0".to_owned()))].into();
    memory::note_attempt(&machine.store, Some(&memory::CutOff { before })).unwrap();
    assert!(!machine.dpkg.install(std::slice::from_ref(&new)).await.unwrap().success);
    assert_eq!(machine.status("tool"), "install ok unpacked 2.0");

    let set = set_of("tool/2.0", 2, &[(new.clone(), "tool", "2.0")]);
    let applied = machine.apply(&set, &[new], &old_set.artifacts, &[]).await;
    assert_eq!(applied.failure, Some(FailureClass::Dependency));
    assert_eq!(machine.status("tool"), "install ok installed 1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_manager_that_never_ends_is_stopped_and_its_words_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let root = root(dir.path());
    let program = dir.path().join("slow-dpkg");
    std::fs::write(&program, "#!/bin/sh\necho begins\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut slow = settings(&root);
    (slow.program, slow.timeout_secs) = (program, 1);
    let began = began();
    let ran = Dpkg::open(slow).unwrap().install(&["/nonexistent.deb".into()]).await.unwrap();
    assert!(!ran.success && ran.words.contains("begins") && ran.words.contains("no end after 1 s"), "{}", ran.words);
    assert!(began.elapsed() < Duration::from_secs(20));
}

fn began() -> Instant {
    crate::clock::now()
}

#[test]
fn a_root_without_a_database_and_a_force_on_the_real_root_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Dpkg::open(settings(dir.path())).unwrap_err();
    assert!(matches!(error, DpkgError::NoDatabase { .. }), "{error}");
    assert!(error.to_string().contains("--root"), "{error}");
    let mut real = settings(Path::new("/"));
    real.force_not_root = true;
    assert!(matches!(Dpkg::open(real), Err(DpkgError::ForceOnRealRoot)));
}
