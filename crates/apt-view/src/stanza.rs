//! One paragraph of `Packages`: what the package's own control file says, and where and what the file is.
//!
//! Name, version and architecture are those of the signed row, never those of the control file; the same with everything
//! that names the content.

use sluice_model::{ArtifactKind, DebFields, ReleasedArtifact};

/// Largest control file: those with the longest lists of `Provides` have some 30 KiB.
pub const CONTROL_BYTES_MAX: usize = 64 << 10;

/// Written from the signed row, or of no use in an index.
const OWN_FIELDS: [&str; 10] =
    ["package", "version", "architecture", "filename", "size", "md5sum", "sha1", "sha256", "sha512", "status"];

/// Why a control file gives no paragraph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Too long.
    #[error("its control file has {0} bytes and may have {CONTROL_BYTES_MAX}")]
    TooLong(usize),
    /// A line that belongs to no field.
    #[error("line {0} of its control file is neither a field nor its continuation")]
    BadLine(usize),
    /// Two paragraphs, or a character that would end one.
    #[error("line {0} of its control file would end the paragraph")]
    Ends(usize),
}

/// Whether a control file can be listed in an index.
pub fn check_control(control: &str) -> Result<(), ControlError> {
    fields(control).map(|_| ())
}

/// Where the package is below the repository of its ring: named by content, so that what is at a path never changes.
pub fn pool_path(row: &ReleasedArtifact) -> String {
    let ArtifactKind::Deb(DebFields { package, version, architecture }) = &row.custom.artifact;
    let version = version.split_once(':').map_or(version.as_str(), |(_, rest)| rest);
    format!("pool/{}/{package}_{version}_{architecture}.deb", row.sha256)
}

/// The paragraph, with the empty line that ends it.
pub(crate) fn stanza(row: &ReleasedArtifact, control: &str) -> Result<String, ControlError> {
    let ArtifactKind::Deb(DebFields { package, version, architecture }) = &row.custom.artifact;
    let mut text = format!("Package: {package}\nVersion: {version}\nArchitecture: {architecture}\n");
    for (name, lines) in fields(control)? {
        if !OWN_FIELDS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            text.push_str(&lines);
        }
    }
    text.push_str(&format!(
        "Filename: {}\nSize: {}\nSHA256: {}\nSHA512: {}\n\n",
        pool_path(row),
        row.length,
        row.sha256,
        row.custom.sha512
    ));
    Ok(text)
}

/// The fields of one paragraph: name, and its lines as they stand, each with its end.
fn fields(control: &str) -> Result<Vec<(&str, String)>, ControlError> {
    if control.len() > CONTROL_BYTES_MAX {
        return Err(ControlError::TooLong(control.len()));
    }
    let mut fields: Vec<(&str, String)> = Vec::new();
    for (idx, line) in control.trim_end().lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.contains(['\r', '\0']) {
            return Err(ControlError::Ends(idx + 1));
        }
        if line.starts_with('#') {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            let (_, lines) = fields.last_mut().ok_or(ControlError::BadLine(idx + 1))?;
            lines.push_str(line);
            lines.push('\n');
            continue;
        }
        match line.split_once(':') {
            Some((name, _)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()) => {
                fields.push((name, format!("{line}\n")));
            }
            _ => return Err(ControlError::BadLine(idx + 1)),
        }
    }
    Ok(fields)
}
