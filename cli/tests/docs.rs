//! The pages of the commands agree with the commands: options, and fields of JSON.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::bindery;
use serde_json::Value;

/// The page `name` of docs.
fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap()
}

/// Every `--option` in `text`.
fn options(text: &str) -> BTreeSet<String> {
    let found = text.split("--").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len());
        rest[..end].trim_end_matches('-')
    });
    found.filter(|name| name.len() > 1).map(|name| format!("--{name}")).collect()
}

/// The options that the help of `command` lists: the first on each line that begins with one.
fn listed(command: &str) -> BTreeSet<String> {
    let help = bindery([command, "--help"]).good();
    let first = |line: &str| {
        let entry = line.trim_start().strip_prefix('-')?;
        let long = entry.strip_prefix('-').or_else(|| entry.split_once(", --").map(|(_, long)| long))?;
        options(&format!("--{long}")).into_iter().find(|option| long.starts_with(&option[2..]))
    };
    help.lines().filter_map(first).collect()
}

/// First cells of the rows of all tables of `text`, with what is behind.
fn rows(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"))
}

/// Options that a page need not name: those of every command, and the long form of `-o`.
const UNNAMED: [&str; 3] = ["--help", "--color", "--output"];

#[test]
fn every_option_is_on_its_page_and_every_option_of_a_table_is_there() {
    for (command, name) in [("run", "run.md"), ("tree", "tree.md"), ("explore", "explore.md"), ("audit", "audit.md")] {
        let (page, known) = (page(name), listed(command));
        assert!(known.len() > 3, "{command}: {known:?}");
        let named = options(&page);
        for option in known.iter().filter(|option| !UNNAMED.contains(&option.as_str())) {
            assert!(named.contains(option), "docs/{name} does not name {option} of `bindery {command}`");
        }
        for (cell, _) in rows(&page).filter(|(cell, _)| cell.starts_with("`--")) {
            let unknown: Vec<_> = options(cell).into_iter().filter(|option| !known.contains(option)).collect();
            assert!(unknown.is_empty(), "docs/{name} has a row for {unknown:?}, which `bindery {command}` has not");
        }
    }
}

/// The defaults in the table of docs/explore.md are those that the help names.
#[test]
fn defaults_on_the_page_are_those_of_the_command() {
    let (page, help) = (page("explore.md"), bindery(["explore", "--help"]).good());
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut seen = 0;
    for (cell, rest) in rows(&page).filter(|(cell, _)| cell.starts_with("`--")) {
        let option = options(cell).pop_first().unwrap();
        let default = rest.trim().split(" |").next().unwrap().trim_matches('`');
        let of_option = help
            .split(&format!(" {option} <"))
            .nth(1)
            .unwrap_or_else(|| panic!("{option}"))
            .split(" --")
            .next()
            .unwrap();
        if let Some((_, named)) = of_option.split_once("[default: ") {
            assert_eq!(named.split(']').next().unwrap(), default, "{option}");
            seen += 1;
        }
    }
    assert!(seen >= 3, "only {seen} defaults were compared");
}

/// The names in the first cells of the table that begins behind `start`.
fn fields(page: &str, start: &str) -> BTreeSet<String> {
    let table = page.split(start).nth(1).unwrap_or_else(|| panic!("docs/explore.md has no {start:?}"));
    let table = table.split_once("---|\n").unwrap().1.split("\n\n").next().unwrap();
    rows(table).flat_map(|(cell, _)| cell.split(", ").map(|name| name.trim_matches('`').to_owned())).collect()
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&bindery(["explore", "--json"].iter().chain(args)).out).unwrap()
}

#[test]
fn the_fields_of_a_report_are_those_of_the_page() {
    let page = page("explore.md");
    let rc5 = ["--model", "linux-5.0-rc5", "--threads", "1"];
    let whole = json(&rc5);
    let early = json(&[&rc5[..], &["--bound", "paths=2", "--paths", "3"]].concat());
    let all: BTreeSet<String> = keys(&whole).into_iter().chain(keys(&early)).collect();
    assert_eq!(fields(&page, "## The report as JSON"), all);
    assert_eq!(fields(&page, "A finding is one kind of broken promise"), keys(&whole["findings"][0]));
    let bounds = page.lines().find(|line| line.starts_with("| `bounds` |")).unwrap();
    for field in keys(&whole["bounds"]) {
        assert!(bounds.contains(&format!("`{field}`")), "docs/explore.md does not name {field} of bounds");
    }
    let replay = json(&["--model", "linux-5.0-rc5", "--replay", "-"]);
    let text = page.split("`--replay PATH --json` prints another object").nth(1).unwrap().split("\n\n").next().unwrap();
    for field in keys(&replay).into_iter().chain(keys(&replay["steps"][0])).chain(keys(&replay["violations"][0])) {
        assert!(text.contains(&format!("`{field}`")), "docs/explore.md does not name {field} of a replay");
    }
}
