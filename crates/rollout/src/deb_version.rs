//! The order of Debian versions, as `dpkg --compare-versions` gives it (Debian Policy 5.6.12, deb-version(7)).

use std::cmp::Ordering;

/// Orders two versions: epoch, then upstream version, then revision. A missing epoch or revision counts as `0`.
///
/// A text that is not a version is still ordered, deterministically; callers take versions from signed metadata or from
/// the package manager.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left_epoch, left_upstream, left_revision) = split(left.trim());
    let (right_epoch, right_upstream, right_revision) = split(right.trim());
    compare_numbers(left_epoch, right_epoch)
        .then_with(|| compare_part(left_upstream, right_upstream))
        .then_with(|| compare_part(left_revision, right_revision))
}

fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Turns of a non-digit run (by [`rank`]) and a digit run (as numbers), until both texts are used up.
fn compare_part(mut left: &str, mut right: &str) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let (left_word, left_rest) = cut(left, |c| !c.is_ascii_digit());
        let (right_word, right_rest) = cut(right, |c| !c.is_ascii_digit());
        let words = compare_words(left_word, right_word);
        if words.is_ne() {
            return words;
        }
        let (left_number, left_rest) = cut(left_rest, |c| c.is_ascii_digit());
        let (right_number, right_rest) = cut(right_rest, |c| c.is_ascii_digit());
        let numbers = compare_numbers(left_number, right_number);
        if numbers.is_ne() {
            return numbers;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn cut(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn compare_words(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.chars(), right.chars());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (left, right) if rank(left) != rank(right) => return rank(left).cmp(&rank(right)),
            _ => {}
        }
    }
}

/// `~` before the end, the end before letters, letters before everything else.
fn rank(c: Option<char>) -> i64 {
    match c {
        Some('~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i64::from(u32::from(c)),
        Some(c) => i64::from(u32::from(c)) + 256,
    }
}

/// Digit runs of any length, without overflow: leading zeros dropped, then by length, then by digits.
fn compare_numbers(left: &str, right: &str) -> Ordering {
    let left = left.trim_start_matches('0');
    let right = right.trim_start_matches('0');
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}
