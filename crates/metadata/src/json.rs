//! JSON that can be read in one way only, and its canonical form (OLPC canonical JSON), over which TUF signs.
//!
//! Refused: duplicate keys, floats, integers beyond [`INTEGER_MAX`], nesting deeper than [`DEPTH_MAX`], bytes after the
//! value.

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use sluice_model::Sha256;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// Deepest nesting of arrays and objects.
pub(crate) const DEPTH_MAX: u32 = 24;

/// Largest integer, either side of zero: beyond it a parser that reads numbers as doubles (RFC 8259, section 6) sees
/// another value.
pub(crate) const INTEGER_MAX: u64 = (1 << 53) - 1;

/// A JSON value without floats. Object keys are in byte order, which is the canonical order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Text(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> Sha256 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut array = [0; 32];
    array.copy_from_slice(digest.as_ref());
    Sha256::from_bytes(array)
}

/// Reads one value and nothing after it. The text says what is wrong and where.
pub(crate) fn parse(bytes: &[u8]) -> Result<Json, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Value { depth: 0 }.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// A value that this program made, for instance `custom`.
pub(crate) fn from_value(value: &serde_json::Value) -> Result<Json, String> {
    parse(value.to_string().as_bytes())
}

impl Json {
    /// The canonical form, which is signed: no white space, keys in order, only `"` and `\` escaped. It is not JSON where a
    /// text holds control characters.
    pub(crate) fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out, Escapes::Canonical);
        out
    }

    /// The canonical form made valid JSON by escaping control characters, which is stored.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out, Escapes::Json);
        out
    }

    fn write(&self, out: &mut Vec<u8>, escapes: Escapes) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Unsigned(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Negative(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Text(text) => write_text(text, out, escapes),
            Self::Array(items) => {
                out.push(b'[');
                for (idx, item) in items.iter().enumerate() {
                    if idx > 0 {
                        out.push(b',');
                    }
                    item.write(out, escapes);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (idx, (key, member)) in members.iter().enumerate() {
                    if idx > 0 {
                        out.push(b',');
                    }
                    write_text(key, out, escapes);
                    out.push(b':');
                    member.write(out, escapes);
                }
                out.push(b'}');
            }
        }
    }

    /// The same value for `serde_json`.
    pub(crate) fn to_value(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Unsigned(number) => (*number).into(),
            Self::Negative(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Array(items) => items.iter().map(Self::to_value).collect(),
            Self::Object(members) => members.iter().map(|(key, member)| (key.clone(), member.to_value())).collect(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Canonical,
    Json,
}

fn write_text(text: &str, out: &mut Vec<u8>, escapes: Escapes) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 if escapes == Escapes::Json => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Builds an object; for the writer.
pub(crate) fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Builds a text; for the writer.
pub(crate) fn text(value: impl Into<String>) -> Json {
    Json::Text(value.into())
}

#[derive(Clone, Copy)]
struct Value {
    depth: u32,
}

impl Value {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without floats")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Json, E> {
        if value > INTEGER_MAX {
            return Err(E::custom("an integer beyond 2^53 - 1"));
        }
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Json, E> {
        if value.unsigned_abs() > INTEGER_MAX {
            return Err(E::custom("an integer beyond 2^53 - 1"));
        }
        Ok(u64::try_from(value).map_or(Json::Negative(value), Json::Unsigned))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Json, E> {
        Err(E::custom("a number that is not an integer"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut members = BTreeMap::new();
        while let Some(key) = map.next_key_seed(Key)? {
            let value = map.next_value_seed(inner)?;
            match members.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(value);
                }
                Entry::Occupied(place) => {
                    let key: String = place.key().chars().take(80).collect();
                    return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
                }
            }
        }
        Ok(Json::Object(members))
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(parse(text.as_bytes()).unwrap().canonical()).unwrap()
    }

    #[test]
    fn the_canonical_form_sorts_keys_and_escapes_two_characters_only() {
        assert_eq!(
            canonical(" { \"b\" : [ 1 , -2 , true , null ] , \"a\" : \"x\\\"\\\\\\n\\u00e9\" } "),
            "{\"a\":\"x\\\"\\\\\n\u{e9}\",\"b\":[1,-2,true,null]}"
        );
    }

    #[test]
    fn the_stored_form_escapes_control_characters_and_reads_back_as_the_same_value() {
        let value = text("two\nlines");
        assert_eq!(value.canonical(), b"\"two\nlines\"");
        assert_eq!(value.to_bytes(), b"\"two\\u000alines\"");
        assert_eq!(parse(&value.to_bytes()).unwrap(), value);
    }

    #[test]
    fn what_two_parsers_may_read_in_two_ways_is_refused() {
        let deep = format!("{}1{}", "[".repeat(25), "]".repeat(25));
        let cases: [(&str, &str); 13] = [
            (r#"{"a":1,"a":2}"#, "duplicate key \"a\""),
            (r#"{"a":1,"\u0061":2}"#, "duplicate key \"a\""),
            ("1.0", "not an integer"),
            ("1e3", "not an integer"),
            ("-0", "not an integer"),
            ("18446744073709551616", "not an integer"),
            ("9007199254740992", "beyond 2^53"),
            ("-9007199254740992", "beyond 2^53"),
            (&deep, "nested deeper than 24"),
            ("{} {}", "trailing characters"),
            ("[1,]", "trailing comma"),
            (r#""\ud800""#, "hex escape"),
            ("NaN", "expected value"),
        ];
        for (text, reason) in cases {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(parse(b"\"\xff\"").is_err());
        assert!(parse(format!("{}1{}", "[".repeat(24), "]".repeat(24)).as_bytes()).is_ok());
        assert!(parse(&b"[".repeat(1_000_000)).is_err());
    }
}
