//! The targets.

mod exchange;
mod messages;
mod metadata;
pub(crate) mod repository;

/// A parser with what must hold for whatever it accepts.
pub struct Target {
    /// Its name, and that of its corpus folder.
    pub name: &'static str,
    /// Panics when something is wrong; else the shape of what came of the input.
    pub run: fn(&[u8]) -> String,
}

/// Every parser that meets foreign bytes.
pub static ALL: [Target; 9] = [
    Target { name: "metadata", run: metadata::raw },
    Target { name: "metadata-signed", run: metadata::signed },
    Target { name: "canonical-json", run: metadata::canonical_json },
    Target { name: "manifest", run: exchange::manifest },
    Target { name: "exchange-frame", run: exchange::frame },
    Target { name: "report", run: messages::report },
    Target { name: "token", run: messages::token },
    Target { name: "gossip", run: messages::gossip },
    Target { name: "document", run: messages::document },
];

/// Characters of a shape: the reason stands at the beginning.
const SHAPE_CHARS_MAX: usize = 100;

/// A refusal without its numbers and names: the reason alone, whatever the input's own text was.
fn shape(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    // What stands in quotes of either kind is the input's own, and may hold quotes itself.
    let before = text.split(['"', '`', '\'']).next().unwrap_or_default();
    let words = before.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let reasons = words.filter(|word| word.chars().all(|c| c.is_ascii_alphabetic()));
    reasons.collect::<Vec<_>>().join(" ").chars().take(SHAPE_CHARS_MAX).collect()
}
