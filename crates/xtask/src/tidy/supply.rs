//! What may come from outside: banned crates, licences, sources.

use super::graph::{Graph, Package};
use super::layers::{Rules, Supply};

/// Every package that may not be here.
pub fn check(graph: &Graph, rules: &Rules) -> Vec<String> {
    graph.reached.values().filter_map(|package| judge(package, &rules.supply)).collect()
}

fn judge(package: &Package, supply: &Supply) -> Option<String> {
    let named = format!("{} {}", package.name, package.version);
    if supply.banned.contains(&package.name) {
        return Some(format!("{named} is banned"));
    }
    if package.source.as_deref().is_some_and(|source| !source.starts_with("registry+")) {
        return Some(format!("{named} does not come from the registry"));
    }
    match (&package.license, &package.license_file) {
        (Some(licence), _) if is_allowed(licence, &supply.licences) => None,
        (Some(licence), _) => Some(format!("{named} has the licence {licence}, which layers.toml does not allow")),
        (None, _) => Some(format!("{named} states no licence")),
    }
}

/// Reads the SPDX expressions that occur: alternatives of conjunctions, with at most one level of parentheses.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    if let Some((before, rest)) = expression.split_once('(')
        && let Some((inner, after)) = rest.split_once(')')
    {
        let inner_ok = is_allowed(inner, allowed);
        let word = if inner_ok { allowed.first().cloned().unwrap_or_default() } else { "not-allowed".into() };
        return is_allowed(&format!("{before}{word}{after}"), allowed);
    }
    expression
        .split(" OR ")
        .any(|choice| choice.split(" AND ").all(|part| allowed.iter().any(|name| name == part.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions_are_read() {
        let allowed: Vec<String> = ["MIT", "Apache-2.0", "ISC"].map(String::from).into();
        for good in ["MIT", "MIT OR GPL-3.0", "Apache-2.0 AND ISC", "(MIT OR GPL-3.0) AND ISC", "MIT/Apache-2.0"] {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-2.0 OR GPL-3.0) AND MIT", ""] {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn a_banned_crate_would_be_found() {
        let graph = Graph::read().unwrap();
        let mut rules = Rules::read().unwrap();
        rules.supply.banned.push("blake3".into());
        assert!(check(&graph, &rules).iter().any(|finding| finding.contains("blake3") && finding.contains("banned")));
    }
}
