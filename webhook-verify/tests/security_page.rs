//! Every test that `SECURITY.md` names exists, and every threat names one.

use std::{fs, path::Path};

const PAGE: &str = include_str!("../SECURITY.md");

/// What stands in backticks as `path::name`.
fn named(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|text| text.split_once(".rs::"))
}

#[test]
fn every_test_that_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut absent = Vec::new();
    let mut count = 0;
    for (path, name) in named(PAGE) {
        count += 1;
        let file = root.join(format!("{path}.rs"));
        let source = fs::read_to_string(&file).unwrap_or_default();
        let found = source.find(&format!("fn {name}("));
        // An attribute of its own, or one of many in a block of properties.
        let before = &source[..found.unwrap_or(0)];
        let attribute = before.trim_end().lines().rev().take(3);
        let is_test = attribute.into_iter().any(|line| line.contains("test"));
        if found.is_none() || !is_test {
            absent.push(format!("{path}.rs::{name}"));
        }
    }
    assert!(absent.is_empty(), "no such tests: {absent:#?}");
    assert!(count > 60, "only {count} are named");
}

#[test]
fn every_fuzz_target_that_the_page_names_exists() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    let quoted = PAGE.split('`').skip(1).step_by(2);
    let mut count = 0;
    for target in quoted.filter_map(|text| text.strip_prefix("fuzz/")) {
        count += 1;
        assert!(targets.join(format!("{target}.rs")).exists(), "{target}");
    }
    assert!(count >= 5, "only {count} are named");
}

#[test]
fn every_threat_says_what_stops_it_and_which_test_shows_it() {
    let threats = PAGE.split("\n### ").skip(1);
    let mut count = 0;
    for threat in threats {
        count += 1;
        let title = threat.lines().next().unwrap_or_default();
        let body = threat.split("\n## ").next().unwrap_or_default();
        assert!(body.contains("Shown by:"), "{title}");
        assert!(named(body).next().is_some(), "{title}");
    }
    assert!(count >= 20, "only {count} threats");
}
