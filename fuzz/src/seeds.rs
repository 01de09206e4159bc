//! Where the corpora begin: one right input of each kind, made by the programs' own writers.

use crate::targets::repository::{Repository, repository};
use serde_json::{Value, json};
use sluice_api::gossip::MetadataBundle;
use sluice_api_client::EnrolmentTokenText;
use sluice_content::{ChunkerParams, Cutter};
use sluice_exchange::frame::{Ask, HELLO, Reply, ReplyHeader, Request};
use sluice_exchange::have::Have;
use sluice_metadata::{Signer, dsse};
use sluice_model::dsse::OUTCOME_REPORT_TYPE;
use sluice_model::{ArtifactId, ManifestId};

/// Target, file name and bytes of every seed.
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let repository = repository();
    for (name, bytes) in &repository.files {
        let file: Value = serde_json::from_slice(bytes).expect("our own file");
        seeds.push(("metadata", name.clone(), bytes.clone()));
        seeds.push(("metadata-signed", name.clone(), bytes_of(&next(&file["signed"]))));
        if !name.contains("rel-") {
            seeds.push(("canonical-json", name.clone(), bytes.clone()));
        }
    }
    for (name, body) in rows(repository) {
        seeds.push(("metadata-signed", name.to_owned(), bytes_of(&body)));
    }
    let files = repository.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    seeds.push(("gossip", "everything".into(), MetadataBundle::encode(files.clone())));
    let hint = files.filter(|(name, _)| *name == "timestamp.json");
    seeds.push(("gossip", "hint".into(), MetadataBundle::encode(hint)));
    seeds.push(("gossip", "nothing".into(), b"{\"files\":[]}".to_vec()));
    for (name, bytes) in [("small", 10usize), ("one-chunk", 60_000), ("many-chunks", 3_000_000)] {
        seeds.push(("manifest", name.into(), manifest(bytes)));
    }
    seeds.extend(frames().into_iter().map(|(name, bytes)| ("exchange-frame", name.to_owned(), bytes)));
    seeds.extend(reports().into_iter().map(|(name, bytes)| ("report", name.to_owned(), bytes)));
    let token = EnrolmentTokenText::new([1; 8], [2; 32], [3; 16]).to_text();
    seeds.push(("token", "token".into(), token.as_bytes().to_vec()));
    seeds.push(("token", "cut".into(), token.as_bytes()[..118].to_vec()));
    seeds.push(("token", "person".into(), b"slp1-0011223344556677-00".to_vec()));
    seeds
}

fn bytes_of(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

/// The next version of a body.
fn next(body: &Value) -> Value {
    let mut body = body.clone();
    body["version"] = 2.into();
    body
}

/// Bodies that list something.
fn rows(repository: &Repository) -> Vec<(&'static str, Value)> {
    let body = |file: &str| {
        let bytes = repository.files.get(file).expect("a file of the repository");
        next(&serde_json::from_slice::<Value>(bytes).expect("our own file")["signed"])
    };
    let (sha256, hex128) = ("ab".repeat(32), "cd".repeat(64));
    let custom = json!({"patch": {"schema": 1, "patch": "openssl", "patch_version": "3.0-1", "blake3": sha256,
        "sha512": hex128, "manifest": {"blake3": sha256, "length": 88, "chunker": "fastcdc-2020/64K-256K-1M"},
        "artifact": {"kind": "deb", "package": "openssl", "version": "3.0-1", "architecture": "all"},
        "set": {"index": 0, "count": 1}, "severity": "high", "cves": ["CVE-2026-10001"], "supersedes": ["openssl/2.0-1"],
        "approved_serial": 1, "approved_at": 1_790_000_000_000_u64}});
    let mut release = body("1.rel-production.json");
    release["targets"]["patches/production/openssl_3.0-1_all.deb"] =
        json!({"length": 64_000, "hashes": {"sha256": sha256}, "custom": custom});
    let tombstone = json!({"tombstone": {"schema": 1, "serial": 1, "patch": "openssl/3.0-1",
        "content": [{"sha256": sha256, "blake3": sha256}], "reason": "bad", "by": "ann", "at": 1_790_000_000_000_u64}});
    let mut retractions = body("1.retractions.json");
    retractions["targets"]["retractions/1"] = json!({"length": 100, "hashes": {"sha256": sha256}, "custom": tombstone});
    let mut fleet = body("1.fleet.json");
    fleet["targets"]["fleet/roster"] = json!({"length": 100, "hashes": {"sha256": sha256}});
    vec![("release", release), ("retraction", retractions), ("roster", fleet)]
}

fn manifest(bytes: usize) -> Vec<u8> {
    let content: Vec<u8> = (0..bytes as u32).map(|at| (at.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
    let mut cutter = Cutter::new(ChunkerParams::for_length(bytes as u64));
    cutter.push(&content);
    cutter.finish().manifest.encode()
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let artifact = ArtifactId::from_bytes([7; 32]);
    let with = |kind: u8, body: &[u8]| [&[kind], body].concat();
    let request = |ask| with(0, &Request { id: 5, ask }.encode());
    let reply = |reply, length| with(1, &ReplyHeader { request_id: 5, reply, length }.encode());
    let have = Have { progress: 9, here: vec![true, false, true], fetching: vec![false, true, false] };
    vec![
        ("chunks", request(Ask::Chunks { artifact, first: 1, count: 2, window_ms: 300, insists: true })),
        ("manifest", request(Ask::Manifest { manifest: ManifestId::from_bytes([8; 32]) })),
        ("have", request(Ask::Have { artifact })),
        ("chunk", reply(Reply::Chunk { index: 3, trailer: true }, 65_536)),
        ("not-here", reply(Reply::NotHere { index: 3 }, 0)),
        ("elsewhere", reply(Reply::Elsewhere { index: 3 }, 32)),
        ("hello", with(2, &HELLO)),
        ("bitmaps", with(3, &have.encode())),
        ("key", with(4, &[9; 32])),
    ]
}

fn reports() -> Vec<(&'static str, Vec<u8>)> {
    let hex = "ab".repeat(32);
    let report = json!({"schema": 1, "endpoint": hex, "epoch": 1, "seq": 1, "previous": "00".repeat(32),
        "outcome": "installed", "patch": "openssl/3.0-1", "ring": "production", "sha256": [hex], "class": null,
        "detail": "Setting up openssl", "before": [{"package": "openssl", "version": "2.0-1"}],
        "after": [{"package": "openssl", "version": "3.0-1"}], "sources": [{"node": hex, "bytes": 64_000}],
        "duration_ms": 1200, "boot_id": "b", "timestamp_version": 7, "device_time": 1_790_000_000_000_u64});
    let heartbeat = json!({"schema": 1, "endpoint": hex, "epoch": 1, "seq": 2, "previous": hex, "outcome": "heartbeat",
        "patch": null, "ring": null, "timestamp_version": 7, "device_time": 1_790_000_000_000_u64});
    let signer = Signer::from_seed([9; 32]);
    let envelope = dsse::sign(&signer, OUTCOME_REPORT_TYPE, &bytes_of(&report), "me");
    let unknown = json!({"payloadType": "x", "payload": "e30=", "signatures": []});
    vec![
        ("installed", bytes_of(&report)),
        ("heartbeat", bytes_of(&heartbeat)),
        ("envelope", serde_json::to_vec(&envelope).expect("JSON")),
        ("unsigned", bytes_of(&unknown)),
    ]
}
