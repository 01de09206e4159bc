//! `docs/openapi.json` is what the routes say.

use std::path::Path;

const UPDATE: &str = "UPDATE_EXPECT=1 cargo nextest run -p sluice-repo-server openapi_file \
                      (or: cargo run -p sluice-repo-server -- openapi > docs/openapi.json)";

#[test]
fn the_checked_in_openapi_file_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let expected = crate::http::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/openapi.json is not what the routes say; update it with: {UPDATE}");
}
