//! docs/states.svg and docs/states.txt are what the core's table of transitions says.

use bindery_explore::diagram::{COMMAND, svg, text};

#[test]
fn the_diagram_in_the_documentation_is_made_from_the_table() {
    for (name, now) in [("states.svg", svg(None)), ("states.txt", text(None))] {
        let file = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
        let there = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("docs/{name} can be read: {e}"));
        assert!(there == now, "docs/{name} is not what the table says; update it: {COMMAND}");
    }
}
