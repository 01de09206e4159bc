//! Our tree and proofs against two others: the recursions of RFC 6962 as they stand in its text, and the crate
//! `ct-merkle`.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::{Digest, Sha256 as Sha2};
use sluice_audit::{
    NodeAt, Peaks, append, consistency_proof, inclusion_proof, leaf_hash, root, verify_consistency, verify_inclusion,
};
use sluice_model::{LogHead, Sha256};
use std::collections::BTreeMap;
use std::convert::Infallible;

/// RFC 6962, section 2.1, word for word.
mod rfc {
    use super::{Digest, Sha2};

    pub type Hash = [u8; 32];

    pub fn mth(d: &[Vec<u8>]) -> Hash {
        match d.len() {
            0 => Sha2::digest([]).into(),
            1 => Sha2::new().chain_update([0]).chain_update(&d[0]).finalize().into(),
            n => {
                let k = largest_power_of_two_below(n);
                Sha2::new().chain_update([1]).chain_update(mth(&d[..k])).chain_update(mth(&d[k..])).finalize().into()
            }
        }
    }

    pub fn path(m: usize, d: &[Vec<u8>]) -> Vec<Hash> {
        if d.len() == 1 {
            return Vec::new();
        }
        let k = largest_power_of_two_below(d.len());
        if m < k {
            [path(m, &d[..k]), vec![mth(&d[k..])]].concat()
        } else {
            [path(m - k, &d[k..]), vec![mth(&d[..k])]].concat()
        }
    }

    pub fn proof(m: usize, d: &[Vec<u8>]) -> Vec<Hash> {
        subproof(m, d, true)
    }

    fn subproof(m: usize, d: &[Vec<u8>], b: bool) -> Vec<Hash> {
        let n = d.len();
        if m == n {
            return if b { Vec::new() } else { vec![mth(d)] };
        }
        let k = largest_power_of_two_below(n);
        if m <= k {
            [subproof(m, &d[..k], b), vec![mth(&d[k..])]].concat()
        } else {
            [subproof(m - k, &d[k..], false), vec![mth(&d[..k])]].concat()
        }
    }

    fn largest_power_of_two_below(n: usize) -> usize {
        let mut k = 1;
        while k * 2 < n {
            k *= 2;
        }
        k
    }
}

#[derive(Default)]
struct Nodes {
    stored: BTreeMap<u64, Sha256>,
    size: u64,
    reads: usize,
}

impl Nodes {
    fn push(&mut self, leaf: &[u8]) {
        let stored = &self.stored;
        let new = append(self.size, leaf_hash(leaf), |at: NodeAt| Ok::<_, Infallible>(stored[&at.key()])).unwrap();
        for (at, hash) in new {
            assert_eq!(self.stored.insert(at.key(), hash), None, "a node was written twice");
        }
        self.size += 1;
    }

    fn head(&mut self, size: u64) -> LogHead {
        let root = root(size, |at| self.read(at)).unwrap();
        LogHead { size, root }
    }

    fn read(&mut self, at: NodeAt) -> Result<Sha256, Infallible> {
        self.reads += 1;
        Ok(self.stored[&at.key()])
    }
}

fn leaves(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|at| format!("entry {at}").into_bytes()).collect()
}

fn ours(hashes: &[[u8; 32]]) -> Vec<Sha256> {
    hashes.iter().map(|hash| Sha256::from_bytes(*hash)).collect()
}

const LEAVES: usize = 70;

#[test]
fn every_root_and_proof_up_to_seventy_leaves_is_that_of_the_rfc() {
    let leaves = leaves(LEAVES);
    let (mut nodes, mut peaks) = (Nodes::default(), Peaks::default());
    for to in 0..=LEAVES {
        let head = nodes.head(to as u64);
        assert_eq!(head.root.as_bytes(), &rfc::mth(&leaves[..to]), "{to} leaves");
        assert_eq!((peaks.size(), peaks.root()), (head.size, head.root));
        for at in 0..to {
            let path = inclusion_proof(at as u64, to as u64, |at| nodes.read(at)).unwrap();
            assert_eq!(path, ours(&rfc::path(at, &leaves[..to])), "{at} of {to}");
            verify_inclusion(&leaf_hash(&leaves[at]), at as u64, &head, &path).unwrap();
        }
        for from in 1..=to {
            let proof = consistency_proof(from as u64, to as u64, |at| nodes.read(at)).unwrap();
            assert_eq!(proof, ours(&rfc::proof(from, &leaves[..to])), "{from} to {to}");
            let before = nodes.head(from as u64);
            verify_consistency(&before, &head, &proof).unwrap();
        }
        if to < LEAVES {
            nodes.push(&leaves[to]);
            peaks.push(leaf_hash(&leaves[to]));
        }
    }
}

#[test]
fn another_library_believes_our_proofs_and_we_believe_its() {
    let leaves = leaves(LEAVES);
    let mut theirs = MemoryBackedTree::<Sha2, Vec<u8>>::new();
    let mut nodes = Nodes::default();
    let mut roots = Vec::new();
    for (count, leaf) in leaves.iter().enumerate() {
        theirs.push(leaf.clone());
        nodes.push(leaf);
        let their_root = theirs.root();
        let head = nodes.head(count as u64 + 1);
        assert_eq!(their_root.as_bytes()[..], head.root.as_bytes()[..]);
        for (at, leaf) in leaves.iter().enumerate().take(count + 1) {
            let proof = theirs.prove_inclusion(at);
            let hashes: Vec<[u8; 32]> = proof.as_bytes().chunks(32).map(|hash| hash.try_into().unwrap()).collect();
            verify_inclusion(&leaf_hash(leaf), at as u64, &head, &ours(&hashes)).unwrap();
        }
        for (from, before) in roots.iter().enumerate() {
            let from = from as u64 + 1;
            let proof = consistency_proof(from, head.size, |at| nodes.read(at)).unwrap();
            let bytes: Vec<u8> = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
            let proof = ct_merkle::ConsistencyProof::<Sha2>::try_from_bytes(bytes).unwrap();
            their_root.verify_consistency(before, &proof).unwrap();
        }
        roots.push(their_root);
    }
}

#[test]
fn no_proof_convinces_of_anything_else() {
    let leaves = leaves(33);
    let mut nodes = Nodes::default();
    leaves.iter().for_each(|leaf| nodes.push(leaf));
    let heads: Vec<LogHead> = (0..=33).map(|size| nodes.head(size)).collect();
    for to in 1..=33_usize {
        for from in 1..to {
            let proof = consistency_proof(from as u64, to as u64, |at| nodes.read(at)).unwrap();
            let believed = |from: &LogHead, to: &LogHead, proof: &[Sha256]| verify_consistency(from, to, proof).is_ok();
            assert!(believed(&heads[from], &heads[to], &proof));
            for at in 0..proof.len() {
                let mut changed = proof.clone();
                let mut bytes = *changed[at].as_bytes();
                bytes[at % 32] ^= 1;
                changed[at] = Sha256::from_bytes(bytes);
                assert!(!believed(&heads[from], &heads[to], &changed), "{from} to {to}, hash {at}");
                let mut shorter = proof.clone();
                shorter.remove(at);
                assert!(!believed(&heads[from], &heads[to], &shorter), "{from} to {to} without hash {at}");
            }
            let longer = [proof.clone(), vec![heads[from].root]].concat();
            assert!(!believed(&heads[from], &heads[to], &longer));
            assert!(!believed(&LogHead { root: heads[to].root, ..heads[from] }, &heads[to], &proof));
            assert!(!believed(&heads[from], &LogHead { root: heads[from].root, ..heads[to] }, &proof));
            assert!(!believed(&heads[to], &heads[from], &proof), "a log that shrank");
        }
    }
    let forked = LogHead { root: heads[4].root, size: 5 };
    assert!(verify_consistency(&heads[5], &forked, &[]).is_err());
    let path = inclusion_proof(3, 33, |at| nodes.read(at)).unwrap();
    assert!(verify_inclusion(&leaf_hash(&leaves[3]), 3, &heads[33], &path).is_ok());
    assert!(verify_inclusion(&leaf_hash(&leaves[4]), 3, &heads[33], &path).is_err());
    assert!(verify_inclusion(&leaf_hash(&leaves[3]), 4, &heads[33], &path).is_err());
    assert!(verify_inclusion(&leaf_hash(&leaves[3]), 3, &heads[32], &path).is_err());
    assert!(verify_inclusion(&leaf_hash(&leaves[3]), 33, &heads[33], &path).is_err());
}

#[test]
fn appending_and_proving_reads_a_logarithm_of_the_log() {
    let mut nodes = Nodes::default();
    for at in 0..100_000_u32 {
        nodes.push(&at.to_be_bytes());
    }
    assert!(nodes.stored.len() < 200_000);
    for (from, to) in [(1, 100_000), (65_537, 99_999), (99_999, 100_000), (12_345, 67_890)] {
        nodes.reads = 0;
        consistency_proof(from, to, |at| nodes.read(at)).unwrap();
        assert!(nodes.reads <= 2 * 17, "{from} to {to}: {} reads", nodes.reads);
        nodes.reads = 0;
        inclusion_proof(from, to, |at| nodes.read(at)).unwrap();
        assert!(nodes.reads <= 2 * 17, "{from} of {to}: {} reads", nodes.reads);
    }
}
