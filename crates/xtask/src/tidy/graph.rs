//! The workspace's dependency graph as cargo resolves it for this platform.

use anyhow::{Context, Result};
use serde::Deserialize;
use sluice_xtask::cargo;
use std::collections::{BTreeMap, BTreeSet};

/// What `cargo metadata` says, cut to what the checks read.
pub struct Graph {
    /// Our crates by short name (`node`, `model`).
    pub ours: BTreeMap<String, Ours>,
    /// Every package that a workspace member reaches with the features in use, by package id.
    pub reached: BTreeMap<String, Package>,
    edges: BTreeMap<String, Vec<Edge>>,
}

/// One of our crates.
pub struct Ours {
    /// Package id.
    pub id: String,
    /// Folder below the root.
    pub folder: String,
    /// Direct dependencies: (package name, is it only for tests).
    pub direct: Vec<(String, bool)>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

/// A package.
#[derive(Deserialize, Clone)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub version: String,
    pub license: Option<String>,
    pub license_file: Option<String>,
    pub source: Option<String>,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize, Clone)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDependency>,
}

#[derive(Deserialize)]
struct NodeDependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

#[derive(Clone)]
struct Edge {
    to: String,
    only_dev: bool,
}

impl Graph {
    /// Asks cargo.
    pub fn read() -> Result<Self> {
        let text = cargo::output(cargo::cargo().args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform=x86_64-unknown-linux-gnu",
        ]))?;
        Self::parse(&text, &in_use()?)
    }

    fn parse(text: &str, in_use: &BTreeSet<String>) -> Result<Self> {
        let metadata: Metadata = serde_json::from_str(text).context("cargo metadata printed something unexpected")?;
        let packages: BTreeMap<&str, &Package> = metadata.packages.iter().map(|p| (p.id.as_str(), p)).collect();
        let edges: BTreeMap<String, Vec<Edge>> = metadata
            .resolve
            .nodes
            .iter()
            .map(|node| {
                let edge = |dep: &NodeDependency| Edge {
                    to: dep.pkg.clone(),
                    only_dev: dep.dep_kinds.iter().all(|kind| kind.kind.as_deref() == Some("dev")),
                };
                (node.id.clone(), node.deps.iter().map(edge).collect())
            })
            .collect();
        let root = cargo::workspace_root();
        let mut ours = BTreeMap::new();
        for id in &metadata.workspace_members {
            let package = packages.get(id.as_str()).context("a workspace member is not among the packages")?;
            let folder = std::path::Path::new(&package.manifest_path)
                .parent()
                .and_then(|dir| dir.strip_prefix(&root).ok())
                .map(|dir| dir.display().to_string())
                .unwrap_or_default();
            let direct =
                package.dependencies.iter().map(|dep| (dep.name.clone(), dep.kind.as_deref() == Some("dev"))).collect();
            let short = package.name.trim_start_matches("sluice-").to_owned();
            ours.insert(short, Ours { id: id.clone(), folder, direct });
        }
        let all: BTreeSet<String> = reach(&edges, metadata.workspace_members.iter().cloned(), true);
        let reached = all
            .into_iter()
            .filter_map(|id| packages.get(id.as_str()).map(|package| (id.clone(), (*package).clone())))
            .filter(|(_, package)| in_use.contains(&format!("{} v{}", package.name, package.version)))
            .collect();
        Ok(Self { ours, reached, edges })
    }

    /// Names of every package that one of our crates links (tests left out).
    pub fn linked_by(&self, short: &str) -> BTreeSet<String> {
        let Some(ours) = self.ours.get(short) else { return BTreeSet::new() };
        reach(&self.edges, std::iter::once(ours.id.clone()), false)
            .into_iter()
            .filter_map(|id| self.reached.get(&id).map(|package| package.name.clone()))
            .collect()
    }

    /// How many packages are not ours.
    pub fn foreign_count(&self) -> usize {
        self.reached.len().saturating_sub(self.ours.len())
    }
}

/// Name and version of every package that is really built. `cargo metadata` also lists optional ones that no feature turns
/// on; `cargo tree` does not.
fn in_use() -> Result<BTreeSet<String>> {
    let mut tree = cargo::cargo();
    tree.args(["tree", "--workspace", "--locked", "--edges=normal,build,dev", "--prefix=none", "--format={p}"]);
    tree.arg("--target=x86_64-unknown-linux-gnu");
    let text = cargo::output(&mut tree)?;
    Ok(text.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect())
}

fn reach(edges: &BTreeMap<String, Vec<Edge>>, from: impl Iterator<Item = String>, with_dev: bool) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut todo: Vec<String> = from.collect();
    while let Some(id) = todo.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let next = edges.get(&id).into_iter().flatten();
        todo.extend(next.filter(|edge| with_dev || !edge.only_dev).map(|edge| edge.to.clone()));
    }
    seen
}
