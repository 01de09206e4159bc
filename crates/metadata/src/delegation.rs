//! Which names a delegation speaks for (specification 1.0.34, section 4.5).

use crate::envelope::RoleKeys;
use crate::json::sha256;
use crate::{RoleName, pattern};

/// The names that a delegation covers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Paths {
    /// `paths`.
    Patterns(Vec<String>),
    /// `path_hash_prefixes`, in lower case: beginnings of the hexadecimal SHA-256 of a name.
    HashPrefixes(Vec<String>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Delegation {
    pub(crate) name: RoleName,
    pub(crate) keys: RoleKeys,
    pub(crate) paths: Paths,
    /// Whether the search ends here for what it covers; always in our own repository.
    pub(crate) is_terminating: bool,
}

impl Delegation {
    pub(crate) fn covers(&self, target: &str) -> bool {
        match &self.paths {
            Paths::Patterns(patterns) => patterns.iter().any(|path| pattern::is_match(path, target)),
            Paths::HashPrefixes(prefixes) => {
                let hash = sha256(target.as_bytes()).to_hex();
                prefixes.iter().any(|prefix| hash.starts_with(prefix))
            }
        }
    }
}

/// `succinct_roles`: 2^bits roles of the same keys, each for the names whose hash begins with its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Succinct {
    pub(crate) keys: RoleKeys,
    /// 1 to 32.
    pub(crate) bits: u32,
    pub(crate) prefix: String,
}

impl Succinct {
    /// The role that speaks for `target`.
    pub(crate) fn role_of(&self, target: &str) -> RoleName {
        let hash = sha256(target.as_bytes());
        let first = <[u8; 4]>::try_from(&hash.as_bytes()[..4]).expect("a SHA-256 has 32 bytes");
        let bin = u32::from_be_bytes(first) >> (32 - self.bits);
        let name = format!("{}-{bin:0width$x}", self.prefix, width = self.suffix_digits());
        RoleName::foreign(&name).expect("the prefix is not empty")
    }

    /// Whether `role` is one of the bins.
    pub(crate) fn has(&self, role: &RoleName) -> bool {
        let suffix = role.as_str().strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('-'));
        let is_hex = |text: &&str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        suffix
            .filter(|text| text.len() == self.suffix_digits())
            .filter(is_hex)
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .is_some_and(|bin| bin >> self.bits == 0)
    }

    /// Hexadecimal digits of the highest bin's number.
    fn suffix_digits(&self) -> usize {
        (self.bits as usize).div_ceil(4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn bins(bits: u32) -> Succinct {
        Succinct { keys: RoleKeys { keys: BTreeMap::new(), threshold: 1 }, bits, prefix: "bin".into() }
    }

    #[test]
    fn a_bin_is_named_by_the_first_bits_of_the_names_hash() {
        // sha256("a") begins with ca978112.
        for (bits, expected) in [(1, "bin-1"), (4, "bin-c"), (5, "bin-19"), (8, "bin-ca"), (32, "bin-ca978112")] {
            let role = bins(bits).role_of("a");
            assert_eq!(role.as_str(), expected);
            assert!(bins(bits).has(&role));
        }
        for name in ["bin-2", "bin-01", "bin", "bin-", "bin-x", "other-1", "bin-+1", "bin-F"] {
            assert!(!bins(1).has(&RoleName::foreign(name).unwrap()), "{name}");
        }
        assert!(!bins(5).has(&RoleName::foreign("bin-20").unwrap()));
    }
}
