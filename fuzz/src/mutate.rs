//! Changes inputs: bytes and bits, blocks, numbers, and pieces of other inputs.

/// Longest input: longer than a gossip message, so that bounds are crossed.
const INPUT_BYTES_MAX: usize = 80 << 10;
/// Changes made to one input at most.
const CHANGES_MAX: u64 = 6;

/// Numbers at which parsers go wrong.
const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "-1",
    "24",
    "32",
    "255",
    "65536",
    "4294967295",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "18446744073709551616",
    "1.0",
    "1e400",
];
/// Pieces of JSON, of our names and of what attackers like.
const PIECES: [&str; 26] = [
    "{}",
    "[]",
    "null",
    "true",
    "\"\"",
    "\"x\":",
    ",",
    ":",
    "\\u0000",
    "\\ud800",
    "\u{1F980}",
    "..",
    "/",
    "//",
    "\\",
    "\"",
    "{\"a\":1,\"a\":2}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[",
    "\"keyid\":\"\"",
    "\"threshold\":0",
    "\"terminating\":false",
    "\"version\":1",
    "patches/production/../x",
    "CON",
    "2026-13-40T25:61:61Z",
    "\n",
];

/// A small generator of chances (SplitMix64): equal seeds give equal runs.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    /// An index into something of that length.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }
}

/// A changed copy of `input`, with pieces of `other`.
pub fn mutate(input: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=chance.below(CHANGES_MAX) {
        change(&mut bytes, other, chance);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    let at = chance.index(bytes.len() + 1);
    match chance.below(9) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << chance.below(8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'9'][chance.index(8)];
            }
        }
        2 => insert(bytes, at, PIECES[chance.index(PIECES.len())].as_bytes()),
        3 => {
            let end = (at + 1 + chance.index(24)).min(bytes.len());
            bytes.drain(at.min(end)..end);
        }
        4 => {
            let end = (at + 1 + chance.index(200)).min(bytes.len());
            let block = bytes[at.min(end)..end].to_vec();
            let to = chance.index(bytes.len() + 1);
            insert(bytes, to, &block);
        }
        5 | 6 => replace_number(bytes, chance),
        7 => {
            let from = chance.index(other.len());
            let end = (from + 1 + chance.index(200)).min(other.len());
            let block = other[from.min(end)..end].to_vec();
            insert(bytes, at, &block);
        }
        _ => bytes.truncate(at),
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let at = at.min(bytes.len());
    bytes.splice(at..at, piece.iter().copied());
}

/// Another number in the place of a run of digits; of four bytes where there are none.
fn replace_number(bytes: &mut Vec<u8>, chance: &mut Chance) {
    let start = chance.index(bytes.len());
    let Some(from) = bytes[start.min(bytes.len())..].iter().position(u8::is_ascii_digit).map(|at| at + start) else {
        let value = [0u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX][chance.index(5)];
        for (byte, new) in bytes.iter_mut().skip(start).zip(value.to_be_bytes()) {
            *byte = new;
        }
        return;
    };
    let end = bytes[from..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |at| at + from);
    let number = NUMBERS[chance.index(NUMBERS.len())];
    bytes.splice(from..end, number.bytes());
}
