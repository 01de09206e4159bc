//! Kill -9 at bad moments: nothing that was acknowledged is lost, nothing is doubled, nothing stays behind.

mod support;

use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use support::{Repo, deb, noise};

#[tokio::test]
async fn a_kill_in_the_middle_of_an_upload_costs_nothing_that_was_acknowledged() {
    let mut repo = Repo::start().await;
    let paul = repo.person("paul", &["publisher"]).await;
    let bytes = noise(1, 40 << 20);
    let id = repo.begin_upload(&paul, bytes.len()).await;
    let first = repo.append(&paul, &id, 0).body(bytes[..1 << 20].to_vec()).send().await.unwrap();
    assert_eq!(first.headers()["upload-offset"], (1 << 20).to_string().as_str());
    // One long request: 36 MiB arrive, then nothing more; what was made durable on the way counts.
    let (mut body, stream) = futures::channel::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let mut sending = tokio::task::JoinSet::new();
    sending.spawn(repo.append(&paul, &id, 1 << 20).body(reqwest::Body::wrap_stream(stream)).send());
    use futures::SinkExt;
    for piece in bytes[1 << 20..37 << 20].chunks(1 << 20) {
        body.send(Ok(piece.to_vec())).await.unwrap();
    }
    let part = repo.data().join(format!("uploads/{id}.part"));
    while std::fs::metadata(&part).unwrap().len() < 36 << 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    repo.kill();
    repo.serve().await;
    let offset = repo.offset(&paul, &id).await;
    assert!((33 << 20..=37 << 20).contains(&offset), "{offset}");
    let rest = repo.append(&paul, &id, offset).body(bytes[offset..].to_vec()).send().await.unwrap();
    assert_eq!(rest.status().as_u16(), 204, "{}", rest.text().await.unwrap());
    assert_eq!(std::fs::read(&part).unwrap(), bytes);
}

#[tokio::test]
async fn a_kill_at_any_moment_of_a_publication_leaves_all_of_it_or_none() {
    let mut repo = Repo::start().await;
    let paul = repo.person("paul", &["publisher"]).await;
    let package = deb(repo.dir.path(), "1.0", 24 << 20);
    let id = repo.begin_upload(&paul, package.len()).await;
    let sent = repo.append(&paul, &id, 0).body(package.clone()).send().await.unwrap();
    assert_eq!(sent.status().as_u16(), 204);
    let mut published = false;
    for delay in [5, 40, 80, 120, 160, 200, 300] {
        let answer =
            tokio::time::timeout(Duration::from_millis(delay), repo.publish(&paul, &id, "1.0", &package)).await;
        repo.kill();
        repo.serve().await;
        let patches = repo.json(&paul, "/v1/patches").await["patches"].as_array().unwrap().len();
        assert!(patches <= 1);
        if let Ok(answer) = answer {
            assert_eq!(answer.status().as_u16(), 201);
            assert_eq!(patches, 1, "an acknowledged publication was lost");
        }
        published = patches == 1;
        let files = files_below(&repo.data().join("content/artifacts"));
        assert_eq!(files, usize::from(published), "content without a patch, or a patch without content");
        if published {
            break;
        }
        assert_eq!(repo.offset(&paul, &id).await, package.len(), "the upload is still there for another try");
    }
    let answer = repo.publish(&paul, &id, "1.0", &package).await;
    assert_eq!(answer.status().as_u16(), 201, "published before: {published}: {}", answer.text().await.unwrap());
    assert_eq!(repo.json(&paul, "/v1/patches").await["patches"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_kill_right_after_an_approval_and_a_retraction_forgets_neither() {
    let mut repo = Repo::start().await;
    let paul = repo.person("paul", &["publisher"]).await;
    let bob = repo.person("bob", &["approver", "retractor", "auditor"]).await;
    let package = deb(repo.dir.path(), "1.0", 1 << 20);
    let id = repo.begin_upload(&paul, package.len()).await;
    repo.append(&paul, &id, 0).body(package.clone()).send().await.unwrap();
    assert_eq!(repo.publish(&paul, &id, "1.0", &package).await.status().as_u16(), 201);
    let version = async |repo: &Repo| repo.json(&bob, "/v1/status").await["timestamp_version"].as_u64().unwrap();

    let approve = repo.ask(&bob, Method::POST, "/v1/patches/demo/1.0/approvals").json(&json!({ "ring": "production" }));
    assert_eq!(approve.send().await.unwrap().status().as_u16(), 200);
    let before = version(&repo).await;
    repo.kill();
    repo.serve().await;
    assert!(version(&repo).await >= before, "metadata went back");
    assert_eq!(repo.json(&bob, "/v1/patches/demo/1.0").await["state"], "released");
    let content = format!("{}/content/sha256/{}", repo.url, support::sha256(&package));
    assert_eq!(repo.http.get(&content).send().await.unwrap().bytes().await.unwrap(), package);

    let retract = repo.ask(&bob, Method::POST, "/v1/patches/demo/1.0/retraction").json(&json!({ "reason": "bad" }));
    assert_eq!(retract.send().await.unwrap().status().as_u16(), 200);
    repo.kill();
    repo.serve().await;
    let content = format!("{}/content/sha256/{}", repo.url, support::sha256(&package));
    assert_eq!(repo.http.get(&content).send().await.unwrap().status().as_u16(), 410);
    let lines = repo.json(&bob, "/v1/audit").await;
    let actions: Vec<&str> =
        lines["entries"].as_array().unwrap().iter().map(|l| l["action"].as_str().unwrap()).collect();
    for action in ["patch.publish", "patch.approve", "patch.retract"] {
        assert_eq!(actions.iter().filter(|known| **known == action).count(), 1, "{actions:?}");
    }
}

fn files_below(path: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries.flatten().map(|e| if e.path().is_dir() { files_below(&e.path()) } else { 1 }).sum()
}
