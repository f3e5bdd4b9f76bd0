//! README, docs/run.md and docs/tree.md show real output: what stands in a `console` block behind a `cargo run` command is printed by it.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../README.md");
const RUN: &str = include_str!("../../docs/run.md");
const TREE: &str = include_str!("../../docs/tree.md");
const PROMPT: &str = "$ cargo run --release";

/// A command of a page, and the lines of output below it; `...` stands for lines that are left out.
struct Example<'p> {
    args: Vec<&'p str>,
    shown: Vec<&'p str>,
}

/// The commands of a page that have output below them.
fn examples(page: &str) -> Vec<Example<'_>> {
    let mut all: Vec<Example<'_>> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            if let Some(args) = line.strip_prefix(PROMPT) {
                let args = args.split('#').next().unwrap().trim().trim_start_matches("--");
                all.push(Example { args: args.split_whitespace().collect(), shown: Vec::new() });
            } else if let Some(example) = all.last_mut().filter(|_| block.starts_with(PROMPT)) {
                example.shown.push(line);
            }
        }
    }
    all.retain(|example| !example.shown.is_empty());
    all
}

/// Asserts that the lines shown are printed, in their order.
fn is_printed(example: &Example<'_>) {
    let args = &example.args;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_bindery")).args(args).current_dir(root).output().unwrap();
    assert!(out.stderr.is_empty(), "{args:?}");
    let printed = String::from_utf8(out.stdout).unwrap();
    let mut printed = printed.lines();
    for line in example.shown.iter().filter(|l| !l.is_empty() && **l != "...") {
        assert!(printed.any(|p| p == *line), "{args:?} does not print, in this order: {line}");
    }
}

#[test]
fn readme_shows_what_the_commands_print() {
    let examples = examples(README);
    assert_eq!(examples.len(), 3);
    examples.iter().for_each(is_printed);
}

#[test]
fn run_page_shows_what_the_commands_print() {
    let examples = examples(RUN);
    assert_eq!(examples.iter().map(|e| e.shown.len() >= 5).collect::<Vec<_>>(), [true, true]);
    examples.iter().for_each(is_printed);
}

#[test]
fn tree_page_shows_what_the_command_prints() {
    let examples = examples(TREE);
    assert_eq!(examples.iter().map(|e| e.shown.len() >= 5).collect::<Vec<_>>(), [true]);
    examples.iter().for_each(is_printed);
}

/// Who opens the page sees the crash found in Linux's order, and the same lifecycle clean here.
#[test]
fn first_screen_shows_the_crash_and_the_clean_lifecycle() {
    let screen: String = README.split_inclusive('\n').take(45).collect();
    let examples = examples(&screen);
    let [crash, clean] = &examples[..] else { panic!("two commands with output") };
    assert_eq!(crash.args, ["explore", "--model", "linux-5.0-rc5"]);
    assert!(crash.shown[0].starts_with("BROKEN P1") && crash.shown.last().unwrap().contains("paging request fault"));
    assert_eq!(clean.args[0], "explore");
    assert!(clean.shown[0].ends_with("on the real core") && clean.shown.last().unwrap().contains("ok  no promise"));
    assert!(crash.shown.len() + clean.shown.len() <= 25);
}

/// The script that docs/run.md shows is the whole of one that runs.
#[test]
fn script_of_the_run_page_runs() {
    let script = RUN.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let path = std::env::temp_dir().join(format!("bindery-readme-{}.script", std::process::id()));
    std::fs::write(&path, script).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_bindery")).arg("--script").arg(&path).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    let printed = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && printed.matches("\n   ok  ").count() >= 4, "{printed}");
}
