//! Names that people give, and the names of signed targets. Each is checked where it enters.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a text is not a name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}: {rule}")]
pub struct NameError {
    /// What was being named, for instance `site name`.
    pub kind: &'static str,
    /// The rule in words.
    pub rule: &'static str,
    /// The text that was given, cut to 80 characters.
    pub text: String,
}

fn is_lower_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn slug(text: &str, chars_max: usize, more: &str) -> bool {
    text.len() <= chars_max
        && text.chars().next().is_some_and(is_lower_or_digit)
        && text.chars().all(|c| is_lower_or_digit(c) || more.contains(c))
}

/// `[A-Za-z0-9][A-Za-z0-9 more]*`, at most `chars_max`, without `..`.
fn word(text: &str, chars_max: usize, more: &str) -> bool {
    text.len() <= chars_max
        && text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        && !text.contains("..")
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text, valid by construction.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { kind: $kind, rule: $rule, text: text.chars().take(80).collect() })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A site: a boundary group with nodes.
    SiteName,
    "site name",
    "1 to 32 characters, lower-case letters, digits and '-', beginning with a letter or digit",
    |text| slug(text, 32, "-")
);
name!(
    /// A ring: a lifecycle stage such as `pilot`.
    RingName,
    "ring name",
    "1 to 32 characters, lower-case letters, digits and '-', beginning with a letter or digit",
    |text| slug(text, 32, "-")
);
name!(
    /// The name of a patch, the same over all its versions.
    PatchName,
    "patch name",
    "1 to 64 characters, lower-case letters, digits, '.', '+', '_' and '-', beginning with a letter or digit, without '..'",
    |text| slug(text, 64, ".+_-") && !text.contains("..")
);
name!(
    /// The version of a patch. Sluice never orders these texts: order is the order of approval.
    PatchVersion,
    "patch version",
    "1 to 64 characters, letters, digits, '.', '+', '~', ':', '_' and '-', beginning with a letter or digit, without '..'",
    |text| word(text, 64, ".+~:_-")
);
name!(
    /// A person of the admin API.
    PersonName,
    "person name",
    "1 to 64 characters, letters, digits, '.', '_', '@' and '-', beginning with a letter or digit, without '..'",
    |text| word(text, 64, "._@-")
);
name!(
    /// A Debian binary package name.
    PackageName,
    "package name",
    "2 to 128 characters, lower-case letters, digits, '.', '+' and '-', beginning with a letter or digit",
    |text| text.len() >= 2 && slug(text, 128, ".+-")
);
name!(
    /// The name of a TUF target of this repository: a directory and one to three path segments, no `..`.
    TargetName,
    "target name",
    "a lower-case directory and 1 to 3 segments of letters, digits, '.', '_', '+', '-', joined by '/', without '..'",
    |text| {
        let mut parts = text.split('/');
        let first = parts.next().is_some_and(|dir| slug(dir, 64, "._+-"));
        let rest: Vec<&str> = parts.collect();
        first && (1..=3).contains(&rest.len()) && rest.iter().all(|part| word(part, 128, "._+-")) && !text.contains("..")
    }
);

impl TargetName {
    /// The target of an artifact in a ring: `patches/<ring>/<file>`. Characters that a target name cannot
    /// hold (`:` and `~` in Debian file names) become `_`, so two names may meet: the writer refuses the second.
    pub fn of_patch(ring: &RingName, file: &str) -> Result<Self, NameError> {
        let file: String = file.chars().map(|c| if c == ':' || c == '~' { '_' } else { c }).collect();
        format!("patches/{ring}/{file}").parse()
    }

    /// Everything before the last `/`.
    pub fn directory(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(dir, _)| dir)
    }

    /// Everything after the last `/`.
    pub fn file(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.as_str(), |(_, file)| file)
    }
}

/// A patch in one version, written `name/version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PatchRef {
    /// Same over all versions.
    pub name: PatchName,
    /// This version.
    pub version: PatchVersion,
}

impl fmt::Display for PatchRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.name, self.version))
    }
}

impl FromStr for PatchRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, version) = text.split_once('/').ok_or_else(|| NameError {
            kind: "patch reference",
            rule: "NAME/VERSION, for instance openssl/3.0.22-1",
            text: text.chars().take(80).collect(),
        })?;
        Ok(Self { name: name.parse()?, version: version.parse()? })
    }
}

impl Serialize for PatchRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PatchRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_path_tricks_are_refused() {
        for text in
            ["../x", "a/../b", "", "/a/b", "a", "patches/pilot/..", "patches//x", "A/b", "patches/p/x\0", "a/b/c/d/e"]
        {
            assert!(text.parse::<TargetName>().is_err(), "{text:?}");
        }
        for text in ["", "a..b", "-a", "Ä"] {
            assert!(text.parse::<PatchName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_patch_target_keeps_its_ring_and_file_apart() {
        let ring: RingName = "production".parse().unwrap();
        let target = TargetName::of_patch(&ring, "jq_1:1.6~rc1_amd64.deb").unwrap();
        assert_eq!(target.as_str(), "patches/production/jq_1_1.6_rc1_amd64.deb");
        assert_eq!((target.directory(), target.file()), ("patches/production", "jq_1_1.6_rc1_amd64.deb"));
    }

    #[test]
    fn a_patch_reference_is_read_back_as_it_was_written() {
        let reference: PatchRef = "openssl/3.0.22-1~deb12u1".parse().unwrap();
        assert_eq!(reference.to_string(), "openssl/3.0.22-1~deb12u1");
        assert!("openssl".parse::<PatchRef>().is_err());
    }
}
