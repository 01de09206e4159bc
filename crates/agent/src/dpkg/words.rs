//! dpkg's words: what kind of failure they tell of, and the part worth keeping.

use sluice_compliance::FailureClass;

/// Characters of `OutcomeReport::detail`.
const DETAIL_CHARS_MAX: usize = 4_000;
/// Lines that tell of progress, not of trouble.
const PROGRESS: [&str; 7] = [
    "(Reading database",
    "Selecting previously unselected",
    "Preparing to unpack",
    "Unpacking ",
    "Setting up ",
    "Processing triggers for",
    "Removing ",
];

/// The class of a failed transaction.
pub fn classify(words: &str) -> FailureClass {
    let has = |text: &str| words.contains(text);
    if has("No space left on device") || has("Disk quota exceeded") {
        FailureClass::Disk
    } else if has("dependency problem") || has("pre-dependency") {
        FailureClass::Dependency
    } else {
        FailureClass::PackageManager
    }
}

/// What dpkg said beyond progress, cut to the length of a report's detail; empty when there was nothing else. The end is
/// dropped: dpkg names the cause first.
pub fn remarks(words: &str) -> String {
    let told: Vec<&str> = words
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !PROGRESS.iter().any(|progress| line.starts_with(progress)))
        .collect();
    cut(&told.join("\n"))
}

/// [`remarks`] of a failure, and everything where there were none: a failure is never told without words.
pub fn shorten(words: &str) -> String {
    let told = remarks(words);
    if told.is_empty() { cut(words.trim()) } else { told }
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').take(DETAIL_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCY: &str = "(Reading database ... 5 files)\nUnpacking aa (2.0) over (1.0) ...\n\
        dpkg: dependency problems prevent configuration of aa:\n aa depends on libmissing (>= 2); however:\n  \
        Package libmissing is not installed.\n\ndpkg: error processing package aa (--install):\n dependency problems - \
        leaving unconfigured\nErrors were encountered while processing:\n aa\n";

    #[test]
    fn a_missing_dependency_a_full_disk_and_anything_else_are_told_apart() {
        assert_eq!(classify(DEPENDENCY), FailureClass::Dependency);
        assert_eq!(classify("cannot copy: No space left on device"), FailureClass::Disk);
        assert_eq!(
            classify("installed aa package post-installation script subprocess returned error exit status 1"),
            FailureClass::PackageManager
        );
    }

    #[test]
    fn the_words_begin_with_the_cause_and_are_bounded() {
        assert!(shorten(DEPENDENCY).starts_with("dpkg: dependency problems prevent configuration of aa:"));
        assert_eq!(shorten(&"x\u{1b}é".repeat(9_000)).chars().count(), 4_000);
        assert_eq!(shorten("Setting up aa (1) ...\n"), "Setting up aa (1) ...");
        assert_eq!(remarks("Setting up aa (1) ...\ndpkg: warning: downgrading aa\n"), "dpkg: warning: downgrading aa");
        assert_eq!(remarks("Setting up aa (1) ...\n"), "");
    }
}
