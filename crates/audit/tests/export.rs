//! An exported log, and every small lie about it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use sluice_audit::{
    Act, Anchor, Checker, Entry, Event, Fault, NodeAt, SignedFile, Verdict, What, append, begin_line, head_line,
    leaf_hash, leaf_line, root, root_line, sha256,
};
use sluice_metadata::{InitParams, Keyring, Publication, RepositoryProfile, Signer, Writer, dev_roles};
use sluice_model::{LogHead, RingName, Sha256, Timestamp};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A server as far as its log goes.
struct Server {
    keyring: Keyring,
    writer: Writer,
    now: Timestamp,
    nodes: BTreeMap<u64, Sha256>,
    leaves: Vec<Vec<u8>>,
    roots: Vec<Vec<u8>>,
    /// Size -> signed timestamp.
    heads: Vec<(u64, Vec<u8>)>,
}

impl Server {
    fn new(seed: u8) -> Self {
        let rings: Vec<RingName> = vec!["pilot".parse().unwrap()];
        let mut keyring = Keyring::default();
        for (idx, role) in (0..).zip(dev_roles(&rings)) {
            keyring.insert(role, Signer::from_seed([seed + idx; 32]));
        }
        let now = Timestamp::from_millis(1_700_000_000_000);
        let params = InitParams { repo_id: "demo".into(), profile: RepositoryProfile::Dev, rings, now, lease: LEASE };
        let (writer, publication) = Writer::init(params, &keyring).unwrap();
        let mut server = Self {
            keyring,
            writer,
            now,
            nodes: BTreeMap::new(),
            leaves: Vec::new(),
            roots: Vec::new(),
            heads: Vec::new(),
        };
        server.keep(&publication);
        server
    }

    fn keep(&mut self, publication: &Publication) {
        for (name, bytes) in &publication.files {
            if name.ends_with(".root.json") {
                self.roots.push(bytes.clone());
            }
            let file = SignedFile { file: name.clone(), length: bytes.len() as u64, sha256: sha256(bytes) };
            self.write(Event::Signed(file));
        }
    }

    fn write(&mut self, event: Event) {
        let size = self.leaves.len() as u64;
        let leaf = Entry { seq: size + 1, at: self.now, event }.to_leaf();
        let nodes = &self.nodes;
        let new = append(size, leaf_hash(&leaf), |at: NodeAt| Ok::<_, Infallible>(nodes[&at.key()])).unwrap();
        self.nodes.extend(new.into_iter().map(|(at, hash)| (at.key(), hash)));
        self.leaves.push(leaf);
    }

    fn act(&mut self, subject: &str) {
        let (who, action, subject) = ("anna".to_owned(), "patch.approve".to_owned(), subject.to_owned());
        self.write(Event::Act(Act { who, action, subject, done: true, detail: "into ring pilot".into() }));
    }

    fn head(&self) -> LogHead {
        let size = self.leaves.len() as u64;
        LogHead { size, root: root(size, |at| Ok::<_, Infallible>(self.nodes[&at.key()])).unwrap() }
    }

    fn sign_after(&mut self, pause: Duration) {
        self.now = self.now.plus(pause);
        let head = self.head();
        self.writer.set_log_head(head);
        let publication = self.writer.commit(&self.keyring, self.now, LEASE).unwrap();
        let timestamp = &publication.files.last().unwrap().1;
        self.heads.push((head.size, timestamp.clone()));
        self.keep(&publication);
    }

    /// What the server would send, line by line.
    fn export(&self) -> Vec<Vec<u8>> {
        let size = self.heads.last().unwrap().0;
        let mut lines = vec![begin_line("demo", size)];
        let number = |lines: &Vec<Vec<u8>>| lines.len() as u64 + 1;
        for root in &self.roots {
            lines.push(root_line(number(&lines), root));
        }
        for (at, leaf) in (1..=size).zip(&self.leaves) {
            lines.push(leaf_line(number(&lines), leaf));
            for (_, timestamp) in self.heads.iter().filter(|(size, _)| *size == at) {
                lines.push(head_line(number(&lines), timestamp));
            }
        }
        lines
    }

    fn anchor(&self) -> Anchor {
        Anchor::Root(self.roots[0].clone())
    }
}

/// A log with two roots, three heads, acts and signed files.
fn server() -> Server {
    let mut server = Server::new(1);
    server.act("demo/1");
    server.act("demo/2");
    server.sign_after(Duration::from_secs(60));
    server.act("demo/3");
    server.sign_after(DAY * 300);
    server.act("demo/4");
    server.sign_after(Duration::from_secs(60));
    assert_eq!((server.roots.len(), server.heads.len()), (2, 3));
    server
}

fn check(anchor: Anchor, seen: Vec<LogHead>, file: &[u8]) -> Result<Verdict, Fault> {
    let mut checker = Checker::new(anchor, seen);
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        checker.push(line)?;
    }
    checker.finish()
}

/// The number of the line that byte `at` belongs to.
fn line_of(file: &[u8], at: usize) -> u64 {
    1 + file[..at].iter().filter(|byte| **byte == b'\n').count() as u64
}

#[test]
fn a_log_as_it_was_signed_is_believed_by_each_kind_of_anchor_and_no_other() {
    let server = server();
    let file = server.export().concat();
    let key = server.keyring.signers(&"timestamp".parse().unwrap())[0].public_key();
    for anchor in [
        server.anchor(),
        Anchor::TimestampKey(key),
        Anchor::Root(server.roots[1].clone()),
        Anchor::RootHash(sha256(&server.roots[0])),
    ] {
        let verdict = check(anchor, Vec::new(), &file).unwrap();
        assert_eq!((verdict.repository.as_str(), verdict.heads, verdict.root_version), ("demo", 3, 2));
        assert_eq!(verdict.last.head.size, server.heads[2].0);
        assert_eq!(verdict.last.issued_at, server.now);
    }
    let other = Server::new(100);
    let fault = check(other.anchor(), Vec::new(), &file).unwrap_err();
    assert_eq!(fault, Fault { line: 4, what: What::OtherRoot });
    check(Anchor::RootHash(Sha256::from_bytes([7; 32])), Vec::new(), &file).unwrap_err();
    let fault = check(Anchor::TimestampKey([7; 32]), Vec::new(), &file).unwrap_err();
    assert!(matches!(fault.what, What::BadHead(_)), "{fault}");
}

/// Every run flips each byte once, the full tier to each other value.
#[test]
fn every_changed_byte_is_found_in_its_own_line() {
    let server = server();
    let file = server.export().concat();
    let is_full = std::env::var_os("SLUICE_TEST_FULL").is_some();
    let mut tried = 0;
    for at in 0..file.len() {
        let masks: Vec<u8> = if is_full { (1..=255).collect() } else { vec![[1, 0x20, 0x80, 0x10][at % 4]] };
        for mask in masks {
            let mut changed = file.clone();
            changed[at] ^= mask;
            let fault = check(server.anchor(), Vec::new(), &changed).expect_err("a changed byte was believed");
            assert_eq!(fault.line, line_of(&file, at), "byte {at}, mask {mask}: {fault}");
            tried += 1;
        }
    }
    println!("{tried} changed bytes of {} found and located", file.len());
}

#[test]
fn every_removed_doubled_or_inserted_byte_is_found_in_its_own_line() {
    let server = server();
    let file = server.export().concat();
    for at in 0..file.len() {
        let line = line_of(&file, at);
        let mut shorter = file.clone();
        shorter.remove(at);
        let fault = check(server.anchor(), Vec::new(), &shorter).expect_err("a removed byte was not missed");
        assert_eq!(fault.line, line, "byte {at} removed: {fault}");
        let mut longer = file.clone();
        longer.insert(at, b'\n');
        let fault = check(server.anchor(), Vec::new(), &longer).expect_err("an inserted byte was believed");
        // Before a newline it makes an empty line of its own.
        let made = line + u64::from(file[at] == b'\n');
        assert_eq!(fault.line, made, "newline before byte {at}: {fault}");
        let fault = check(server.anchor(), Vec::new(), &file[..at]).expect_err("a shortened file was believed");
        assert!(fault.line <= line.max(1), "cut at {at}: {fault}");
    }
}

#[test]
fn every_removed_doubled_or_swapped_line_is_found_where_it_happened() {
    let server = server();
    let lines = server.export();
    for at in 0..lines.len() {
        let mut removed = lines.clone();
        removed.remove(at);
        let fault = check(server.anchor(), Vec::new(), &removed.concat()).expect_err("a removed line was not missed");
        assert_eq!(fault.line, at as u64 + 1, "line {} removed: {fault}", at + 1);
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at].clone());
        let fault = check(server.anchor(), Vec::new(), &doubled.concat()).expect_err("a doubled line was believed");
        assert_eq!(fault.line, at as u64 + 2, "line {} doubled: {fault}", at + 1);
        for other in at + 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(at, other);
            let fault = check(server.anchor(), Vec::new(), &swapped.concat()).expect_err("swapped lines were believed");
            assert_eq!(fault.line, at as u64 + 1, "lines {} and {} swapped: {fault}", at + 1, other + 1);
        }
    }
}

/// A forger who makes hashes and numbers right again, without the timestamp's key.
#[test]
fn an_entry_rewritten_together_with_its_hash_is_located_between_two_signed_heads() {
    let honest = server();
    let lines = honest.export();
    let kind = |line: &[u8]| String::from_utf8_lossy(line).split(' ').nth(2).unwrap_or_default().to_owned();
    let heads: Vec<usize> = (0..lines.len()).filter(|at| kind(&lines[*at]) == "head").collect();
    for at in (0..lines.len()).filter(|at| kind(&lines[*at]) == "leaf") {
        let leaf = lines[at].splitn(4, |byte| *byte == b' ').nth(3).unwrap().strip_suffix(b"\n").unwrap();
        let forged = String::from_utf8(leaf.to_vec()).unwrap().replace("\"at\":1", "\"at\":2");
        let mut rewritten = lines.clone();
        rewritten[at] = leaf_line(at as u64 + 1, forged.as_bytes());
        let fault = check(honest.anchor(), Vec::new(), &rewritten.concat()).unwrap_err();
        let next = *heads.iter().find(|head| **head > at).unwrap();
        let since = heads.iter().rev().find(|head| **head < at).map_or(3, |head| *head as u64 + 1);
        assert_eq!(fault, Fault { line: next as u64 + 1, what: What::Rewritten { since } }, "entry at line {}", at + 1);
    }
}

#[test]
fn a_log_cut_at_an_older_head_is_refused_and_named_to_whom_saw_a_newer_one() {
    let server = server();
    let lines = server.export();
    let before_last = server.heads[1].0;
    let end =
        1 + lines.iter().position(|line| line.ends_with(head_line(0, &server.heads[1].1).split_at(68).1)).unwrap();
    let cut = &lines[..end];
    let fault = check(server.anchor(), Vec::new(), &cut.concat()).unwrap_err();
    assert!(matches!(fault.what, What::Ended { found, .. } if found == before_last), "{fault}");
    // The server itself cuts: everything fits together, and only a witness can tell.
    let shorter = [vec![begin_line("demo", before_last)], cut[1..].to_vec()].concat().concat();
    check(server.anchor(), Vec::new(), &shorter).unwrap();
    let size = server.heads[2].0;
    let seen =
        |size: u64| root(size, |at| Ok::<_, Infallible>(server.nodes[&at.key()])).map(|root| LogHead { size, root });
    let fault = check(server.anchor(), vec![seen(size).unwrap()], &shorter).unwrap_err();
    assert_eq!(fault.what, What::NotAsSeen { size });
    let witnessed = vec![seen(size).unwrap(), seen(3).unwrap()];
    check(server.anchor(), witnessed, &lines.concat()).unwrap();
    let forked = LogHead { size: 3, root: Sha256::from_bytes([9; 32]) };
    let fault = check(server.anchor(), vec![forked], &lines.concat()).unwrap_err();
    assert_eq!(fault, Fault { line: 6, what: What::NotAsSeen { size: 3 } });
}

#[test]
fn a_head_of_another_repository_or_of_a_time_before_counts_for_nothing() {
    let server = server();
    let stranger = self::server_with_seed(50);
    let mut lines = server.export();
    let last = lines.len();
    lines[last - 1] = head_line(last as u64, &stranger.heads[2].1);
    let fault = check(server.anchor(), Vec::new(), &lines.concat()).unwrap_err();
    assert!(matches!((fault.line, &fault.what), (line, What::BadHead(_)) if line == last as u64), "{fault}");
    lines[last - 1] = head_line(last as u64, &server.heads[1].1);
    let fault = check(server.anchor(), Vec::new(), &lines.concat()).unwrap_err();
    assert!(matches!(fault.what, What::OtherSize { .. }), "{fault}");
}

fn server_with_seed(seed: u8) -> Server {
    let mut server = Server::new(seed);
    server.act("demo/1");
    server.sign_after(Duration::from_secs(60));
    server.sign_after(Duration::from_secs(60));
    server.sign_after(Duration::from_secs(60));
    server
}
