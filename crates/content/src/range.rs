//! Which bytes of a resource an HTTP request selects: preconditions, then ranges (RFC 9110 sections 13 and 14).
//!
//! Both HTTP servers ask here, so that they answer alike. Header values come as text as received (several lines of one
//! header joined with `, `); nothing here is an error: a header that cannot be read is ignored, as the RFC wants.
//!
//! The resource never changes under its URL, so `Last-Modified` counts as a strong validator in `If-Range`.

use std::ops::Range;
use std::time::UNIX_EPOCH;

/// Ranges answered in one response. More than that after merging is no use of the feature but a way to make work: such
/// a request gets the whole.
pub const PARTS_MAX: usize = 16;

/// What is asked for, and its validators.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    /// Bytes.
    pub length: u64,
    /// The strong entity tag with its quotes.
    pub etag: &'a str,
    /// Seconds since 1970.
    pub last_modified_secs: u64,
}

/// The request's conditions, as received.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions<'a> {
    /// `Range`; only `GET` has one.
    pub range: Option<&'a str>,
    /// `If-Range`.
    pub if_range: Option<&'a str>,
    /// `If-Match`.
    pub if_match: Option<&'a str>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'a str>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<&'a str>,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// 200 with everything.
    Whole,
    /// 206 with these bytes.
    Part(Range<u64>),
    /// 206 as `multipart/byteranges`: 2 to [`PARTS_MAX`] parts, none touching another, in the order in which the request
    /// named the first of each.
    Parts(Vec<Range<u64>>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416 with `Content-Range: bytes */length`.
    Unsatisfiable,
}

/// Decides what a `GET` or `HEAD` with `conditions` gets of `resource`. For `HEAD` leave `range` out: RFC 9110 section
/// 14.2 defines it for `GET` only.
pub fn select(resource: &Resource<'_>, conditions: &Conditions<'_>) -> Selection {
    // RFC 9110 section 13.2.2, steps 1 to 5 in this order.
    let unchanged = match (conditions.if_match, conditions.if_unmodified_since) {
        (Some(tags), _) => lists_tag(tags, resource.etag, false),
        (None, Some(date)) => seconds_of(date).is_none_or(|secs| resource.last_modified_secs <= secs),
        (None, None) => true,
    };
    if !unchanged {
        return Selection::PreconditionFailed;
    }
    let held = match (conditions.if_none_match, conditions.if_modified_since) {
        (Some(tags), _) => lists_tag(tags, resource.etag, true),
        (None, Some(date)) => seconds_of(date).is_some_and(|secs| resource.last_modified_secs <= secs),
        (None, None) => false,
    };
    if held {
        return Selection::NotModified;
    }
    match conditions.range {
        Some(range) if conditions.if_range.is_none_or(|validator| is_same(validator, resource)) => {
            select_range(range, resource.length)
        }
        _ => Selection::Whole,
    }
}

/// `If-Range`: one strong tag, or a date that is exactly `Last-Modified`.
fn is_same(validator: &str, resource: &Resource<'_>) -> bool {
    let validator = validator.trim();
    if validator.starts_with('"') || validator.starts_with("W/") {
        return validator == resource.etag;
    }
    seconds_of(validator) == Some(resource.last_modified_secs)
}

/// Whether a list of entity tags names `etag`, or is `*`. Our tags are hex between quotes, so a comma never lies in one.
fn lists_tag(tags: &str, etag: &str, weakly: bool) -> bool {
    tags.trim() == "*"
        || tags.split(',').map(str::trim).any(|tag| {
            let tag = if weakly { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
            tag == etag
        })
}

fn seconds_of(date: &str) -> Option<u64> {
    let time = httpdate::parse_http_date(date.trim()).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

fn select_range(header: &str, length: u64) -> Selection {
    let Some(ranges) = parse(header, length) else { return Selection::Whole };
    let mut merged = merge(ranges);
    match merged.len() {
        0 => Selection::Unsatisfiable,
        1 => match merged.remove(0) {
            // A suffix of nothing is satisfiable (section 14.1.2) and `Content-Range` cannot say it.
            empty if empty.is_empty() => Selection::Whole,
            part => Selection::Part(part),
        },
        2..=PARTS_MAX => Selection::Parts(merged),
        _ => Selection::Whole,
    }
}

/// Makes one of those that overlap or touch; each stands where the request first named a part of it (section 15.3.7.2).
fn merge(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut ranges: Vec<(usize, Range<u64>)> = ranges.into_iter().enumerate().collect();
    ranges.sort_by_key(|(_, range)| range.start);
    let mut merged: Vec<(usize, Range<u64>)> = Vec::new();
    for (place, range) in ranges {
        match merged.last_mut() {
            Some((first, last)) if range.start <= last.end => {
                last.end = last.end.max(range.end);
                *first = place.min(*first);
            }
            _ => merged.push((place, range)),
        }
    }
    merged.sort_by_key(|(place, _)| *place);
    merged.into_iter().map(|(_, range)| range).collect()
}

/// The satisfiable ranges of a `Range` header, in its order; `None` when it is to be ignored.
fn parse(header: &str, length: u64) -> Option<Vec<Range<u64>>> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ranges = Vec::new();
    let mut seen = 0;
    for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        seen += 1;
        let (first, last) = spec.split_once('-')?;
        let range = match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
            (Some(first), None) if last.is_empty() => first..length,
            (None, Some(suffix)) if first.is_empty() => length - suffix.min(length)..length,
            _ => return None,
        };
        let is_suffix_of_nothing = length == 0 && first.is_empty() && number(last) != Some(0);
        if range.start < range.end || is_suffix_of_nothing {
            ranges.push(range);
        }
    }
    (seen > 0).then_some(ranges)
}

/// Digits only; larger than 64 bits is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAG: &str = "\"sha256:00ff\"";
    const DATE: &str = "Sat, 21 Nov 2026 20:37:45 GMT";
    const EARLIER: &str = "Sat, 21 Nov 2026 20:37:44 GMT";
    const LATER: &str = "Sat, 21 Nov 2026 20:37:46 GMT";
    const RESOURCE: Resource<'static> = Resource { length: 1000, etag: TAG, last_modified_secs: 1_795_293_465 };

    fn ranged(range: &str) -> Selection {
        select(&RESOURCE, &Conditions { range: Some(range), ..Conditions::default() })
    }

    #[test]
    fn the_date_of_the_tests_is_the_second_of_the_resource() {
        assert_eq!(seconds_of(DATE), Some(RESOURCE.last_modified_secs));
    }

    #[test]
    fn single_ranges_are_cut_to_the_resource() {
        for (header, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-999", 0..1000),
            ("bytes=990-2000", 990..1000),
            ("bytes=990-", 990..1000),
            ("bytes=-10", 990..1000),
            ("bytes=-2000", 0..1000),
            ("Bytes= 5-6 ", 5..7),
            ("bytes=0-99999999999999999999999999", 0..1000),
            ("bytes=1-2, 3-4", 1..5),
            ("bytes=500-600,0-900,5000-", 0..901),
        ] {
            assert_eq!(ranged(header), Selection::Part(expected), "{header}");
        }
    }

    #[test]
    fn a_range_outside_is_unsatisfiable_and_one_that_cannot_be_read_is_ignored() {
        for header in ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=5000-,6000-", "bytes=99999999999999999999-"]
        {
            assert_eq!(ranged(header), Selection::Unsatisfiable, "{header}");
        }
        for header in [
            "bytes=5-4",
            "bytes",
            "lines=0-1",
            "bytes=",
            "bytes=a-b",
            "bytes=-",
            "bytes=1-2,x",
            "bytes=--1",
            "bytes=+1-2",
        ] {
            assert_eq!(ranged(header), Selection::Whole, "{header}");
        }
    }

    #[test]
    fn ranges_that_do_not_touch_stay_apart_and_too_many_give_the_whole() {
        assert_eq!(ranged("bytes=-1,0-0,10-19"), Selection::Parts(vec![999..1000, 0..1, 10..20]));
        assert_eq!(ranged("bytes=50-59,0-9,55-69,5-12"), Selection::Parts(vec![50..70, 0..13]));
        let many = |count: usize| {
            let specs: Vec<String> = (0..count).map(|at| format!("{0}-{0}", at * 3)).collect();
            ranged(&format!("bytes={}", specs.join(",")))
        };
        assert!(matches!(many(PARTS_MAX), Selection::Parts(parts) if parts.len() == PARTS_MAX));
        assert_eq!(many(PARTS_MAX + 1), Selection::Whole);
        let same = ["0-9"; 100].join(",");
        assert_eq!(ranged(&format!("bytes={same}")), Selection::Part(0..10));
    }

    #[test]
    fn a_range_counts_only_while_the_validator_still_holds() {
        let with =
            |if_range| select(&RESOURCE, &Conditions { range: Some("bytes=0-4"), if_range, ..Conditions::default() });
        assert_eq!(with(Some(TAG)), Selection::Part(0..5));
        assert_eq!(with(Some(DATE)), Selection::Part(0..5));
        for validator in ["W/\"sha256:00ff\"", "\"other\"", EARLIER, LATER, "nonsense"] {
            assert_eq!(with(Some(validator)), Selection::Whole, "{validator}");
        }
    }

    #[test]
    fn conditions_are_judged_in_the_order_of_the_rfc() {
        let check = |conditions: Conditions<'_>, expected: Selection| {
            assert_eq!(select(&RESOURCE, &conditions), expected, "{conditions:?}");
        };
        let none = Conditions::default();
        check(Conditions { if_none_match: Some(TAG), ..none }, Selection::NotModified);
        check(Conditions { if_none_match: Some("\"a\", W/\"sha256:00ff\""), ..none }, Selection::NotModified);
        check(Conditions { if_none_match: Some("*"), ..none }, Selection::NotModified);
        check(Conditions { if_none_match: Some("\"a\""), if_modified_since: Some(LATER), ..none }, Selection::Whole);
        check(Conditions { if_modified_since: Some(DATE), ..none }, Selection::NotModified);
        check(Conditions { if_modified_since: Some(EARLIER), ..none }, Selection::Whole);
        check(Conditions { if_modified_since: Some("soon"), ..none }, Selection::Whole);
        check(Conditions { if_match: Some(TAG), if_unmodified_since: Some(EARLIER), ..none }, Selection::Whole);
        check(Conditions { if_match: Some("W/\"sha256:00ff\""), ..none }, Selection::PreconditionFailed);
        check(Conditions { if_unmodified_since: Some(EARLIER), ..none }, Selection::PreconditionFailed);
        check(
            Conditions { if_unmodified_since: Some(DATE), range: Some("bytes=1-"), ..none },
            Selection::Part(1..1000),
        );
        check(Conditions { if_none_match: Some(TAG), range: Some("bytes=5000-"), ..none }, Selection::NotModified);
    }

    #[derive(Clone, Debug)]
    enum Spec {
        Bounded(u64, u64),
        From(u64),
        Suffix(u64),
    }

    fn spec() -> impl Strategy<Value = Spec> {
        prop_oneof![
            (0u64..80, 0u64..80).prop_map(|(a, b)| Spec::Bounded(a.min(b), a.max(b))),
            (0u64..80).prop_map(Spec::From),
            (0u64..80).prop_map(Spec::Suffix),
        ]
    }

    proptest! {
        #[test]
        fn the_selected_bytes_are_those_that_any_range_names(
            length in 0u64..64,
            specs in proptest::collection::vec(spec(), 1..8),
        ) {
            let text: Vec<String> = specs.iter().map(|spec| match spec {
                Spec::Bounded(first, last) => format!("{first}-{last}"),
                Spec::From(first) => format!("{first}-"),
                Spec::Suffix(count) => format!("-{count}"),
            }).collect();
            let named = |byte: u64| specs.iter().any(|spec| match spec {
                Spec::Bounded(first, last) => (*first..=*last).contains(&byte),
                Spec::From(first) => byte >= *first,
                Spec::Suffix(count) => byte + count >= length,
            });
            let header = format!("bytes={}", text.join(","));
            let resource = Resource { length, ..RESOURCE };
            let parts = match select(&resource, &Conditions { range: Some(&header), ..Conditions::default() }) {
                Selection::Part(part) => vec![part],
                Selection::Parts(parts) => parts,
                Selection::Unsatisfiable => vec![],
                Selection::Whole if length == 0 && specs.iter().any(|spec| matches!(spec, Spec::Suffix(1..))) => vec![],
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            for byte in 0..length {
                prop_assert_eq!(parts.iter().any(|part| part.contains(&byte)), named(byte), "{} of {:?}", byte, parts);
            }
            prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
            // The client sees its parts in the order in which it asked for them.
            let asked = |part: &Range<u64>| specs.iter().position(|spec| match spec {
                Spec::Bounded(first, last) => part.contains(first) && *last >= part.start,
                Spec::From(first) => part.contains(first),
                Spec::Suffix(count) => *count > 0 && part.contains(&(length - (*count).min(length))),
            });
            prop_assert!(parts.windows(2).all(|pair| asked(&pair[0]) < asked(&pair[1])), "{:?}", parts);
            for (at, part) in parts.iter().enumerate() {
                let touches = |other: &Range<u64>| other.start <= part.end && part.start <= other.end;
                prop_assert!(!parts[at + 1..].iter().any(touches), "{:?}", parts);
            }
        }

        #[test]
        fn a_single_range_that_names_a_byte_is_exactly_that_range(length in 1u64..1_000_000, a: u64, b: u64) {
            let (first, last) = ((a % length).min(b), (a % length).max(b));
            let header = format!("bytes={first}-{last}");
            let resource = Resource { length, ..RESOURCE };
            let selected = select(&resource, &Conditions { range: Some(&header), ..Conditions::default() });
            prop_assert_eq!(selected, Selection::Part(first..last.saturating_add(1).min(length)));
        }

        #[test]
        fn no_header_makes_the_selection_panic(range in ".{0,60}", tag in ".{0,20}") {
            let conditions = Conditions {
                range: Some(&range), if_range: Some(&tag), if_match: Some(&tag), if_none_match: Some(&tag),
                if_modified_since: Some(&tag), if_unmodified_since: Some(&tag),
            };
            let _ = select(&RESOURCE, &conditions);
            let _ = select(&RESOURCE, &Conditions { range: Some(&range), ..Conditions::default() });
        }
    }
}
