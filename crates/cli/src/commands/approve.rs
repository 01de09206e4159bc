//! `approve`: into a ring that the server signs alone; or with an approver's own key, which the server does not have.

use super::root::{TrustArgs, file_in_force};
use crate::approval::{Ground, Measured, judge};
use crate::clock;
use crate::consent;
use crate::credentials::Given;
use crate::drafting;
use crate::failure::Failure;
use crate::key_file::KeyArgs;
use crate::output::{Output, Report};
use crate::trust;
use sluice_api::admin::NewApproval;
use sluice_api::ceremony::{ProposalOutcome, SignedProposal};
use sluice_api_client::AdminClient;
use sluice_content::{ChunkerParams, Cutter};
use sluice_metadata::{DraftFile, ReleasePlan, RoleName, Trusted, View};
use sluice_model::{PatchRef, RingName, Sha256, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

const AFTER_HELP: &str = "\
Endpoints of the ring are offered the patch as soon as their site has the new metadata.
A publisher cannot approve what he published.

A ring with approvers takes nothing without the signature of one of them. With --key this program
verifies what is in force from the root that this machine trusts, shows how the proposal differs
from it, hashes every artifact from your own copy, signs and sends. Without a patch it signs
everything that is proposed for the ring: one signature for a whole monthly set.

Examples:
  sluice approve openssl/3.0.22-1 --ring pilot
  sluice approve openssl/3.0.22-1 --ring production --key dora.key --artifact openssl_3.0.22-1_amd64.deb
  sluice approve --ring production --key dora.key --artifact set/a.deb --artifact set/b.deb
  sluice approve --draft ceremony/1.rel-production.json --key dora.key";

/// Approve a patch into a ring, or sign what is proposed for one.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Approve {
    /// Which patch; with --key it may be left out.
    #[arg(value_name = "NAME/VERSION", required_unless_present = "key")]
    patch: Option<PatchRef>,
    /// Into which ring.
    #[arg(long, required_unless_present = "draft", conflicts_with = "draft")]
    ring: Option<RingName>,
    #[command(flatten)]
    key: Option<KeyArgs>,
    /// An artifact from your own source; may be repeated.
    #[arg(long = "artifact", value_name = "FILE", requires = "key")]
    artifacts: Vec<PathBuf>,
    /// Sign this draft of a ceremony instead of a proposal; your signature is added to the file.
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "patch")]
    draft: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    /// Sign without asking, for scripts that showed it to a person.
    #[arg(long, requires = "key")]
    yes: bool,
}

impl Approve {
    pub async fn run(self, given: &Given, output: &Output) -> Result<(), Failure> {
        if let Some(path) = self.draft.clone() {
            return self.sign_file(&path, given, output).await;
        }
        let Some(ring) = self.ring.clone() else { return Err(Failure::Usage("a --ring is needed".into())) };
        let client = given.resolve()?.client()?;
        let patch = match &self.patch {
            Some(patch) => Some(client.approve(patch, &NewApproval { ring: ring.clone() }).await?),
            None => None,
        };
        match (&self.key, patch) {
            (None, Some(patch)) => {
                if patch.proposed_into.contains(&ring) {
                    anstream::eprintln!(
                        "proposed: ring {ring} takes nothing without an approver's signature; next: sluice approve --ring {ring} --key FILE --artifact FILE..."
                    );
                }
                output.report(&patch)
            }
            _ => self.sign_proposal(&ring, &client, given, output).await,
        }
    }

    async fn sign_proposal(
        &self,
        ring: &RingName,
        client: &AdminClient,
        given: &Given,
        output: &Output,
    ) -> Result<(), Failure> {
        let trusted = self.trust.verified(client, given).await?;
        let proposal = client.proposal(ring).await?;
        let role = RoleName::release(ring);
        let bytes = serde_json::to_vec(&proposal.file).expect("a JSON value is JSON");
        let mut draft = DraftFile::read(&role, &bytes).map_err(|error| Failure::NotSigned(error.to_string()))?;
        self.judge_and_sign(&mut draft, Some(&trusted))?;
        let file = serde_json::from_slice(&draft.to_bytes()).expect("a draft is JSON");
        output.report(&client.sign_proposal(ring, &SignedProposal { file }).await?)
    }

    async fn sign_file(&self, path: &Path, given: &Given, output: &Output) -> Result<(), Failure> {
        let mut draft = drafting::read(path)?;
        if draft.role().ring().is_none() {
            let text = format!("{} is {}; sign it with `sluice {} sign`", path.display(), draft.role(), draft.role());
            return Err(Failure::Usage(text));
        }
        // Before the first version there is nothing in force to compare with, and maybe no server.
        let trusted = match draft.version() {
            1 => None,
            _ => Some(self.trust.verified(&given.resolve()?.client()?, given).await?),
        };
        self.judge_and_sign(&mut draft, trusted.as_ref())?;
        trust::replace(path, &draft.to_bytes())?;
        output.report(&drafting::Explained { lines: vec![format!("signed {}", path.display())] })
    }

    fn judge_and_sign(&self, draft: &mut DraftFile, trusted: Option<&Trusted>) -> Result<(), Failure> {
        let Some(key) = &self.key else { return Err(Failure::Usage("--key is needed to sign".into())) };
        let live = trusted.map(|trusted| live(trusted, draft.role())).transpose()?.flatten();
        let retracted = trusted.map(retracted).transpose()?.unwrap_or_default();
        let artifacts = self.artifacts.iter().map(|path| measure(path)).collect::<Result<Vec<_>, _>>()?;
        let ground = Ground { live: live.as_ref(), retracted: &retracted, artifacts: &artifacts, now: clock::now() };
        let lines = judge(draft, &ground).map_err(|reasons| {
            Failure::NotSigned(format!("nothing was signed, because of the proposal:\n  - {}", reasons.join("\n  - ")))
        })?;
        let signer = key.open()?;
        consent::ask(&lines, self.yes)?;
        draft.sign(&signer);
        Ok(())
    }
}

/// What is in force of a release role; `None` when the role has no version yet.
fn live(trusted: &Trusted, role: &RoleName) -> Result<Option<ReleasePlan>, Failure> {
    let version = trusted.versions().into_iter().find(|(name, _)| name == role.as_str()).map(|(_, version)| version);
    let Some(version) = version else { return Ok(None) };
    let (name, bytes) = file_in_force(trusted, &format!("{version}.{role}.json"))?;
    let draft = DraftFile::read_named(&name, &bytes).map_err(|error| Failure::NotSigned(error.to_string()))?;
    ReleasePlan::of(&draft).map(Some).map_err(|error| Failure::NotSigned(error.to_string()))
}

fn retracted(trusted: &Trusted) -> Result<BTreeMap<Sha256, BTreeSet<u64>>, Failure> {
    let view = View::of(trusted).map_err(|error| Failure::NotSigned(error.to_string()))?;
    let mut retracted: BTreeMap<Sha256, BTreeSet<u64>> = BTreeMap::new();
    for tombstone in &view.tombstones {
        for content in &tombstone.content {
            retracted.entry(content.sha256).or_default().insert(tombstone.serial);
        }
    }
    Ok(retracted)
}

/// Hashes and cuts a file of the approver's own.
fn measure(path: &Path) -> Result<Measured, Failure> {
    let wrong = |error| Failure::path("read", path, error);
    let mut file = std::fs::File::open(path).map_err(wrong)?;
    let length = file.metadata().map_err(wrong)?.len();
    let mut cutter = Cutter::new(ChunkerParams::for_length(length));
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer).map_err(wrong)? {
            0 => break,
            count => cutter.push(&buffer[..count]),
        }
    }
    Ok(Measured { path: path.display().to_string(), cut: cutter.finish() })
}

impl Report for ProposalOutcome {
    fn text(&self, _now: Timestamp) -> String {
        let patches = self.patches.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let what = if patches.is_empty() { "nothing new".to_owned() } else { patches };
        match self.is_published {
            true => format!("ring {} version {} is served: {what}\n", self.ring, self.version),
            false => format!(
                "ring {} version {} has your signature and needs {} more: {what}\n",
                self.ring, self.version, self.missing
            ),
        }
    }
}
