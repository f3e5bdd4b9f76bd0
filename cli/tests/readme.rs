//! The project's page shows what the command prints.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn the_transcript_of_the_readme_is_what_the_command_prints() {
    let out = Command::new(env!("CARGO_BIN_EXE_bindery")).output().unwrap();
    assert!(out.status.success());
    let printed = String::from_utf8(out.stdout).unwrap();
    let mut printed = printed.lines();
    let readme = include_str!("../../README.md");
    let shown = readme.split("```text\n").nth(1).and_then(|s| s.split("```").next()).unwrap();
    let mut count = 0;
    for line in shown.lines().filter(|l| *l != "...") {
        count += 1;
        assert!(printed.any(|p| p == line), "the README shows, and the command does not print (in this order): {line}");
    }
    assert!(count > 20, "the README has a transcript");
}
