//! The page in docs is what the runs write.

use bindery_explore::orders::page::{COMMAND, render};

#[test]
fn the_page_of_teardown_orders_is_what_the_runs_write() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/teardown-orders.md");
    let page = std::fs::read_to_string(file).expect("docs/teardown-orders.md can be read");
    let written = render();
    if let Some((number, (there, now))) = (1..).zip(page.lines().zip(written.lines())).find(|(_, (a, b))| a != b) {
        panic!(
            "line {number} of docs/teardown-orders.md is\n  {there}\nbut the run writes\n  {now}\nupdate it: {COMMAND}"
        );
    }
    assert_eq!(page.len(), written.len(), "update docs/teardown-orders.md: {COMMAND}");
}
