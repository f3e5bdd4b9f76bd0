//! The page shows these files as they are.

const PAGE: &str = include_str!("../../../test-your-driver.md");

/// Asserts that `text` stands in a block of the page, whole.
fn shown(text: &str) {
    let block = format!("\n{}\n```", text.trim_end());
    assert!(PAGE.contains(&block), "the page does not show this: {text}");
}

#[test]
fn the_page_shows_the_device_and_the_driver() {
    shown(include_str!("../src/device.rs"));
    shown(include_str!("../src/with_bug.rs"));
}

#[test]
fn the_page_shows_the_mended_lines_and_nothing_else_differs() {
    let first: Vec<&str> = include_str!("../src/with_bug.rs").lines().collect();
    let new: Vec<&str> = include_str!("../src/mended.rs").lines().filter(|line| !first.contains(line)).collect();
    let mended: Vec<&str> = new.iter().copied().filter(|line| line.starts_with("        ")).collect();
    shown(&mended.join("\n"));
    assert_eq!(new.len(), mended.len() + 2, "beside them, the first line and an import: {new:?}");
}

#[test]
fn the_page_shows_tests_that_are_run() {
    let tests = include_str!("life.rs");
    for block in PAGE.split("```rust,ignore\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        assert!(tests.contains(block.trim_end()), "no test of life.rs has this: {block}");
    }
}
