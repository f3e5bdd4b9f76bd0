//! Writes docs/teardown-models.md: explores every tear-down model, and prints the page, or updates the file.

use std::process::ExitCode;

const USAGE: &str = "usage: teardown-models            print the page\n\
                     \x20      teardown-models --update   write it to docs/teardown-models.md";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => {
            print!("{}", bindery_explore::models::page::render());
            ExitCode::SUCCESS
        }
        ["--update"] => update(),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn update() -> ExitCode {
    // Cargo names the package's folder; docs stand beside it.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| "explore".into(), std::path::PathBuf::from);
    let file = package.join("../docs/teardown-models.md");
    match std::fs::write(&file, bindery_explore::models::page::render()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot write {}: {error}", file.display());
            ExitCode::from(2)
        }
    }
}
