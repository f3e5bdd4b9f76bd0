//! The README shows what the command prints.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// Asserts that the `number`-th transcript of the README, of at least `least` lines, stands line by line in what `args` print.
fn transcript(number: usize, least: usize, args: &[&str]) {
    let out = Command::new(env!("CARGO_BIN_EXE_bindery")).args(args).output().unwrap();
    assert!(out.stderr.is_empty());
    let printed = String::from_utf8(out.stdout).unwrap();
    let mut printed = printed.lines();
    let readme = include_str!("../../README.md");
    let shown = readme.split("```text\n").nth(number).and_then(|s| s.split("```").next()).unwrap();
    let mut count = 0;
    for line in shown.lines().filter(|l| *l != "...") {
        count += 1;
        assert!(printed.any(|p| p == line), "the README shows, and the command does not print (in this order): {line}");
    }
    assert!(count >= least, "the README has a transcript");
}

#[test]
fn the_transcript_of_the_story_is_what_the_command_prints() {
    transcript(1, 13, &[]);
}

#[test]
fn the_transcripts_of_explorations_are_what_the_command_prints() {
    transcript(2, 4, &["explore", "--faults", "0", "--preemptions", "0"]);
    transcript(3, 13, &["explore", "--model", "linux-5.0-rc5"]);
}
