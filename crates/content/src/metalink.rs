//! Metalink documents: where else the same bytes are, and how a download client checks them. Version 4 is RFC 5854, for
//! aria2 and others; version 3 is what dnf reads.
//!
//! The documents are not signed: they are as good as the server that gave them, like a page with checksums. Whoever must
//! not believe a server reads the TUF metadata.

use crate::pieces::Pieces;
use sluice_model::{ReleasedArtifact, Timestamp};
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// Which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetalinkVersion {
    /// What dnf reads.
    Three,
    /// RFC 5854.
    Four,
}

impl MetalinkVersion {
    /// Both, the better one first.
    pub const ALL: [Self; 2] = [Self::Four, Self::Three];

    /// Ending of the document's address after that of the content.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Three => ".metalink",
            Self::Four => ".meta4",
        }
    }

    /// Media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Three => "application/metalink+xml",
            Self::Four => "application/metalink4+xml",
        }
    }

    /// Splits the address of a document into that of the content and the form.
    pub fn split(path: &str) -> Option<(&str, Self)> {
        Self::ALL.into_iter().find_map(|version| Some((path.strip_suffix(version.suffix())?, version)))
    }
}

/// What a document says.
#[derive(Clone, Copy, Debug)]
pub struct MetalinkFile<'a> {
    /// The artifact.
    pub row: &'a ReleasedArtifact,
    /// As its `Last-Modified`.
    pub modified: Timestamp,
    /// Where it is, best first.
    pub urls: &'a [String],
    /// Hashes of pieces, when they are known; in version 4 only.
    pub pieces: Option<&'a Pieces>,
}

impl MetalinkFile<'_> {
    /// The document.
    pub fn render(&self, version: MetalinkVersion) -> String {
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let written = match version {
            MetalinkVersion::Three => self.write_three(&mut text),
            MetalinkVersion::Four => self.write_four(&mut text),
        };
        written.expect("a string takes everything");
        text
    }

    fn write_four(&self, text: &mut String) -> std::fmt::Result {
        let row = self.row;
        writeln!(text, "<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">")?;
        writeln!(text, "  <generator>sluice</generator>\n  <published>{}</published>", self.modified)?;
        writeln!(text, "  <file name=\"{}\">\n    <size>{}</size>", escaped(row.target.file()), row.length)?;
        writeln!(text, "    <hash type=\"sha-256\">{}</hash>", row.sha256)?;
        writeln!(text, "    <hash type=\"sha-512\">{}</hash>", row.custom.sha512)?;
        if let Some(pieces) = self.pieces {
            writeln!(text, "    <pieces length=\"{}\" type=\"sha-256\">", pieces.length)?;
            for hash in &pieces.sha256 {
                writeln!(text, "      <hash>{hash}</hash>")?;
            }
            writeln!(text, "    </pieces>")?;
        }
        for (idx, url) in self.urls.iter().enumerate() {
            writeln!(text, "    <url priority=\"{}\">{}</url>", idx + 1, escaped(url))?;
        }
        writeln!(text, "  </file>\n</metalink>")
    }

    fn write_three(&self, text: &mut String) -> std::fmt::Result {
        let row = self.row;
        let published = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(self.modified.as_millis()));
        writeln!(
            text,
            "<metalink version=\"3.0\" xmlns=\"http://www.metalinker.org/\" type=\"dynamic\" pubdate=\"{published}\" \
             generator=\"sluice\">"
        )?;
        writeln!(text, "  <files>\n    <file name=\"{}\">", escaped(row.target.file()))?;
        writeln!(text, "      <size>{}</size>\n      <verification>", row.length)?;
        writeln!(text, "        <hash type=\"sha256\">{}</hash>", row.sha256)?;
        writeln!(text, "        <hash type=\"sha512\">{}</hash>", row.custom.sha512)?;
        writeln!(text, "      </verification>\n      <resources>")?;
        for (idx, url) in self.urls.iter().enumerate() {
            let (scheme, preference) = (url.split(':').next().unwrap_or("http"), 100usize.saturating_sub(idx).max(1));
            let url = escaped(url);
            writeln!(
                text,
                "        <url protocol=\"{scheme}\" type=\"{scheme}\" preference=\"{preference}\">{url}</url>"
            )?;
        }
        writeln!(text, "      </resources>\n    </file>\n  </files>\n</metalink>")
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::PieceHasher;
    use crate::sample::{APPROVED_AT, released};

    fn document(version: MetalinkVersion) -> (ReleasedArtifact, String) {
        let bytes = vec![7; 1_500_000];
        let row = released(&bytes);
        let mut hasher = PieceHasher::new(row.length);
        hasher.push(&bytes);
        let pieces = hasher.finish();
        let urls = ["http://10.1.0.1/a".to_owned(), "http://[2001:db8::1]:8480/a?b&c".to_owned()];
        let file = MetalinkFile { row: &row, modified: APPROVED_AT, urls: &urls, pieces: Some(&pieces) };
        let text = file.render(version);
        (row, text)
    }

    #[test]
    fn version_4_has_the_form_of_the_rfc() {
        let (row, text) = document(MetalinkVersion::Four);
        let (first, second) = text.split_once("<pieces length=\"1048576\" type=\"sha-256\">").unwrap();
        assert_eq!(second.matches("<hash>").count(), 2);
        assert_eq!(
            first,
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n  \
                 <generator>sluice</generator>\n  <published>2026-11-21T20:37:45.678Z</published>\n  \
                 <file name=\"demo_1.0-1_all.deb\">\n    <size>1500000</size>\n    <hash type=\"sha-256\">{}</hash>\n    \
                 <hash type=\"sha-512\">{}</hash>\n    ",
                row.sha256, row.custom.sha512
            )
        );
        assert!(second.contains(
            "    <url priority=\"1\">http://10.1.0.1/a</url>\n    \
             <url priority=\"2\">http://[2001:db8::1]:8480/a?b&amp;c</url>\n  </file>\n</metalink>\n"
        ));
    }

    #[test]
    fn version_3_names_the_same_bytes_with_preferences_that_fall() {
        let (row, text) = document(MetalinkVersion::Three);
        for part in [
            "<metalink version=\"3.0\" xmlns=\"http://www.metalinker.org/\" type=\"dynamic\"",
            "pubdate=\"Sat, 21 Nov 2026 20:37:45 GMT\"",
            "<size>1500000</size>",
            &format!("<hash type=\"sha256\">{}</hash>", row.sha256),
            "<url protocol=\"http\" type=\"http\" preference=\"100\">http://10.1.0.1/a</url>",
            "preference=\"99\">http://[2001:db8::1]:8480/a?b&amp;c</url>",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn the_ending_of_an_address_says_which_form_is_wanted() {
        assert_eq!(MetalinkVersion::split("ab.meta4"), Some(("ab", MetalinkVersion::Four)));
        assert_eq!(MetalinkVersion::split("ab.metalink"), Some(("ab", MetalinkVersion::Three)));
        assert_eq!(MetalinkVersion::split("ab"), None);
    }
}
