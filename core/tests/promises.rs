//! Comparison of the table of promises in ARCHITECTURE.md with the code.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bindery::promise::Promise;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Cells of the rows that begin with a promise's id.
fn rows() -> Vec<Vec<String>> {
    let page = fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| P"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// Adds the files of the core, but for tests, that contain `what`.
fn mentioned(folder: &Path, what: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "tests" {
                mentioned(&path, what, found);
            }
        // In `promise.rs` they are counted, for those that are checked elsewhere.
        } else if path.extension().is_some_and(|ext| ext == "rs") && name != "tests.rs" && name != "promise.rs" {
            let text = fs::read_to_string(&path).unwrap();
            // Unit tests stand at the end of a file.
            let tests = ["\n#[cfg(test)]\n", "\n#[cfg(all(test,"].into_iter().filter_map(|mark| text.find(mark)).min();
            let code = &text[..tests.unwrap_or(text.len())];
            if code.contains(what) {
                let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
                found.insert(path.strip_prefix(source).unwrap().display().to_string());
            }
        }
    }
}

#[test]
fn the_table_has_each_promise_and_where_it_is_checked() {
    let rows = rows();
    assert_eq!(rows.len(), Promise::COUNT, "one row for each promise: {rows:#?}");
    for (promise, row) in Promise::ALL.iter().zip(&rows) {
        assert_eq!((row.len(), &*row[0], &*row[1]), (5, promise.id(), promise.title()), "{row:?}");
        assert!(row[2].ends_with('.'), "a rule is a sentence: {row:?}");
        let mut places = BTreeSet::new();
        mentioned(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &format!("Promise::{promise:?},"), &mut places);
        let listed: BTreeSet<String> = row[3].split(", ").map(|file| file.trim_matches('`').to_owned()).collect();
        assert_eq!(listed, places, "{}: where it is checked", promise.id());
    }
}

#[test]
fn the_tests_that_show_a_promise_are_there() {
    for row in rows() {
        for name in row[4].split('`').skip(1).step_by(2) {
            let path = repository().join(name);
            assert!(path.exists(), "{}: {name} is not there", row[0]);
        }
    }
}
