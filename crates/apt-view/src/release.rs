//! The text of `Release`: what is listed, with what hashes, from when until when.

use crate::document::IndexFile;
use crate::{COMPONENT, SUITE};
use sluice_model::{RingName, Timestamp};
use std::fmt::Write;

/// The text, without what signs it.
pub(crate) fn text(
    (repo_id, ring): (&str, &RingName),
    (signed_at, valid_until): (Timestamp, Timestamp),
    architectures: &[String],
    files: &[IndexFile],
) -> String {
    let mut text = format!(
        "Origin: Sluice {repo_id}\nLabel: Sluice {ring}\nSuite: {SUITE}\nCodename: {SUITE}\nDate: {}\nValid-Until: {}\n\
         Acquire-By-Hash: yes\nArchitectures: {}\nComponents: {COMPONENT}\nDescription: security patches of ring {ring}\n",
        date(signed_at),
        date(valid_until),
        architectures.join(" "),
    );
    text.push_str("SHA256:\n");
    for file in files {
        let _ = writeln!(text, " {} {} {}", file.sha256, file.length, file.path);
    }
    text.push_str("SHA512:\n");
    for file in files {
        let _ = writeln!(text, " {} {} {}", file.sha512, file.length, file.path);
    }
    text
}

/// `Sun, 22 Nov 2026 03:37:50 UTC`.
fn date(at: Timestamp) -> String {
    let seconds = i64::try_from(at.as_millis() / 1_000).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}
