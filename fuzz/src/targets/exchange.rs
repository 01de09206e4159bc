//! What nodes send each other: manifests, frames, evidence.

use super::shape;
use sluice_content::Manifest;
use sluice_exchange::evidence::Evidence;
use sluice_exchange::frame::{
    HELLO_LEN, REPLY_HEADER_LEN, REQUEST_LEN, ReplyHeader, Request, check_hello, read_elsewhere,
};
use sluice_exchange::have::Have;
use sluice_model::BanEvidence;

/// A manifest has one form only, its chunks sum, and every offset lies in the chunk that is said to hold it.
pub fn manifest(input: &[u8]) -> String {
    let manifest = match Manifest::decode_trusted(input) {
        Ok(manifest) => manifest,
        Err(error) => return shape(error),
    };
    assert_eq!(manifest.encode(), input, "a second form of the same manifest");
    let mut end = 0;
    for index in 0..manifest.chunk_count() {
        let range = manifest.range(index);
        assert_eq!(range.start, end, "a gap before chunk {index}");
        assert_eq!(manifest.chunk_at(range.start), Some(index));
        assert_eq!(manifest.chunk_at(range.end - 1), Some(index));
        end = range.end;
    }
    assert_eq!(end, manifest.length());
    assert_eq!(manifest.chunk_at(end), None);
    format!("a manifest of {} chunks", manifest.chunk_count().min(3))
}

/// The first byte says which frame; each has one form only.
pub fn frame(input: &[u8]) -> String {
    let Some((kind, body)) = input.split_first() else { return "nothing".into() };
    match kind % 6 {
        0 => request(body),
        1 => reply(body),
        2 => hello(body),
        3 => have(body),
        4 => read_elsewhere(body).map_or_else(shape, |_| "elsewhere".into()),
        _ => evidence(body),
    }
}

/// As many bytes as a fixed frame has, zeros behind what is there.
fn fixed<const N: usize>(body: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    for (byte, given) in bytes.iter_mut().zip(body) {
        *byte = *given;
    }
    bytes
}

fn request(body: &[u8]) -> String {
    let bytes: [u8; REQUEST_LEN] = fixed(body);
    match Request::decode(&bytes) {
        Ok(request) => {
            assert_eq!(request.encode(), bytes, "a second form of {request:?}");
            shape(format!("{:?}", std::mem::discriminant(&request.ask)))
        }
        Err(error) => shape(error),
    }
}

fn reply(body: &[u8]) -> String {
    let bytes: [u8; REPLY_HEADER_LEN] = fixed(body);
    match ReplyHeader::decode(&bytes) {
        Ok(reply) => {
            assert_eq!(reply.encode(), bytes, "a second form of {reply:?}");
            assert!(reply.frame_len() < 64 << 20, "a reply of {} bytes", reply.frame_len());
            shape(format!("{:?}", std::mem::discriminant(&reply.reply)))
        }
        Err(error) => shape(error),
    }
}

fn hello(body: &[u8]) -> String {
    check_hello(&fixed::<HELLO_LEN>(body)).map_or_else(|_| "no hello".into(), |()| "hello".into())
}

fn have(body: &[u8]) -> String {
    match Have::decode(body) {
        Ok(have) => {
            assert_eq!(have.here.len(), have.fetching.len());
            assert_eq!(have.encode(), body, "a second form of the same bitmaps");
            "have".into()
        }
        Err(error) => shape(error),
    }
}

fn evidence(body: &[u8]) -> String {
    let Ok(text) = serde_json::from_slice::<BanEvidence>(body) else { return "no evidence".into() };
    match Evidence::from_text(&text) {
        Ok(evidence) => {
            assert_eq!(evidence.to_text(), text, "a second form of the same evidence");
            "evidence".into()
        }
        Err(error) => shape(error),
    }
}
