//! The example files below `deploy/` show every key with its default and are really loaded.

use crate::{AgentSettings, NodeSettings, RepoSettings, load};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use toml::{Table, Value};

fn check<S: DeserializeOwned + Serialize + Default + PartialEq + std::fmt::Debug>(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file);
    let settings: S = load(Some(&path), std::iter::empty()).unwrap();
    assert_eq!(settings, S::default(), "{file} differs from the defaults");
    let shown: Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    for (section, keys) in Table::try_from(S::default()).unwrap() {
        for key in keys.as_table().unwrap().keys() {
            let is_shown = shown.get(&section).and_then(Value::as_table).is_some_and(|table| table.contains_key(key));
            assert!(is_shown, "{file} does not show [{section}] {key}");
        }
    }
}

#[test]
fn the_example_files_show_every_key_with_its_default() {
    check::<RepoSettings>("sluice-repo.toml");
    check::<NodeSettings>("sluice-node.toml");
    check::<AgentSettings>("sluice-agent.toml");
}
