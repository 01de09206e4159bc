//! Golden bytes of every frame, and what is refused.

use super::*;
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn artifact() -> ArtifactId {
    ArtifactId::from_bytes([0xab; 32])
}

#[test]
fn the_hello_is_these_eight_bytes() {
    assert_eq!(hex(&HELLO), "534c583101000000");
    assert_eq!(check_hello(&HELLO), Ok(()));
    let mut later = HELLO;
    later[4] = 2;
    assert_eq!(check_hello(&later), Err(FrameError::UnknownVersion { got: 2 }));
    assert!(matches!(check_hello(b"GET / HT"), Err(FrameError::NotAHello { .. })));
    let mut reserved = HELLO;
    reserved[7] = 1;
    assert!(matches!(check_hello(&reserved), Err(FrameError::NotAHello { .. })));
}

#[test]
fn requests_are_these_bytes() {
    let ab = "ab".repeat(32);
    let zeros = "00".repeat(12);
    let chunks = Ask::Chunks { artifact: artifact(), first: 7, count: 2, window_ms: 1_000, insists: false };
    let insists = Ask::Chunks { artifact: artifact(), first: 7, count: 2, window_ms: 1_000, insists: true };
    let have = Ask::Have { artifact: artifact() };
    let manifest = Ask::Manifest { manifest: ManifestId::from_bytes([0xab; 32]) };
    let encoded = |ask| hex(&Request { id: 0x0102_0304, ask }.encode());
    assert_eq!(encoded(chunks), format!("0101000001020304{ab}0000000700000002000003e8{zeros}"));
    assert_eq!(encoded(insists), format!("0101000101020304{ab}0000000700000002000003e8{zeros}"));
    assert_eq!(encoded(Ask::Cancel), format!("0104000001020304{}", "00".repeat(56)));
    assert_eq!(encoded(manifest), format!("0102000001020304{ab}000000000000000000000000{zeros}"));
    assert_eq!(encoded(have), format!("0103000001020304{ab}000000000000000000000000{zeros}"));
}

#[test]
fn reply_headers_are_these_bytes() {
    let encoded = |reply, length| hex(&ReplyHeader { request_id: 5, reply, length }.encode());
    assert_eq!(encoded(Reply::Chunk { index: 9, trailer: false }, 0x0010_0000), "01010000000000050000000900100000");
    assert_eq!(encoded(Reply::Chunk { index: 9, trailer: true }, 16), "01010001000000050000000900000010");
    assert_eq!(encoded(Reply::Manifest, 52), "01020000000000050000000000000034");
    assert_eq!(encoded(Reply::Have, 14), "0103000000000005000000000000000e");
    assert_eq!(encoded(Reply::NotHere { index: 3 }, 0), "01040000000000050000000300000000");
    assert_eq!(encoded(Reply::Refused(Refusal::Retracted), 0), "01050000000000050000000200000000");
    let elsewhere = ReplyHeader { request_id: 5, reply: Reply::Elsewhere { index: 3 }, length: 32 }.encode();
    assert_eq!(hex(&elsewhere), "01060000000000050000000300000020");
    let mut short = elsewhere;
    short[15] = 31;
    assert_eq!(ReplyHeader::decode(&short), Err(FrameError::NotAKey { got: 31 }));
}

#[test]
fn a_frame_counts_its_header_and_trailer() {
    let plain = ReplyHeader { request_id: 0, reply: Reply::Chunk { index: 0, trailer: false }, length: 100 };
    let signed = ReplyHeader { reply: Reply::Chunk { index: 0, trailer: true }, ..plain };
    assert_eq!((plain.frame_len(), signed.frame_len()), (116, 180));
}

#[test]
fn requests_outside_the_protocol_are_refused() {
    let good =
        Request { id: 1, ask: Ask::Chunks { artifact: artifact(), first: 0, count: 1, window_ms: 0, insists: false } }
            .encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        Request::decode(&bytes)
    };
    assert_eq!(with(0, 2), Err(FrameError::UnknownVersion { got: 2 }));
    assert_eq!(with(1, 5), Err(FrameError::UnknownKind { got: 5 }));
    assert_eq!(with(1, 4), Err(FrameError::ReservedNotZero { kind: 4 }));
    assert_eq!(with(3, 3), Err(FrameError::UnknownFlags { got: 3, kind: 1 }));
    assert_eq!(with(63, 1), Err(FrameError::ReservedNotZero { kind: 1 }));
    assert_eq!(with(47, 0), Err(FrameError::Empty));
    assert!(matches!(with(47, 65), Err(FrameError::TooLarge { field: "chunk count", got: 65, max: 64, .. })));
    assert!(matches!(with(48, 1), Err(FrameError::TooLarge { field: "window", .. })));
    let mut last = good;
    last[40..44].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(Request::decode(&last), Err(FrameError::TooLarge { field: "last chunk", .. })));
    let mut manifest = Request { id: 1, ask: Ask::Have { artifact: artifact() } }.encode();
    manifest[43] = 1;
    assert_eq!(Request::decode(&manifest), Err(FrameError::ReservedNotZero { kind: 3 }));
}

#[test]
fn a_reply_larger_than_its_kind_allows_is_refused_before_anything_is_allocated() {
    let header = |reply, length| ReplyHeader::decode(&ReplyHeader { request_id: 0, reply, length }.encode());
    let chunk = Reply::Chunk { index: 0, trailer: false };
    assert!(header(chunk, CHUNK_BYTES_MAX).is_ok());
    assert!(matches!(header(chunk, CHUNK_BYTES_MAX + 1), Err(FrameError::TooLarge { .. })));
    assert!(matches!(header(Reply::Manifest, u32::MAX), Err(FrameError::TooLarge { .. })));
    assert!(matches!(header(Reply::Have, HAVE_BYTES_MAX as u32 + 1), Err(FrameError::TooLarge { .. })));
    assert!(matches!(header(Reply::NotHere { index: 0 }, 1), Err(FrameError::TooLarge { .. })));
    assert!(matches!(header(Reply::Refused(Refusal::Busy), 1), Err(FrameError::TooLarge { .. })));
}

#[test]
fn a_trailer_flag_on_anything_but_a_chunk_is_refused() {
    let mut bytes = ReplyHeader { request_id: 0, reply: Reply::Have, length: 0 }.encode();
    bytes[3] = 1;
    assert_eq!(ReplyHeader::decode(&bytes), Err(FrameError::UnknownFlags { got: 1, kind: 3 }));
}

proptest! {
    #[test]
    fn whatever_decodes_encodes_to_the_same_request(mut bytes in prop::array::uniform32(any::<u8>()), kind in 0u8..5, tail: u64) {
        bytes[0] = VERSION;
        let mut request = [0; REQUEST_LEN];
        request[8..40].copy_from_slice(&bytes);
        request[0] = VERSION;
        request[1] = kind;
        request[40..48].copy_from_slice(&tail.to_be_bytes());
        if let Ok(decoded) = Request::decode(&request) {
            prop_assert_eq!(decoded.encode(), request);
        }
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same_reply_header(bytes in prop::array::uniform16(any::<u8>())) {
        if let Ok(decoded) = ReplyHeader::decode(&bytes) {
            prop_assert_eq!(decoded.encode(), bytes);
        }
        let mut likely = bytes;
        likely[0] = VERSION;
        likely[1] %= 6;
        likely[2] = 0;
        likely[3] &= 1;
        likely[12] = 0;
        if let Ok(decoded) = ReplyHeader::decode(&likely) {
            prop_assert_eq!(decoded.encode(), likely);
        }
    }

    #[test]
    fn no_have_body_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(have) = crate::have::Have::decode(&bytes) {
            prop_assert_eq!(have.encode(), bytes);
        }
    }
}
