//! What nodes say of themselves, the list of nodes, and the revocation of one.

use crate::authorize::Principal;
use crate::clock;
use crate::operations::fleet_documents::write_members;
use crate::operations::{Failure, audited, member_only, withheld};
use crate::state::App;
use sluice_api::admin::Node;
use sluice_api::device::NodeStatus;
use sluice_api::problem::ProblemType;
use sluice_model::limits::TEXT_CHARS_MAX;
use sluice_model::{MemberKey, MemberKind};
use sluice_repo_store::audit;
use sluice_repo_store::members::{self, NodeRecord};

/// Banned peers that a status may name: more than any site has nodes.
const BANNED_MAX: usize = 1_024;

/// Takes the status of the node with `key`.
pub async fn note_status(app: &App, key: MemberKey, status: NodeStatus) -> Result<(), Failure> {
    let served = app.served();
    member_only(&served, &key)?;
    let texts = status.banned.iter().map(|ban| &ban.reason).chain(&status.trouble).chain([&status.version]);
    if status.banned.len() > BANNED_MAX || texts.into_iter().any(|text| text.chars().count() > TEXT_CHARS_MAX) {
        let detail =
            format!("a status names at most {BANNED_MAX} peers, and no text above {TEXT_CHARS_MAX} characters");
        return Err(Failure::refused(ProblemType::Invalid, detail));
    }
    // One that has less may refuse what is served here for another reason, and will show why.
    if status.timestamp_version == served.view.timestamp_version {
        app.restore.note_in_step(key);
    }
    if let Some(word) = app.board.note(key, status, clock::timestamp()) {
        app.store.change(move |tx| members::put_word(tx, &word)).await?;
    }
    Ok(())
}

/// Every node that is a member, by site and name.
pub async fn list(app: &App) -> Result<Vec<Node>, Failure> {
    let mut records = app.store.look(|tx| Ok::<_, Failure>(members::nodes(tx)?)).await?;
    records.retain(|node| node.revoked_at.is_none());
    records.sort_by(|a, b| (&a.site, &a.name, a.key).cmp(&(&b.site, &b.name, b.key)));
    let mut withheld = withheld::by_node(app).await?;
    let row = |record: NodeRecord| {
        let withheld = withheld.remove(&record.key).unwrap_or_default();
        Node { withheld, ..to_api(app, record) }
    };
    Ok(records.into_iter().map(row).collect())
}

/// Takes a node out of the roster: overlay, exchange and origin refuse it from now on, open connections too.
pub async fn revoke(app: &App, principal: &Principal, key: MemberKey) -> Result<(), Failure> {
    let is_origin = app.served().roster.member(&key).is_some_and(|member| member.kind == MemberKind::Origin);
    if is_origin {
        return Err(Failure::refused(ProblemType::Conflict, "this is the key of the repo server itself"));
    }
    let who = principal.person.clone();
    app.authority
        .change(move |draft, tx| {
            let node = members::node(tx, &key)?;
            let mut node = node.ok_or_else(|| {
                Failure::refused(ProblemType::NotFound, format!("there is no node {key}; `sluice nodes` lists them"))
            })?;
            if node.revoked_at.is_some() {
                return Ok(());
            }
            node.revoked_at = Some(draft.now());
            members::put_node(tx, &node)?;
            audit::append(tx, audited::done(who, "node.revoke", key, format!("{} at site {}", node.name, node.site)))?;
            write_members(draft, tx)
        })
        .await?;
    app.board.forget(&key);
    Ok(())
}

fn to_api(app: &App, record: NodeRecord) -> Node {
    let word = app.board.word(&record.key);
    let link = match &word {
        _ if app.overlay_links.is_up(&record.key) => "connected",
        Some(_) => "offline",
        None => "never-seen",
    };
    let last_status_at = word.as_ref().map(|word| word.received_at);
    let status = word.map(|word| word.status).unwrap_or_default();
    Node {
        key: record.key,
        name: record.name,
        site: record.site,
        link: link.to_owned(),
        last_status_at,
        addresses: record.addresses,
        version: status.version,
        timestamp_version: status.timestamp_version,
        fenced_serial: status.fenced_serial,
        origin_bytes: status.origin_bytes,
        peer_bytes: status.peer_bytes,
        peer_served_bytes: status.peer_served_bytes,
        served_bytes: status.served_bytes,
        metadata_bytes: status.metadata_bytes,
        chunks_led: status.chunks_led,
        corrupt_chunks: status.corrupt_chunks,
        stored_bytes: status.stored_bytes,
        spooled_reports: status.spooled_reports,
        banned: status.banned,
        trouble: status.trouble,
        withheld: Vec::new(),
    }
}
