//! ARCHITECTURE.md names every crate and names none that is not there; the functions of its traces exist.

use super::graph::Graph;
use anyhow::{Context, Result};
use sluice_xtask::cargo::workspace_root;
use std::path::Path;

const LINES_MAX: usize = 300;

/// Everything in which ARCHITECTURE.md and the tree differ.
pub fn check(graph: &Graph) -> Result<Vec<String>> {
    let path = workspace_root().join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut findings = Vec::new();
    for ours in graph.ours.values() {
        if !text.contains(&format!("`{}/`", ours.folder)) {
            findings.push(format!("ARCHITECTURE.md does not name `{}/`", ours.folder));
        }
    }
    for folder in named_folders(&text) {
        if !workspace_root().join(&folder).exists() {
            findings.push(format!("ARCHITECTURE.md names `{folder}/`, which is not there"));
        }
    }
    for step in trace_steps(&text) {
        if !defines(&workspace_root(), &step) {
            findings.push(format!(
                "a trace of ARCHITECTURE.md names `{}` in {}, which does not define it",
                step.function, step.file
            ));
        }
    }
    if text.lines().count() > LINES_MAX {
        findings.push(format!("ARCHITECTURE.md has more than {LINES_MAX} lines"));
    }
    Ok(findings)
}

/// `crates/x/`, `node/` and the like, in backquotes.
fn named_folders(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| {
            word.ends_with('/')
                && word.trim_end_matches('/').contains('/')
                && !word.starts_with('/')
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_/.".contains(c))
        })
        .map(|word| word.trim_end_matches('/').to_owned())
        .collect()
}

/// A step of a trace: `file.rs::function` in backquotes, the file below the root.
struct Step {
    file: String,
    function: String,
}

fn trace_steps(text: &str) -> Vec<Step> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|word| {
            let (file, function) = word.split_once(".rs::")?;
            Some(Step { file: format!("{file}.rs"), function: function.rsplit("::").next()?.to_owned() })
        })
        .collect()
}

fn defines(root: &Path, step: &Step) -> bool {
    std::fs::read_to_string(root.join(&step.file)).is_ok_and(|code| {
        ["fn", "struct", "enum", "trait"].iter().any(|kind| {
            code.match_indices(&format!("{kind} {}", step.function)).any(|(at, found)| {
                code[at + found.len()..].chars().next().is_none_or(|next| !(next.is_alphanumeric() || next == '_'))
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_trace_steps_are_found_in_backquotes() {
        let text = "see `crates/model/` and `crates/xtask/src/cargo.rs::workspace_root`, not `/v1/` nor `x`";
        assert_eq!(named_folders(text), ["crates/model"]);
        let steps = trace_steps(text);
        assert_eq!(steps.len(), 1);
        assert!(defines(&workspace_root(), &steps[0]));
        assert!(!defines(&workspace_root(), &Step { file: steps[0].file.clone(), function: "workspace".into() }));
    }
}
