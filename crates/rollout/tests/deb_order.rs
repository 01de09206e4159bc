//! The order of Debian versions, against the examples of the policy and against the real dpkg.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use proptest::prelude::*;
use sluice_rollout::deb_version::compare;
use std::cmp::Ordering;
use std::process::Command;

/// Ascending; each is older than all after it.
const ASCENDING: &[&str] = &[
    "0~~",
    "0~~a",
    "0~",
    "0",
    "0a",
    "0+b",
    "1.0~beta1~svn1245",
    "1.0~beta1",
    "1.0",
    "1.0-0.1",
    "1.0-1~bpo1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1+deb12u1",
    "1.0a",
    "1.0.1",
    "1.2",
    "1.10",
    "2.0.2-1",
    "2.0.2-1-1",
    "10",
    "123456789012345678901234567890",
    "1:0.1",
    "2:0",
];

#[test]
fn every_version_of_an_ascending_list_is_older_than_those_after_it() {
    for (left_idx, left) in ASCENDING.iter().enumerate() {
        for (right_idx, right) in ASCENDING.iter().enumerate() {
            assert_eq!(compare(left, right), left_idx.cmp(&right_idx), "{left} against {right}");
        }
    }
}

#[test]
fn what_dpkg_calls_equal_is_equal() {
    for (left, right) in [("1.0", "1.0-0"), ("0:1.0", "1.0"), ("1.00", "1.0"), ("1.0-01", "1.0-1"), ("1.", "1.0")] {
        assert_eq!(compare(left, right), Ordering::Equal, "{left} against {right}");
    }
}

fn dpkg_says(left: &str, right: &str) -> Option<Ordering> {
    for (operator, ordering) in [("lt", Ordering::Less), ("eq", Ordering::Equal), ("gt", Ordering::Greater)] {
        let output = Command::new("dpkg").args(["--compare-versions", left, operator, right]).output().ok()?;
        if output.status.success() {
            return Some(ordering);
        }
    }
    None
}

fn have_dpkg() -> bool {
    let found = Command::new("dpkg").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        skip("deb_order", "comparison with the real dpkg, which this machine lacks");
    }
    found
}

#[test]
fn the_list_is_in_the_order_of_the_real_dpkg() {
    if !have_dpkg() {
        return;
    }
    for pair in ASCENDING.windows(2) {
        assert_eq!(dpkg_says(pair[0], pair[1]), Some(Ordering::Less), "{} against {}", pair[0], pair[1]);
    }
    for (left, right) in [("1.0", "1.0-0"), ("0:1.0", "1.0"), ("1.00", "1.0"), ("1.0-01", "1.0-1")] {
        assert_eq!(dpkg_says(left, right), Some(Ordering::Equal), "{left} against {right}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn made_up_versions_are_ordered_as_the_real_dpkg_orders_them(
        left in "([0-2]:)?[0-9][0-9a-z.+~]{0,6}(-[0-9a-z.+~]{1,4})?",
        right in "([0-2]:)?[0-9][0-9a-z.+~]{0,6}(-[0-9a-z.+~]{1,4})?",
    ) {
        if have_dpkg() {
            prop_assert_eq!(Some(compare(&left, &right)), dpkg_says(&left, &right), "{} against {}", left, right);
        }
    }

    #[test]
    fn the_order_is_total_and_antisymmetric_for_any_text(left in ".{0,12}", right in ".{0,12}") {
        prop_assert_eq!(compare(&left, &right), compare(&right, &left).reverse());
        prop_assert_eq!(compare(&left, &left), Ordering::Equal);
    }
}

/// Says visibly that something could not be tested; `cargo xtask test` lists what stands in this folder.
fn skip(test: &str, reason: &str) {
    println!("skipped: {test}: {reason}");
    if let Some(folder) = std::env::var_os("SLUICE_SKIPPED_DIR") {
        let _ = std::fs::write(std::path::Path::new(&folder).join(test), reason);
    }
}
