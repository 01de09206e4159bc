//! The help of every command is a golden file: the diff is the review.

mod support;

use expect_test::expect_file;
use std::path::Path;
use support::*;

const COMMANDS: [&[&str]; 48] = [
    &[],
    &["login"],
    &["whoami"],
    &["status"],
    &["publish"],
    &["approve"],
    &["retract"],
    &["retractions"],
    &["retractions", "show"],
    &["patches"],
    &["site"],
    &["site", "add"],
    &["site", "list"],
    &["site", "limits"],
    &["ring"],
    &["ring", "list"],
    &["key"],
    &["key", "new"],
    &["key", "show"],
    &["root"],
    &["root", "draft"],
    &["root", "sign"],
    &["root", "publish"],
    &["root", "show"],
    &["targets"],
    &["targets", "draft"],
    &["targets", "sign"],
    &["targets", "publish"],
    &["targets", "show"],
    &["calendar"],
    &["token"],
    &["token", "new"],
    &["token", "list"],
    &["token", "revoke"],
    &["token", "rotate"],
    &["nodes"],
    &["endpoints"],
    &["revoke", "node"],
    &["revoke", "endpoint"],
    &["outcomes"],
    &["compliance"],
    &["explain", "endpoint"],
    &["audit"],
    &["audit", "export"],
    &["audit", "verify"],
    &["requests"],
    &["tuf-client"],
    &["completions"],
];

#[test]
fn the_help_of_every_command_is_as_reviewed() {
    let mut all = String::new();
    for command in COMMANDS {
        let said = said(sluice(Path::new("/nonexistent")).args(command).arg("--help"), "");
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{command:?}");
        all += &format!("$ sluice {} --help\n{}\n", command.join(" "), said.out);
    }
    expect_file!["golden/help.txt"].assert_eq(&all);
}

#[test]
fn every_command_that_does_something_has_an_example() {
    for command in COMMANDS {
        let is_group =
            ["key", "root", "targets", "retractions", "site", "ring", "token"].iter().any(|group| command == [*group]);
        let said = said(sluice(Path::new("/nonexistent")).args(command).arg("--help"), "");
        assert!(is_group || said.out.contains("Example"), "{command:?}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let said = said(sluice(Path::new("/nonexistent")).args(["completions", shell]), "");
        assert!(said.code == 0 && said.out.contains("retractions"), "{shell}: {}", said.err);
    }
}
