use super::*;
use crate::sample::{APPROVED_AT, released};
use proptest::prelude::*;

const BYTES: &[u8] = b"0123456789abcdefghij";

fn ask(conditions: &Conditions<'_>) -> Result<Answer, Unmet> {
    answer(&released(BYTES), APPROVED_AT, conditions)
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

fn body(answer: &Answer) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in answer.parts.iter().flatten() {
        match part {
            Part::Text(text) => bytes.extend(text.as_bytes()),
            Part::Content(range) => bytes.extend(&BYTES[range.start as usize..range.end as usize]),
        }
    }
    bytes
}

#[test]
fn the_whole_has_its_length_validators_digests_and_name() {
    let whole = ask(&Conditions::default()).unwrap();
    assert_eq!((whole.status, body(&whole)), (200, BYTES.to_vec()));
    let row = released(BYTES);
    let expected = [
        ("etag", format!("\"sha256:{}\"", row.sha256)),
        ("last-modified", "Sat, 21 Nov 2026 20:37:45 GMT".into()),
        ("content-length", "20".into()),
        ("cache-control", "no-cache, no-transform, immutable".into()),
        ("content-type", "application/vnd.debian.binary-package".into()),
        ("content-disposition", "attachment; filename=\"demo_1.0-1_all.deb\"".into()),
        ("digest", format!("SHA-256={}", STANDARD.encode(row.sha256.as_bytes()))),
        (
            "repr-digest",
            format!(
                "sha-256=:{}:, sha-512=:{}:",
                STANDARD.encode(row.sha256.as_bytes()),
                STANDARD.encode(row.custom.sha512.as_bytes())
            ),
        ),
    ];
    for (name, value) in expected {
        assert_eq!(header(&whole, name), Some(value.as_str()), "{name}");
    }
    assert_eq!(header(&whole, "content-encoding"), None);
}

#[test]
fn what_the_client_has_is_confirmed_with_the_tag_and_nothing_about_the_bytes() {
    let held = ask(&Conditions { if_none_match: Some("*"), ..Conditions::default() }).unwrap();
    let names: Vec<&str> = held.headers.iter().map(|(name, _)| *name).collect();
    assert_eq!((held.status, held.parts.is_none(), names), (304, true, vec!["etag", "cache-control"]));
}

#[test]
fn a_part_says_where_it_belongs_and_one_outside_says_how_long_the_content_is() {
    let part = ask(&Conditions { range: Some("bytes=5-9"), ..Conditions::default() }).unwrap();
    assert_eq!((part.status, body(&part)), (206, b"56789".to_vec()));
    assert_eq!(header(&part, "content-range"), Some("bytes 5-9/20"));
    assert_eq!(header(&part, "content-length"), Some("5"));
    let outside = ask(&Conditions { range: Some("bytes=20-"), ..Conditions::default() }).unwrap_err();
    assert_eq!(outside.content_range().as_deref(), Some("bytes */20"));
    let other = ask(&Conditions { if_match: Some("\"x\""), ..Conditions::default() }).unwrap_err();
    assert_eq!((other, other.content_range()), (Unmet::Precondition, None));
}

#[test]
fn parts_come_in_the_order_of_the_request_between_boundaries() {
    let parts = ask(&Conditions { range: Some("bytes=-2,0-0"), ..Conditions::default() }).unwrap();
    let boundary = format!("sluice-{}", &released(BYTES).sha256.to_hex()[..32]);
    let kind = "Content-Type: application/vnd.debian.binary-package";
    let expected = format!(
        "\r\n--{boundary}\r\n{kind}\r\nContent-Range: bytes 18-19/20\r\n\r\nij\
         \r\n--{boundary}\r\n{kind}\r\nContent-Range: bytes 0-0/20\r\n\r\n0\r\n--{boundary}--\r\n"
    );
    assert_eq!(String::from_utf8(body(&parts)).unwrap(), expected);
    assert_eq!(header(&parts, "content-type"), Some(format!("multipart/byteranges; boundary={boundary}").as_str()));
    assert_eq!(header(&parts, "content-range"), None, "section 15.3.7.2 forbids it");
}

proptest! {
    #[test]
    fn the_promised_length_is_that_of_the_body_and_every_value_can_be_sent(range in "bytes=[0-9,-]{0,24}") {
        let Ok(answer) = ask(&Conditions { range: Some(&range), ..Conditions::default() }) else { return Ok(()) };
        let length = header(&answer, "content-length").unwrap().parse::<usize>().unwrap();
        prop_assert_eq!(length, body(&answer).len());
        prop_assert!(answer.headers.iter().all(|(_, value)| value.bytes().all(|byte| (b' '..=b'~').contains(&byte))));
    }
}
