//! Which crate may depend on which: `layers.toml` against the graph.

use super::graph::Graph;
use anyhow::{Context, Result};
use serde::Deserialize;
use sluice_xtask::cargo::workspace_root;
use std::collections::BTreeMap;

/// `layers.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    layers: Layers,
    inside: BTreeMap<String, Vec<String>>,
    homes: BTreeMap<String, Vec<String>>,
    fixed: Fixed,
    never: BTreeMap<String, Vec<String>>,
    /// Supply chain.
    pub supply: Supply,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Layers {
    tools: Vec<String>,
    programs: Vec<String>,
    adapters: Vec<String>,
    cores: Vec<String>,
    vocabulary: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixed {
    packages: Vec<String>,
    paths: Vec<String>,
}

/// What may come from outside.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supply {
    pub banned: Vec<String>,
    pub licences: Vec<String>,
}

impl Rules {
    /// Reads `layers.toml` of the workspace.
    pub fn read() -> Result<Self> {
        let path = workspace_root().join("layers.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} cannot be used", path.display()))
    }

    /// 0 is the lowest layer.
    fn layer(&self, name: &str) -> Option<usize> {
        let layers = &self.layers;
        [&layers.vocabulary, &layers.cores, &layers.adapters, &layers.programs, &layers.tools]
            .iter()
            .position(|members| members.iter().any(|member| member == name))
    }
}

/// Everything about arrows, homes and fixed parts that is not as it should be.
pub fn check(graph: &Graph, rules: &Rules) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, ours) in &graph.ours {
        let Some(layer) = rules.layer(name) else {
            findings.push(format!("crate {name} ({}) is in no layer of layers.toml; add it to one", ours.folder));
            continue;
        };
        for (dependency, only_tests) in &ours.direct {
            if let Some(short) = dependency.strip_prefix("sluice-") {
                findings.extend(arrow(rules, name, layer, short));
            } else if !only_tests {
                findings.extend(home(rules, name, layer, dependency));
            }
        }
    }
    findings.extend(fixed(graph, rules));
    for (name, packages) in &rules.never {
        let linked = graph.linked_by(name);
        findings.extend(
            packages
                .iter()
                .filter(|package| linked.contains(*package))
                .map(|package| format!("{name} links {package}")),
        );
    }
    findings
}

fn arrow(rules: &Rules, from: &str, from_layer: usize, to: &str) -> Option<String> {
    let tools = 4;
    let to_layer = rules.layer(to)?;
    let listed = rules.inside.get(from).is_some_and(|allowed| allowed.iter().any(|name| name == to));
    let allowed = from_layer == tools || to_layer < from_layer || (to_layer == from_layer && listed);
    (!allowed).then(|| format!("arrow {from} -> {to} is not allowed by layers.toml"))
}

fn home(rules: &Rules, from: &str, from_layer: usize, package: &str) -> Option<String> {
    let homes = rules.homes.get(package)?;
    let allowed = from_layer == 4 || homes.iter().any(|home| home == from);
    (!allowed).then(|| format!("{from} depends on {package}, whose home is {}", homes.join(", ")))
}

fn fixed(graph: &Graph, rules: &Rules) -> Vec<String> {
    let mut linked = graph.linked_by("node");
    linked.extend(graph.linked_by("repo-server"));
    let packages = rules.fixed.packages.iter().filter(|package| !linked.contains(*package));
    let paths = rules.fixed.paths.iter().filter(|path| !workspace_root().join(path).exists());
    packages
        .map(|package| format!("{package} is fixed by the design and neither node nor repo-server links it"))
        .chain(paths.map(|path| format!("{path} is fixed by the design and is absent")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules::read().unwrap()
    }

    #[test]
    fn an_arrow_that_points_up_or_sideways_is_found() {
        let rules = rules();
        let check = |from: &str, to: &str| arrow(&rules, from, rules.layer(from).unwrap(), to);
        assert!(check("exchange", "transport").is_some());
        assert!(check("node", "agent").is_some());
        assert!(check("metadata", "content").is_some());
        assert!(check("state-store", "identity").is_some());
        assert_eq!(check("exchange", "content"), None);
        assert_eq!(check("node", "overlay"), None);
        assert_eq!(check("xtask", "node"), None);
    }

    #[test]
    fn a_technology_outside_its_home_is_found() {
        let rules = rules();
        assert!(home(&rules, "node", rules.layer("node").unwrap(), "libp2p").is_some());
        assert_eq!(home(&rules, "overlay", rules.layer("overlay").unwrap(), "libp2p"), None);
    }

    #[test]
    fn a_program_that_may_not_hold_a_crate_is_found_with_it() {
        let graph = Graph::read().unwrap();
        let mut rules = rules();
        assert!(rules.never["node"].iter().any(|package| package == "flate2"));
        rules.never.get_mut("node").unwrap().push("libp2p".into());
        assert!(check(&graph, &rules).iter().any(|finding| finding == "node links libp2p"));
    }

    #[test]
    fn the_workspace_as_it_is_has_no_forbidden_arrow() {
        let graph = Graph::read().unwrap();
        assert_eq!(check(&graph, &rules()), Vec::<String>::new());
    }
}
