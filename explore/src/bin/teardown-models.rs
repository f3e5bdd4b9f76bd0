//! Writes docs/teardown-models.md: explores every tear-down model, and prints the page, or updates the file.

use std::process::ExitCode;

use bindery_explore::generated;
use bindery_explore::models::page::render;

fn main() -> ExitCode {
    generated::main("teardown-models", render, &[("teardown-models.md", render)])
}
