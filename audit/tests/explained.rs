//! Each rule is explained whole.
#![allow(missing_docs, clippy::unwrap_used)]

use bindery_audit::report::{explain, rules};
use bindery_audit::rules::{COUNT, Rule};

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
        assert!(page.contains(&format!("R{n}")) || range(1, 3) || range(11, 13), "{rule} is not on the page");
    }
}
