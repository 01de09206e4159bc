//! The tree of RFC 6962, section 2.1, over nodes that somebody else stores.
//!
//! Stored are the hashes of whole subtrees only: node (level, index) stands over the leaves `index << level` up to
//! `(index + 1) << level`. They never change once written; everything else is computed from them.

use ring::digest::{Context, SHA256};
use sluice_model::Sha256;

/// Where a node stands: over `2^level` leaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodeAt {
    /// 0 is a leaf.
    pub level: u8,
    /// From 0, among those of its level.
    pub index: u64,
}

/// Bits of [`NodeAt::key`] that hold the index; 2^56 leaves will not be written.
const INDEX_BITS: u32 = 56;

impl NodeAt {
    /// A number for each position, to store the node under.
    pub fn key(self) -> u64 {
        u64::from(self.level) << INDEX_BITS | self.index
    }
}

/// Hash of a leaf: SHA-256 of `0x00` and its bytes.
pub fn leaf_hash(leaf: &[u8]) -> Sha256 {
    digest(&[&[0], leaf])
}

/// SHA-256 of a file, without any mark.
pub fn sha256(bytes: &[u8]) -> Sha256 {
    digest(&[bytes])
}

/// Hash of an inner node: SHA-256 of `0x01` and its children.
pub(crate) fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    digest(&[&[1], left.as_bytes(), right.as_bytes()])
}

fn digest(parts: &[&[u8]]) -> Sha256 {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Sha256::from_bytes(bytes)
}

/// The nodes to be stored when a leaf with `hash` is added to a tree of `size`: itself, and every subtree that becomes
/// whole. `read` gives a stored node. Reads and writes at most 56, two on average.
pub fn append<E>(
    size: u64,
    hash: Sha256,
    mut read: impl FnMut(NodeAt) -> Result<Sha256, E>,
) -> Result<Vec<(NodeAt, Sha256)>, E> {
    let mut at = NodeAt { level: 0, index: size };
    let mut new = vec![(at, hash)];
    let mut hash = hash;
    while at.index % 2 == 1 {
        let left = read(NodeAt { level: at.level, index: at.index - 1 })?;
        hash = node_hash(&left, &hash);
        at = NodeAt { level: at.level + 1, index: at.index / 2 };
        new.push((at, hash));
    }
    Ok(new)
}

/// Root of the first `size` leaves. Reads as many nodes as `size` has ones in binary.
pub fn root<E>(size: u64, mut read: impl FnMut(NodeAt) -> Result<Sha256, E>) -> Result<Sha256, E> {
    if size == 0 {
        return Ok(digest(&[]));
    }
    subtree(0, size, &mut read)
}

/// Root of the leaves from `begin` to `end`; `begin` is a multiple of the largest power of two below their number, as
/// it always is in the recursions of the RFC.
fn subtree<E>(begin: u64, end: u64, read: &mut impl FnMut(NodeAt) -> Result<Sha256, E>) -> Result<Sha256, E> {
    let count = end - begin;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return read(NodeAt { level: level as u8, index: begin >> level });
    }
    let middle = begin + split(count);
    let left = subtree(begin, middle, read)?;
    let right = subtree(middle, end, read)?;
    Ok(node_hash(&left, &right))
}

/// The largest power of two below `count`, which is at least 2.
pub(crate) fn split(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// The path from leaf `index` to the root of `size` leaves (RFC 6962, section 2.1.1). `index` is below `size`.
pub fn inclusion_proof<E>(
    index: u64,
    size: u64,
    mut read: impl FnMut(NodeAt) -> Result<Sha256, E>,
) -> Result<Vec<Sha256>, E> {
    let mut path = Vec::new();
    let (mut begin, mut end) = (0, size);
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            path.push(subtree(middle, end, &mut read)?);
            end = middle;
        } else {
            path.push(subtree(begin, middle, &mut read)?);
            begin = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// What shows that the tree of `to` leaves begins with that of `from` leaves (RFC 6962, section 2.1.2). Empty when they
/// are equal or `from` is 0; `from` is at most `to`.
pub fn consistency_proof<E>(
    from: u64,
    to: u64,
    mut read: impl FnMut(NodeAt) -> Result<Sha256, E>,
) -> Result<Vec<Sha256>, E> {
    if from == 0 || from == to {
        return Ok(Vec::new());
    }
    let mut proof = Vec::new();
    let (mut begin, mut end) = (0, to);
    // While `from` lies inside, one side of the split belongs to both trees or to neither.
    let mut is_whole = true;
    while from < end {
        let middle = begin + split(end - begin);
        if from <= middle {
            proof.push(subtree(middle, end, &mut read)?);
            end = middle;
        } else {
            proof.push(subtree(begin, middle, &mut read)?);
            begin = middle;
            is_whole = false;
        }
    }
    if !is_whole {
        proof.push(subtree(begin, end, &mut read)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The right edge of a tree whose leaves come one after the other: its root at any moment, in memory for at most 64
/// hashes.
#[derive(Clone, Debug, Default)]
pub struct Peaks {
    size: u64,
    /// Hashes of whole subtrees, the largest first: one for each binary one of `size`.
    peaks: Vec<Sha256>,
}

impl Peaks {
    /// Adds the next leaf.
    pub fn push(&mut self, mut hash: Sha256) {
        let mut left = self.size;
        while left % 2 == 1 {
            let peak = self.peaks.pop().expect("a peak for each binary one of the size");
            hash = node_hash(&peak, &hash);
            left /= 2;
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// How many leaves there were.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root over them.
    pub fn root(&self) -> Sha256 {
        let mut peaks = self.peaks.iter().rev().copied();
        let last = peaks.next().unwrap_or_else(|| digest(&[]));
        peaks.fold(last, |right, left| node_hash(&left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_the_published_roots() {
        // Test vectors of the reference implementation of Certificate Transparency.
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut peaks = Peaks::default();
        for (size, root) in roots.iter().enumerate() {
            assert_eq!(peaks.root().to_hex(), *root, "{size} leaves");
            peaks.push(leaf_hash(leaves.get(size).copied().unwrap_or_default()));
        }
    }

    #[test]
    fn two_positions_never_share_a_key() {
        let keys = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)].map(|(level, index)| NodeAt { level, index }.key());
        assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), keys.len());
    }
}
