//! Decides whether a ring's indices must be made anew, and what the text is that must be signed then.

use crate::document::{AptDocument, Generation, IndexFile};
use crate::{COMPONENT, GENERATIONS_MAX, release, sha256, sha512, stanza};
use sluice_model::limits::DOCUMENT_BYTES_MAX;
use sluice_model::{ArtifactKind, ReleasedArtifact, RingName, TargetName, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Architectures that have an index even when nothing is listed for them, so that apt never misses one.
const ALWAYS: [&str; 3] = ["all", "amd64", "arm64"];
/// Signed anew after this part of the validity.
const RENEWED_AFTER: u32 = 4;
/// Longest architecture.
const ARCHITECTURE_CHARS_MAX: usize = 32;
/// `Date` counts seconds, and apt takes nothing that is not newer.
const STEP: Duration = Duration::from_secs(1);

/// One artifact of the ring.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// As the release role lists it.
    pub released: &'a ReleasedArtifact,
    /// The package's control file; `None` when nobody kept it.
    pub control: Option<&'a str>,
}

/// What the indices say besides the packages.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// `x-repo-id` of the repository.
    pub repo_id: &'a str,
    /// Which ring.
    pub ring: &'a RingName,
    /// The armored public key that will sign.
    pub key: &'a str,
    /// Now.
    pub now: Timestamp,
    /// From `Date` to `Valid-Until`.
    pub valid_for: Duration,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The document stands.
    Keep,
    /// Sign [`Planned::release`], and publish what [`Planned::signed`] gives.
    Sign(Box<Planned>),
}

/// A document that lacks the signatures of its newest generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    document: AptDocument,
    /// Artifacts that no index lists, and why.
    pub left_out: Vec<(TargetName, String)>,
}

/// Why there can be no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The newest generation alone is too large.
    #[error(
        "the index of ring {ring} would be {length} bytes and may be {DOCUMENT_BYTES_MAX}: let retention remove superseded patches, or split the ring"
    )]
    TooLarge {
        /// Which.
        ring: RingName,
        /// How long.
        length: u64,
    },
}

/// The next document of a ring after `before`. O(rows) and the size of their control files.
pub fn plan(before: Option<&AptDocument>, rows: &[Row<'_>], terms: &Terms<'_>) -> Plan {
    let (texts, left_out) = paragraphs(rows);
    let architectures = architectures(&texts);
    let contents: Vec<(String, Vec<&str>)> = architectures
        .iter()
        .map(|architecture| {
            let listed = texts.iter().filter(|(key, _)| key.2 == *architecture);
            let path = format!("{COMPONENT}/binary-{architecture}/Packages");
            (path, listed.map(|(_, paragraph)| paragraph.text.as_str()).collect())
        })
        .collect();
    let newest = before.and_then(AptDocument::newest);
    let same_key = before.is_some_and(|before| before.key == terms.key);
    let is_same = newest.is_some_and(|newest| is_same(newest, &contents));
    if let Some(newest) = newest.filter(|_| is_same && same_key)
        && !is_due(newest, terms)
    {
        return Plan::Keep;
    }
    let signed_at = newest.map_or(terms.now, |newest| terms.now.max(newest.signed_at.plus(STEP)));
    let mut pool = Pool::default();
    let files: Vec<IndexFile> = contents.iter().map(|(path, texts)| pool.file(path, texts)).collect();
    let first = Generation {
        number: newest.map_or(1, |newest| newest.number + u64::from(!is_same)),
        made_at: newest.filter(|_| is_same).map_or(signed_at, |newest| newest.made_at),
        signed_at,
        valid_until: signed_at.plus(terms.valid_for),
        release: release::text(
            (terms.repo_id, terms.ring),
            (signed_at, signed_at.plus(terms.valid_for)),
            &architectures,
            &files,
        ),
        in_release: String::new(),
        release_gpg: String::new(),
        files,
    };
    let mut generations = vec![first];
    if let Some(before) = before {
        let older = before.generations.iter().skip(usize::from(is_same)).take(GENERATIONS_MAX - 1);
        generations.extend(older.map(|generation| pool.take_over(before, generation)));
    }
    let document = AptDocument {
        schema: 1,
        ring: terms.ring.clone(),
        key: terms.key.to_owned(),
        stanzas: pool.stanzas,
        generations,
    };
    Plan::Sign(Box::new(Planned { document, left_out }))
}

impl Planned {
    /// The text to sign.
    pub fn release(&self) -> &str {
        self.document.newest().map_or("", |newest| &newest.release)
    }

    /// When: the time of the signatures.
    pub fn signed_at(&self) -> Timestamp {
        self.document.newest().map(|newest| newest.signed_at).unwrap_or_default()
    }

    /// The whole document. Older generations are dropped when it would be too large with them.
    pub fn signed(mut self, in_release: String, release_gpg: String) -> Result<AptDocument, PlanError> {
        if let Some(newest) = self.document.generations.first_mut() {
            newest.in_release = in_release;
            newest.release_gpg = release_gpg;
        }
        loop {
            let length = serde_json::to_vec(&self.document).map_or(u64::MAX, |bytes| bytes.len() as u64);
            if length <= DOCUMENT_BYTES_MAX {
                return Ok(self.document);
            }
            if self.document.generations.len() <= 1 {
                return Err(PlanError::TooLarge { ring: self.document.ring, length });
            }
            self.document.generations.pop();
            self.document = compacted(&self.document);
        }
    }
}

/// The document without stanzas that no generation lists.
fn compacted(document: &AptDocument) -> AptDocument {
    let mut pool = Pool::default();
    let generations = document.generations.iter().map(|generation| pool.take_over(document, generation)).collect();
    AptDocument { stanzas: pool.stanzas, generations, ..document.clone() }
}

struct Paragraph {
    text: String,
    approved_serial: u64,
}

/// Package, version, architecture.
type Key = (String, String, String);

/// The paragraphs in the order of the indices. Of two contents under one package, version and architecture, apt could take
/// only one: the one that was approved last is listed.
fn paragraphs(rows: &[Row<'_>]) -> (BTreeMap<Key, Paragraph>, Vec<(TargetName, String)>) {
    let mut found: BTreeMap<Key, Paragraph> = BTreeMap::new();
    let mut left_out = Vec::new();
    for row in rows {
        let ArtifactKind::Deb(fields) = &row.released.custom.artifact;
        let mut leave = |reason: String| left_out.push((row.released.target.clone(), reason));
        if !is_architecture(&fields.architecture) {
            leave("its architecture is not a plain word".into());
            continue;
        }
        let Some(control) = row.control else {
            leave("its control file is not known: publish it again".into());
            continue;
        };
        let text = match stanza::stanza(row.released, control) {
            Ok(text) => text,
            Err(error) => {
                leave(error.to_string());
                continue;
            }
        };
        let key = (fields.package.to_string(), fields.version.clone(), fields.architecture.clone());
        let approved_serial = row.released.custom.approved_serial;
        if found.get(&key).is_none_or(|known| known.approved_serial < approved_serial) {
            found.insert(key, Paragraph { text, approved_serial });
        }
    }
    (found, left_out)
}

fn is_architecture(text: &str) -> bool {
    (1..=ARCHITECTURE_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn architectures(texts: &BTreeMap<Key, Paragraph>) -> Vec<String> {
    let mut all: Vec<String> = ALWAYS.iter().map(|name| (*name).to_owned()).collect();
    all.extend(texts.keys().map(|(_, _, architecture)| architecture.clone()));
    all.sort();
    all.dedup();
    all
}

fn is_same(newest: &Generation, contents: &[(String, Vec<&str>)]) -> bool {
    let hash = |texts: &[&str]| sha256(texts.concat().as_bytes());
    newest.files.len() == contents.len()
        && newest.files.iter().zip(contents).all(|(file, (path, texts))| {
            file.path == *path && file.stanzas.len() == texts.len() && file.sha256 == hash(texts)
        })
}

fn is_due(newest: &Generation, terms: &Terms<'_>) -> bool {
    let is_old = terms.now.since(newest.signed_at) >= terms.valid_for / RENEWED_AFTER;
    is_old || newest.valid_until != newest.signed_at.plus(terms.valid_for)
}

/// Every stanza once.
#[derive(Default)]
struct Pool {
    stanzas: Vec<String>,
    places: HashMap<String, u32>,
}

impl Pool {
    fn place(&mut self, text: &str) -> u32 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = u32::try_from(self.stanzas.len()).expect("a document of 8 MiB has fewer stanzas");
        self.stanzas.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }

    fn file(&mut self, path: &str, texts: &[&str]) -> IndexFile {
        let bytes = texts.concat().into_bytes();
        IndexFile {
            path: path.to_owned(),
            stanzas: texts.iter().map(|text| self.place(text)).collect(),
            length: bytes.len() as u64,
            sha256: sha256(&bytes),
            sha512: sha512(&bytes),
        }
    }

    fn take_over(&mut self, from: &AptDocument, generation: &Generation) -> Generation {
        let mut generation = generation.clone();
        for file in &mut generation.files {
            let texts = file.stanzas.iter().filter_map(|place| from.stanzas.get(*place as usize));
            file.stanzas = texts.map(|text| self.place(text)).collect();
        }
        generation
    }
}
