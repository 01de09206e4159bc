//! Signing a draft of root or targets: what it changes is shown against what this machine trusts, not against whatever file
//! lies beside the draft.
//!
//! Whoever hands a holder a draft can hand him a forged predecessor too, and the difference between the two looks harmless.
//! So the predecessor must be the root that this machine trusts, or be signed by the holders whom that root names.

use crate::commands::{TrustArgs, file_in_force};
use crate::consent;
use crate::credentials::Given;
use crate::drafting::{read, root_plan, targets_plan};
use crate::failure::Failure;
use crate::key_file::KeyArgs;
use crate::output::{Output, Report};
use crate::trust::{self, Trust};
use serde::Serialize;
use sluice_metadata::{
    DraftFile, RepositoryProfile, RoleName, RootPlan, Terms, Trusted, explain_root, explain_targets,
};
use sluice_model::Timestamp;
use std::path::{Path, PathBuf};

/// Where a draft and what it follows are.
#[derive(Debug, clap::Args)]
pub struct SignArgs {
    /// The draft; your signature is added to it.
    #[arg(value_name = "DRAFT")]
    draft: PathBuf,
    #[command(flatten)]
    key: KeyArgs,
    /// The file that the draft follows [default: the version before, beside the draft].
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    /// Sign without asking, for scripts that showed it to a person.
    #[arg(long)]
    yes: bool,
}

/// What came of a signature.
#[derive(Serialize)]
pub struct Signed {
    file: String,
    keyid: String,
    /// Distinct valid signatures of the keys that the draft itself, or its root, names.
    signatures: usize,
    threshold: u32,
}

impl Report for Signed {
    fn text(&self, _now: Timestamp) -> String {
        let next = match (self.threshold as usize).saturating_sub(self.signatures) {
            0 => "it has enough signatures: publish it".to_owned(),
            missing => format!("{missing} more must sign: hand the file on, or merge copies when publishing"),
        };
        format!("signed {} with key {}\n{} of {}; {next}\n", self.file, self.keyid, self.signatures, self.threshold)
    }
}

impl SignArgs {
    /// Signs a draft of root: shows what it changes in the root that this machine trusts.
    pub fn root(self, given: &Given, output: &Output) -> Result<(), Failure> {
        let role = RoleName::root();
        let draft = self.read_as(&role)?;
        let after = root_plan(&draft)?;
        let pinned = self.pinned(&after.repo_id, given, &draft)?;
        let before = match &pinned {
            None => None,
            Some(trusted) => Some(self.root_before(&draft, trusted)?),
        };
        let mut lines = explain_root(before.as_ref(), &after);
        lines.push(match &before {
            Some(plan) => format!("compared with root {}, which this machine trusts", plan.version),
            None => FIRST.into(),
        });
        let mut terms = vec![after.terms(&role)];
        // In profile dev the server holds the old key, and signs with it when the draft is published.
        let people = before.filter(|plan| plan.profile != RepositoryProfile::Dev);
        terms.extend(people.map(|plan| plan.terms(&role)));
        self.sign(draft, &lines, &terms, output)
    }

    /// The root that the draft follows, which is the trusted one; the file beside it, if any, must be the same.
    fn root_before(&self, draft: &DraftFile, trusted: &Trusted) -> Result<RootPlan, Failure> {
        let known = trusted_root(trusted)?;
        let beside = self.previous(draft)?;
        if known.version + 1 != draft.version() {
            return Err(refuse(format!(
                "this machine trusts root {}, and the draft is version {}: {}",
                known.version,
                draft.version(),
                match known.version + 1 < draft.version() {
                    true =>
                        "lay the roots between them beside the draft, each as it was published, or run `sluice root show` once",
                    false => "it was drafted from an older root; draft it again",
                }
            )));
        }
        if let Some((path, beside)) = beside {
            let beside = root_plan(&beside)?;
            if beside != known {
                return Err(swapped(&path, &explain_root(Some(&known), &beside)));
            }
        }
        Ok(known)
    }

    /// Signs a draft of targets: shows what it changes in the version before, which holders signed whom the trusted root names.
    pub fn targets(self, given: &Given, output: &Output) -> Result<(), Failure> {
        let role = RoleName::targets();
        let draft = self.read_as(&role)?;
        let after = targets_plan(&draft)?;
        let roots = roots_beside(&self.draft)?;
        let Some(newest) = roots.first() else {
            let text = "there is no N.root.json beside the draft, which says whose signatures of targets count";
            return Err(Failure::Usage(text.into()));
        };
        let pinned = self.pinned(&newest.repo_id, given, &draft)?;
        let known = pinned.as_ref().map(trusted_root).transpose()?;
        let mut lines = Vec::new();
        let before = match &known {
            None => None,
            Some(known) => {
                let beside = roots.iter().find(|root| root.version == known.version);
                if let Some(beside) = beside.filter(|beside| *beside != known) {
                    let path = self.draft.with_file_name(format!("{}.root.json", known.version));
                    return Err(swapped(&path, &explain_root(Some(known), beside)));
                }
                let Some((path, previous)) = self.previous(&draft)? else {
                    let text = format!(
                        "lay the targets before, {}.targets.json, beside the draft, or name the file with --previous",
                        draft.version() - 1
                    );
                    return Err(Failure::Usage(text));
                };
                check_follows(&draft, &previous, &path, &self.terms_of(&pinned, &previous)?)?;
                Some(targets_plan(&previous)?)
            }
        };
        lines.extend(explain_targets(before.as_ref(), &after));
        match (&before, &known) {
            (Some(before), Some(known)) => {
                let (version, root) = (before.version, known.version);
                lines.push(format!(
                    "compared with targets {version}, signed by the holders of root {root}, which this machine trusts"
                ));
                if newest.version > known.version {
                    lines.push(format!("it comes into force together with root {}, which is a draft:", newest.version));
                    lines.extend(explain_root(Some(known), newest));
                }
            }
            _ => lines.push(FIRST.into()),
        }
        // The newest root says whose signatures count from now on.
        self.sign(draft, &lines, &[newest.terms(&role)], output)
    }

    /// Who had to sign the targets before: the holders whom one of the trusted roots names. Of several, those who did.
    fn terms_of(&self, pinned: &Option<Trusted>, previous: &DraftFile) -> Result<Terms, Failure> {
        let mut terms = Terms { threshold: 1, ..Terms::default() };
        let files = pinned.iter().flat_map(Trusted::files).filter(|(name, _)| name.ends_with(".root.json"));
        for (name, bytes) in files {
            let root = DraftFile::read_named(&name, &bytes).map_err(|error| Failure::NotSigned(error.to_string()))?;
            let named = root_plan(&root)?.terms(&RoleName::targets());
            if previous.reaches(&named) {
                return Ok(named);
            }
            terms = named;
        }
        Ok(terms)
    }

    /// The roots that this machine trusts. A first version follows nothing, so it is
    /// only for a repository of which this machine trusts no root yet.
    fn pinned(&self, repo_id: &str, given: &Given, draft: &DraftFile) -> Result<Option<Trusted>, Failure> {
        let folder = self.trust.folder(given)?;
        let root = self.trust.root.as_deref();
        if draft.version() <= 1 {
            if root.is_none() && !Trust::is_begun(&folder, repo_id)? {
                return Ok(None);
            }
            let text = format!(
                "this machine trusts a root of repository {repo_id} already, and the draft is a first version: it would \
                 replace a repository that exists"
            );
            return Err(refuse(text));
        }
        let beside = self.draft.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The draft of root itself is judged, not followed.
        let below = if *draft.role() == RoleName::root() { draft.version() } else { u64::MAX };
        Trust::open(&folder, repo_id, root)?.follow_files(beside, below).map(Some)
    }

    fn read_as(&self, role: &RoleName) -> Result<DraftFile, Failure> {
        let draft = read(&self.draft)?;
        if draft.role() == role {
            return Ok(draft);
        }
        let group = if *draft.role() == RoleName::root() { "root" } else { "targets" };
        let command = match draft.role().ring() {
            Some(_) => "approve --draft".to_owned(),
            None => format!("{group} sign"),
        };
        Err(Failure::Usage(format!("{} is {}; sign it with `sluice {command}`", self.draft.display(), draft.role())))
    }

    /// The file that the draft follows. A first version follows nothing.
    fn previous(&self, draft: &DraftFile) -> Result<Option<(PathBuf, DraftFile)>, Failure> {
        let version = draft.version().saturating_sub(1);
        let path = match &self.previous {
            Some(path) => path.clone(),
            None if version == 0 => return Ok(None),
            None => self.draft.with_file_name(format!("{version}.{}.json", draft.role())),
        };
        if self.previous.is_none() && !path.exists() {
            return Ok(None);
        }
        let previous = read(&path)?;
        Ok(Some((path, previous)))
    }

    fn sign(self, mut draft: DraftFile, lines: &[String], terms: &[Terms], output: &Output) -> Result<(), Failure> {
        let signer = self.key.open()?;
        let keyid = signer.key_id();
        if !terms.iter().any(|terms| terms.keys.contains_key(&keyid)) {
            let text = format!("your key {keyid} is none that may sign {}; nothing was signed", draft.file_name());
            return Err(Failure::NotSigned(text));
        }
        consent::ask(lines, self.yes)?;
        draft.sign(&signer);
        trust::replace(&self.draft, &draft.to_bytes())?;
        // Both the old and the new holders must be enough: the one that lacks more is shown.
        let worst = terms.iter().max_by_key(|terms| draft.missing(terms)).cloned().unwrap_or_default();
        output.report(&Signed {
            file: self.draft.display().to_string(),
            keyid: keyid.to_string(),
            signatures: draft.signed_by(&worst).len(),
            threshold: worst.threshold,
        })
    }
}

/// Said of a first version.
const FIRST: &str = "compared with nothing: this is the first version";

fn trusted_root(trusted: &Trusted) -> Result<RootPlan, Failure> {
    let (name, bytes) = file_in_force(trusted, &format!("{}.root.json", trusted.root_version()))?;
    let root = DraftFile::read_named(&name, &bytes).map_err(|error| Failure::NotSigned(error.to_string()))?;
    root_plan(&root)
}

fn refuse(text: String) -> Failure {
    Failure::NotSigned(format!("{text}; nothing was signed"))
}

fn swapped(path: &Path, differences: &[String]) -> Failure {
    Failure::NotSigned(format!(
        "{} is not the root of that version that this machine trusts: somebody put another one there; nothing was signed. It \
         differs:\n  - {}",
        path.display(),
        differences.join("\n  - ")
    ))
}

/// The file before must be what the draft follows, and signed itself.
fn check_follows(draft: &DraftFile, previous: &DraftFile, path: &Path, terms: &Terms) -> Result<(), Failure> {
    let refuse = |text: String| Err(refuse(text));
    if previous.role() != draft.role() || previous.version() + 1 != draft.version() {
        return refuse(format!("{} is not what {} follows", path.display(), draft.file_name()));
    }
    if !previous.reaches(terms) {
        return refuse(format!(
            "{} is not signed by enough of the holders whom the root that this machine trusts names, so it was never in force",
            path.display()
        ));
    }
    Ok(())
}

fn roots_beside(draft: &Path) -> Result<Vec<RootPlan>, Failure> {
    let folder = draft.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).map_err(|error| Failure::path("read", folder, error))?;
    let mut roots = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Failure::path("read", folder, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".root.json") {
            roots.push(root_plan(&read(&path)?)?);
        }
    }
    roots.sort_by_key(|root| std::cmp::Reverse(root.version));
    Ok(roots)
}
