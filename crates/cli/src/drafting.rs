//! Draft files on this machine: read, compared with what they follow, signed, merged and sent.

use crate::consent;
use crate::failure::Failure;
use crate::key_file::KeyArgs;
use crate::output::{Output, Report};
use crate::trust;
use serde::Serialize;
use sluice_api::ceremony::{CeremonyDone, CeremonyFiles};
use sluice_api_client::AdminClient;
use sluice_metadata::{
    DraftFile, RepositoryProfile, RoleName, RootPlan, TargetsPlan, Terms, explain_root, explain_targets,
};
use sluice_model::Timestamp;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest draft that is read.
const DRAFT_BYTES_MAX: u64 = 1 << 20;

/// Reads a draft by the role that its name says.
pub fn read(path: &Path) -> Result<DraftFile, Failure> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(DRAFT_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::path("read", path, error))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    DraftFile::read_named(name, &bytes).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure::path("use", path, std::io::Error::other(format!("{error}{cause}")))
    })
}

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
    /// Signs a draft of root: shows what it changes in the version before.
    pub fn root(self, output: &Output) -> Result<(), Failure> {
        let draft = self.read_as(&RoleName::root())?;
        let after = root_plan(&draft)?;
        let previous = self.previous(&draft)?;
        let before = previous.as_ref().map(|(_, previous)| root_plan(previous)).transpose()?;
        let role = RoleName::root();
        if let Some((path, known)) = &previous {
            let plan = before.as_ref().map(|plan| plan.terms(&role)).unwrap_or_default();
            check_follows(&draft, known, path, &plan)?;
        }
        let mut lines = explain_root(before.as_ref(), &after);
        lines.extend(compared(previous.as_ref()));
        let mut terms = vec![after.terms(&role)];
        // In profile dev the server holds the old key, and signs with it when the draft is published.
        let people = before.filter(|plan| plan.profile != RepositoryProfile::Dev);
        terms.extend(people.map(|plan| plan.terms(&role)));
        self.sign(draft, &lines, &terms, output)
    }

    /// Signs a draft of targets: shows what it changes in the version before. Root beside it says whose signatures count.
    pub fn targets(self, output: &Output) -> Result<(), Failure> {
        let draft = self.read_as(&RoleName::targets())?;
        let after = targets_plan(&draft)?;
        let roots = roots_beside(&self.draft)?;
        let terms: Vec<Terms> = roots.iter().map(|root| root.terms(&RoleName::targets())).collect();
        let previous = self.previous(&draft)?;
        if let Some((path, known)) = &previous {
            let is_signed = terms.iter().any(|terms| known.reaches(terms));
            let own = Terms { threshold: u32::from(!is_signed), ..Terms::default() };
            check_follows(&draft, known, path, &own)?;
        }
        let before = previous.as_ref().map(|(_, previous)| targets_plan(previous)).transpose()?;
        let mut lines = explain_targets(before.as_ref(), &after);
        lines.extend(compared(previous.as_ref()));
        if terms.is_empty() {
            let text = "there is no N.root.json beside the draft, which says whose signatures of targets count";
            return Err(Failure::Usage(text.into()));
        }
        // The newest root says whose signatures count from now on; older ones, whose counted for the version before.
        self.sign(draft, &lines, &terms[..1], output)
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

/// What root says, refusing what this program could not show.
pub fn root_plan(draft: &DraftFile) -> Result<RootPlan, Failure> {
    let plan = RootPlan::of(draft).map_err(|error| Failure::NotSigned(error.to_string()))?;
    if draft.is_wholly(&plan.to_draft()) { Ok(plan) } else { Err(unknown_members(draft)) }
}

/// What targets says, refusing what this program could not show.
pub fn targets_plan(draft: &DraftFile) -> Result<TargetsPlan, Failure> {
    let plan = TargetsPlan::of(draft).map_err(|error| Failure::NotSigned(error.to_string()))?;
    if draft.is_wholly(&plan.to_draft()) { Ok(plan) } else { Err(unknown_members(draft)) }
}

fn unknown_members(draft: &DraftFile) -> Failure {
    let text = format!(
        "{} holds members that this program does not know and cannot show; nothing was signed",
        draft.file_name()
    );
    Failure::NotSigned(text)
}

/// The file before must be what the draft follows, and signed itself.
fn check_follows(draft: &DraftFile, previous: &DraftFile, path: &Path, terms: &Terms) -> Result<(), Failure> {
    let refuse = |text: String| Err(Failure::NotSigned(format!("{text}; nothing was signed")));
    if previous.role() != draft.role() || previous.version() + 1 != draft.version() {
        return refuse(format!("{} is not what {} follows", path.display(), draft.file_name()));
    }
    if !previous.reaches(terms) {
        return refuse(format!("{} is not signed by enough of its holders, so it was never in force", path.display()));
    }
    Ok(())
}

fn compared(previous: Option<&(PathBuf, DraftFile)>) -> Vec<String> {
    match previous {
        Some((path, _)) => vec![format!("compared with {}, which must be the one you know", path.display())],
        None => vec!["compared with nothing: this is the first version".into()],
    }
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

/// `publish FILE...`: merges copies of the same draft and sends all of them, to come into force together.
#[derive(Debug, clap::Args)]
pub struct PublishArgs {
    /// Signed files, each named VERSION.ROLE.json; copies with other signatures may be given too.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl PublishArgs {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let mut drafts: BTreeMap<RoleName, DraftFile> = BTreeMap::new();
        for path in &self.files {
            let draft = read(path)?;
            match drafts.get_mut(draft.role()) {
                Some(known) => known.merge(&draft).map_err(|error| Failure::Usage(error.to_string()))?,
                None => {
                    drafts.insert(draft.role().clone(), draft);
                }
            }
        }
        let file = |draft: &DraftFile| serde_json::from_slice(&draft.to_bytes()).expect("a draft is JSON");
        let files = drafts.values().map(|draft| (draft.file_name(), file(draft))).collect();
        output.report(&client.publish_ceremony(&CeremonyFiles { files }).await?)
    }
}

impl Report for CeremonyDone {
    fn text(&self, _now: Timestamp) -> String {
        let mut text = format!("in force: {}\n", self.published.join(", "));
        if !self.signed_by_server.is_empty() {
            text += &format!("signed anew by the server: {}\n", self.signed_by_server.join(", "));
        }
        for key in &self.keys_deleted {
            text += &format!("deleted on the server, as it lost its role: key {key}\n");
        }
        text
    }
}

/// Lines that explain a file, for `show`.
#[derive(Serialize)]
pub struct Explained {
    pub lines: Vec<String>,
}

impl Report for Explained {
    fn text(&self, _now: Timestamp) -> String {
        self.lines.iter().map(|line| crate::failure::one_line(line) + "\n").collect()
    }
}

/// What was drafted, and what to do with it.
#[derive(Serialize)]
pub struct Drafted {
    pub files: Vec<String>,
    pub lines: Vec<String>,
    pub next: Vec<String>,
}

impl Report for Drafted {
    fn text(&self, _now: Timestamp) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text += &(crate::failure::one_line(line) + "\n");
        }
        text += "\nwritten:\n";
        self.files.iter().for_each(|file| text += &format!("  {file}\n"));
        text += "next:\n";
        self.next.iter().for_each(|next| text += &format!("  {next}\n"));
        text
    }
}

/// Writes drafts and the files that they follow into a folder; none may exist there with other content.
pub fn write_all(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<Vec<String>, Failure> {
    std::fs::create_dir_all(folder).map_err(|error| Failure::path("make", folder, error))?;
    let mut written = Vec::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        match std::fs::read(&path) {
            Ok(known) if known == *bytes => {}
            // A draft that nobody signed yet may be drafted again.
            Ok(known) if DraftFile::read_named(name, &known).is_ok_and(|known| known.signature_count() == 0) => {
                trust::replace(&path, bytes)?;
            }
            Ok(_) => {
                let advice = "it exists with other content; name another folder with --out, or remove it";
                return Err(Failure::path("write", &path, std::io::Error::other(advice)));
            }
            Err(_) => crate::key_file::write_new(&path, bytes, 0o644)?,
        }
        written.push(path.display().to_string());
    }
    Ok(written)
}
