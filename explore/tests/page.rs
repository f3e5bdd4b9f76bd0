//! The page in docs is what the runs write.

use bindery_explore::models::page::{COMMAND, render};

#[test]
fn the_page_of_teardown_models_is_what_the_runs_write() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/teardown-models.md");
    let page = std::fs::read_to_string(file).expect("docs/teardown-models.md can be read");
    let written = render();
    if let Some((number, (there, now))) = (1..).zip(page.lines().zip(written.lines())).find(|(_, (a, b))| a != b) {
        panic!(
            "line {number} of docs/teardown-models.md is\n  {there}\nbut the run writes\n  {now}\nupdate it: {COMMAND}"
        );
    }
    assert_eq!(page.len(), written.len(), "update docs/teardown-models.md: {COMMAND}");
}
