//! docs/threats.md names every attack of the design with tests that exist.

use anyhow::{Context, Result};
use sluice_xtask::cargo::workspace_root;
use std::path::Path;

/// Attacks of the design, numbered from 1.
const ATTACKS: usize = 28;

/// Everything in which docs/threats.md and the tests differ.
pub fn check() -> Result<Vec<String>> {
    let path = workspace_root().join("docs/threats.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(findings(&text, &|file| std::fs::read_to_string(workspace_root().join(Path::new(file))).ok()))
}

/// The same for a text and a way to read source files.
fn findings(text: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let rows: Vec<(usize, &str)> = text.lines().filter_map(row).collect();
    let mut findings = Vec::new();
    for attack in 1..=ATTACKS {
        let tests: Vec<&str> =
            rows.iter().filter(|(number, _)| *number == attack).flat_map(|(_, line)| named_tests(line)).collect();
        if tests.is_empty() {
            findings.push(format!("docs/threats.md names no test for attack {attack}"));
        }
        for test in tests {
            if !is_there(test, read) {
                findings.push(format!("docs/threats.md names `{test}` for attack {attack}, and there is no such test"));
            }
        }
    }
    findings
}

/// `| 7 | ...`: the number of the attack and the line.
fn row(line: &str) -> Option<(usize, &str)> {
    let number = line.strip_prefix("| ")?.split(' ').next()?;
    Some((number.parse().ok()?, line))
}

/// `file.rs::test` in backquotes.
fn named_tests(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).filter(|word| word.contains(".rs::")).collect()
}

/// Whether the file has a function of that name with a test attribute before it.
fn is_there(test: &str, read: &dyn Fn(&str) -> Option<String>) -> bool {
    let Some((file, name)) = test.split_once("::") else { return false };
    let Some(code) = read(file) else { return false };
    let Some((before, _)) = code.split_once(&format!("fn {name}()")) else { return false };
    let attributes = before.rfind(['}', ';']).map_or(before, |end| &before[end..]);
    ["#[test]", "#[tokio::test"].iter().any(|attribute| attributes.contains(attribute))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str =
        "fn helper() {}\n#[test]\nfn a_test() {}\n#[tokio::test(flavor = \"multi_thread\")]\nasync fn other() {}\n";

    fn read(file: &str) -> Option<String> {
        (file == "a.rs").then(|| CODE.to_owned())
    }

    fn table(of_the_third: &str) -> String {
        let row = |attack: usize| match attack {
            3 => format!("| 3 | x | {of_the_third} |\n"),
            _ => format!("| {attack} | x | `a.rs::a_test` `a.rs::other` |\n"),
        };
        (1..=ATTACKS).map(row).collect()
    }

    #[test]
    fn an_attack_without_a_test_and_a_test_that_is_not_there_are_found() {
        assert_eq!(findings(&table("`a.rs::a_test`"), &read), Vec::<String>::new());
        assert_eq!(findings(&table("nothing"), &read), ["docs/threats.md names no test for attack 3"]);
        for missing in ["`a.rs::gone`", "`b.rs::a_test`", "`a.rs::helper`", "`a.rs::a_tes`"] {
            let found = findings(&table(missing), &read);
            assert_eq!(found.len(), 1, "{missing}: {found:?}");
            assert!(found[0].contains("there is no such test"), "{found:?}");
        }
    }
}
