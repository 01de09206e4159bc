//! The systemd units start programs with words that the programs know.
#![allow(clippy::unwrap_used, reason = "tests")]

use sluice_tests::programs;
use sluice_xtask::lab::said;
use std::path::Path;
use std::process::Command;

#[test]
fn every_unit_starts_a_program_of_ours_with_a_command_and_flags_that_it_has() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut units = 0;
    for entry in std::fs::read_dir(&deploy).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "service") {
            continue;
        }
        units += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        for section in ["[Unit]", "[Service]", "[Install]"] {
            assert!(text.contains(section), "{} has no {section}", path.display());
        }
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let mut words = start.split_whitespace();
        let program = Path::new(words.next().unwrap()).file_name().unwrap().to_owned();
        let command = words.next().unwrap();
        let help = said(Command::new(programs().unwrap().join(&program)).args([command, "--help"])).unwrap();
        assert_eq!(help.code, 0, "{}: {command}: {}", path.display(), help.err);
        for flag in words.clone().filter(|word| word.starts_with("--")) {
            assert!(help.out.contains(flag), "{}: {program:?} {command} has no {flag}", path.display());
        }
        for file in words.filter(|word| word.starts_with("/etc/sluice/")) {
            let example = deploy.join(Path::new(file).file_name().unwrap());
            assert!(example.is_file(), "{} names {file}, of which there is no example", path.display());
        }
    }
    assert_eq!(units, 3, "a unit for each long-running program");
}
