//! Writes docs/states.svg and docs/states.txt from the core's table of transitions.

use std::process::ExitCode;

use bindery_explore::diagram::{svg, text};

const USAGE: &str = "usage: states            print the diagram as text\n\
                     \x20      states --update   write it to docs/states.svg and docs/states.txt";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => print!("{}", text(None)),
        ["--update"] => return update(),
        ["--help" | "-h"] => println!("{USAGE}"),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn update() -> ExitCode {
    // Cargo names the package's folder; docs stand beside it.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| "explore".into(), std::path::PathBuf::from);
    for (name, content) in [("states.svg", svg(None)), ("states.txt", text(None))] {
        let file = package.join("../docs").join(name);
        if let Err(error) = std::fs::write(&file, content) {
            eprintln!("error: cannot write {}: {error}", file.display());
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
