//! A node says where it listens; the roster follows when that changed.

use crate::operations::enrol::check_addresses;
use crate::operations::fleet_documents::write_members;
use crate::operations::{Failure, audited, member_only};
use crate::state::App;
use sluice_api::device::Announcement;
use sluice_model::MemberKey;
use sluice_repo_store::{audit, members};
use std::net::SocketAddr;

/// Takes the addresses of the node with `key`, which spoke from `remote`.
pub async fn run(app: &App, key: MemberKey, remote: SocketAddr, announcement: Announcement) -> Result<(), Failure> {
    let served = app.served();
    let member = member_only(&served, &key)?;
    let addresses = check_addresses(announcement.addresses, remote)?;
    if member.addresses == addresses {
        return Ok(());
    }
    app.authority
        .change_batched(move |draft, tx| {
            let node = members::node(tx, &key)?.filter(|node| node.revoked_at.is_none());
            let Some(mut node) = node else { return Err(super::not_enrolled(&key)) };
            node.addresses = addresses;
            members::put_node(tx, &node)?;
            let listed = |list: &[SocketAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let a = &node.addresses;
            let detail =
                format!("device {}, overlay {}, http {}", listed(&a.device), listed(&a.overlay), listed(&a.http));
            audit::append(tx, audited::done(key, "node.announce", &node.name, detail))?;
            write_members(draft, tx)
        })
        .await
}
