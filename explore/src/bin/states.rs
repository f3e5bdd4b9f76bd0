//! Writes docs/states.svg and docs/states.txt from the core's table of transitions.

use std::process::ExitCode;

use bindery_explore::diagram::{svg, text};
use bindery_explore::generated;

fn main() -> ExitCode {
    generated::main("states", || text(None), &[("states.svg", || svg(None)), ("states.txt", || text(None))])
}
