//! Each rule is explained whole.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;

use bindery_audit::report::{explain, rules};
use bindery_audit::rules::{COUNT, Rule};
use bindery_audit::{Auditor, Options};

#[test]
fn every_rule_says_what_it_compares_why_and_what_it_needs() {
    let list = rules();
    for (rule, n) in Rule::all().zip(1..) {
        let text = rule.text();
        for words in [text.title, text.says, text.why, text.needs] {
            assert!(words.len() > 10, "{rule}: {words:?}");
        }
        let told = explain(rule);
        for words in [text.says, text.why, text.needs] {
            // Lines are filled: the words are there, whatever stands between them.
            let told: String = told.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(told.contains(words), "{rule}: {words:?} is not in {told}");
        }
        assert!(list.contains(&format!("R{n} ")) && list.contains(text.title), "{rule}: {list}");
        assert_eq!(format!("r{n}").parse::<Rule>().unwrap(), rule);
    }
    assert_eq!(list.lines().filter(|line| line.trim_start().starts_with('R')).count(), COUNT);
}

#[test]
fn the_page_has_every_rule() {
    let page = include_str!("../../docs/audit.md");
    for rule in Rule::all() {
        let n = rule.index() + 1;
        let range = |from: usize, to: usize| (from..=to).contains(&n) && page.contains(&format!("R{from} to R{to}"));
        assert!(page.contains(&format!("R{n}")) || range(1, 3), "{rule} is not on the page");
    }
}

/// Names of the fields of all objects in `value`.
fn names(value: &serde_json::Value, into: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            into.extend(fields.keys().cloned());
            fields.values().for_each(|value| names(value, into));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| names(value, into)),
        _ => {}
    }
}

#[test]
fn the_page_has_every_field_of_the_json_and_no_other() {
    let page = include_str!("../../docs/audit.md");
    let (_, text) = page.split_once("```text\nschema").unwrap();
    let text = format!("schema{}", text.split_once("```").unwrap().0);
    let is_name = |word: &&str| !word.is_empty();
    let documented: BTreeSet<String> = text
        .split(|c: char| !c.is_ascii_lowercase() && c != '_')
        .filter(is_name)
        .filter(|word| !["counts", "and", "of", "them", "each", "with"].contains(word))
        .map(str::to_owned)
        .collect();
    let mut emitted = BTreeSet::new();
    for log in [include_str!("fixtures/seed/before.log"), include_str!("fixtures/log/01-vtd-journal.log")] {
        let mut auditor = Auditor::new(Options::default());
        auditor.read("x", log.as_bytes(), &mut |_| ()).unwrap();
        names(&serde_json::from_str(&auditor.finish().json()).unwrap(), &mut emitted);
    }
    assert_eq!(documented, emitted);
}
