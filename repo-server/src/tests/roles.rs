//! Every role x every route x owner or not, generated from the routes and answered by the router; the table that comes
//! out is `docs/roles.md`, so that a change of who may what is seen in review.

use super::world::{World, request};
use crate::authorize::{Action, roles_for};
use axum::body::Body;
use serde_json::{Value, json};
use sluice_model::{AccessScope, PatchRef, PersonRole, Severity, Timestamp};
use sluice_repo_store::patches::{self, PatchRecord};
use sluice_repo_store::uploads::{self, UploadRecord};
use std::fmt::Write as _;

/// What a role may do on a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cell {
    No,
    Yes,
    /// Only what is his own.
    Own,
    /// Only what somebody else published.
    Others,
}

impl Cell {
    fn of(own: bool, others: bool) -> Self {
        match (own, others) {
            (true, true) => Self::Yes,
            (true, false) => Self::Own,
            (false, true) => Self::Others,
            (false, false) => Self::No,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::No => "",
            Self::Yes => "yes",
            Self::Own => "own",
            Self::Others => "others'",
        }
    }
}

/// The rule by which the table should come out: the matrix, and the two rules that look at the owner.
fn expected(action: Action, path: &str, role: PersonRole) -> Cell {
    match roles_for(action).contains(&role) {
        false => Cell::No,
        true if action == Action::Upload && path.contains("{id}") => Cell::Own,
        true if action == Action::Approve && path.contains("{name}") => Cell::Others,
        true => Cell::Yes,
    }
}

/// A thing of `owner` for each path parameter that stands for one.
fn put_things_of(world: &World, owner: &str) {
    let owner: sluice_model::PersonName = owner.parse().unwrap();
    let at = crate::clock::timestamp();
    let upload = UploadRecord { id: "1".into(), owner: owner.clone(), length: 9, offset: 0, created_at: at };
    let patch: PatchRef = "demo/1".parse().unwrap();
    let patch = PatchRecord {
        patch,
        severity: Severity::High,
        cves: Vec::new(),
        supersedes: Vec::new(),
        published_by: owner,
        published_at: Timestamp::default(),
        artifacts: Vec::new(),
        approvals: Vec::new(),
        retraction: None,
    };
    let put = world.app.store.write(|tx| {
        uploads::put(tx, &upload)?;
        patches::put(tx, &patch)
    });
    put.unwrap();
    std::fs::write(world.app.data.join("uploads/1.part"), []).unwrap();
}

/// The path with the things that exist.
fn example(path: &str) -> String {
    let part = |part: &str| match part {
        "{name}" => "demo".to_owned(),
        "{ring}" => "pilot".to_owned(),
        "{site}" => "lyon".to_owned(),
        part if part.starts_with('{') => "1".to_owned(),
        part => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// A body with which the operation gets as far as looking at the owner or the scope.
fn body(path: &str) -> Option<Value> {
    match path {
        "/v1/patches/{name}/{version}/approvals" => Some(json!({ "ring": "pilot" })),
        "/v1/sites/{site}/limits" => Some(json!({})),
        "/v1/enrolment-tokens" => Some(json!({ "kind": "node", "site": "lyon" })),
        _ => None,
    }
}

/// Whether `person` was let through to the thing; what else the answer says is another matter.
async fn may(world: &World, person: &str, verb: &str, path: &str, body: Option<Value>) -> bool {
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let builder = request(person, verb, &example(path))
        .header("upload-offset", "0")
        .header("content-type", "application/offset+octet-stream");
    let answer = world.send(builder.body(body).unwrap()).await;
    let is_hidden = answer.status.as_u16() == 404 && path.starts_with("/v1/uploads/");
    assert_ne!(answer.status.as_u16(), 401, "{person} {verb} {path}");
    answer.status.as_u16() != 403 && !is_hidden
}

// proves: A7 (roles)
#[tokio::test]
async fn every_role_on_every_route_may_do_what_the_matrix_says_to_his_own_and_to_others_things() {
    let world = World::new().await;
    world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    let mut routes = crate::http::admin_actions();
    routes.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
    let mut table = heading();
    for (verb, path, action) in &routes {
        let _ = write!(table, "| `{verb} {path}` |");
        for role in PersonRole::ALL {
            let mut let_through = [false; 2];
            for (owner, let_through) in [role.as_str(), "stranger"].into_iter().zip(&mut let_through) {
                // A fresh token for each request: some of them end their own.
                world.add_person(role.as_str(), vec![role]);
                put_things_of(&world, owner);
                *let_through = may(&world, role.as_str(), verb, path, body(path)).await;
            }
            let cell = Cell::of(let_through[0], let_through[1]);
            assert_eq!(cell, expected(*action, path, role), "{role} {verb} {path}");
            let _ = write!(table, " {} |", cell.word());
        }
        table.push('\n');
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/roles.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(table, kept, "who may what changed: UPDATE_EXPECT=1 writes docs/roles.md anew");
}

fn heading() -> String {
    let mut text = String::from(
        "# Who may do what\n\nMade by a test from the answers of the repo server: every role on every route. *own*: only what he began \
         himself; *others'*: only what somebody else published. Two people are needed to lift a suspension, to reinstate, and to \
         retract more than five patches within an hour; people are counted, not tokens.\n\nA token may be limited to sites or rings: \
         then it changes nothing that reaches beyond them. Reading is not limited.\n\n| route |",
    );
    for role in PersonRole::ALL {
        let _ = write!(text, " {role} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(PersonRole::ALL.len()));
    text.push('\n');
    text
}

// proves: A7 (scopes)
#[tokio::test]
async fn a_token_of_another_site_and_ring_changes_nothing_on_any_route() {
    let world = World::new().await;
    world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    let scopes = [
        AccessScope { sites: Some(["brno".parse().unwrap()].into()), rings: None },
        AccessScope { sites: None, rings: Some(["validation".parse().unwrap()].into()) },
    ];
    for scope in scopes {
        for (verb, path, action) in
            crate::http::admin_actions().into_iter().filter(|(_, _, action)| !action.is_personal())
        {
            world.add_scoped("scoped", PersonRole::ALL.to_vec(), scope.clone());
            put_things_of(&world, "stranger");
            let answer = {
                let body = body(&path).map_or_else(Body::empty, |body| Body::from(body.to_string()));
                world.send(request("scoped", &verb, &example(&path)).body(body).unwrap()).await
            };
            // A route whose operation looks at the scope itself may meet a missing body or thing first.
            let is_refused = answer.status.is_client_error();
            assert!(is_refused, "{scope}: {verb} {path} ({action:?}): {} {}", answer.status, answer.text());
            if body(&path).is_some() {
                answer.expect(403, "out-of-scope", &["scoped"]);
            }
        }
    }
}

#[tokio::test]
async fn a_token_of_one_ring_approves_there_and_a_token_of_one_site_enrols_there() {
    let world = World::new().await;
    world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    let pilot = AccessScope { sites: None, rings: Some(["pilot".parse().unwrap()].into()) };
    world.add_scoped("pia", vec![PersonRole::Approver], pilot);
    let deb = world.deb("demo", "1", 1, 1_000);
    world.publish("paul", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
    world.approve("pia", "demo/1", "production").await.expect(403, "out-of-scope", &["rings pilot"]);
    world.approve("pia", "demo/1", "pilot").await.expect_ok();

    let lyon = AccessScope { sites: Some(["lyon".parse().unwrap()].into()), rings: None };
    world.add_scoped("leo", vec![PersonRole::Admin], lyon);
    world.post("leo", "/v1/enrolment-tokens", &json!({ "kind": "node", "site": "lyon" })).await.expect_ok();
    let endpoint = json!({ "kind": "endpoint", "site": "lyon", "ring": "pilot" });
    world.post("leo", "/v1/enrolment-tokens", &endpoint).await.expect_ok();
    let all = json!({ "person": "eve", "roles": ["admin"] });
    world.post("leo", "/v1/person-tokens", &all).await.expect(403, "out-of-scope", &["every site"]);
    assert_eq!(world.get("leo", "/v1/whoami").await.json()["scope"], "sites lyon");
}

#[tokio::test]
async fn a_publisher_does_not_approve_his_own_patch_with_a_second_token_either() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 1_000);
    world.publish("paul", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
    let second = json!({ "person": "paul", "roles": ["approver"] });
    let token = world.post("admin", "/v1/person-tokens", &second).await.json()["token"].as_str().unwrap().to_owned();
    let ask =
        axum::http::Request::post("/v1/patches/demo/1/approvals").header("authorization", format!("Bearer {token}"));
    let answer = world.send(ask.body(Body::from(json!({ "ring": "pilot" }).to_string())).unwrap()).await;
    answer.expect(403, "separation-of-duties", &["paul"]);
}
