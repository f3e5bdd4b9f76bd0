//! Gives the real core each historical bug in turn, and explores until something shows it. Writes docs/mutants.md.
//!
//! A bug that no path shows is a hole in the explorer: the command fails.

mod audited;
mod hunt;
mod page;

use std::process::ExitCode;

use bindery::mutant::Mutant;

const USAGE: &str = "\
usage: mutants            explore each bug, and compare what shows it with docs/mutants.md
       mutants --update   the same, and write docs/mutants.md
       mutants --json     the same, and print one JSON array
       mutants NAME...    explore these bugs only, and tell what happens on each path";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // A panic is a way to be noticed here; it is reported with its path.
    std::panic::set_hook(Box::new(|_| {}));
    match words[..] {
        [] => whole(&page::compare),
        ["--update"] => whole(&page::update),
        ["--json"] => whole(&page::json),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => some(&words),
    }
}

/// Explores all of them, and the core without any; `end` does what was asked for.
fn whole(end: &dyn Fn(&hunt::Hunt) -> Result<(), String>) -> ExitCode {
    let hunt = match hunt::all() {
        Ok(hunt) => hunt,
        Err(error) => return failed(2, &error),
    };
    eprintln!("{}", page::summary(&hunt));
    if let Err(error) = end(&hunt) {
        return failed(1, &error);
    }
    match hunt.trouble() {
        None => ExitCode::SUCCESS,
        Some(trouble) => failed(1, &trouble),
    }
}

/// Explores those that are named, and tells their stories.
fn some(names: &[&str]) -> ExitCode {
    let mut survived = Vec::new();
    for name in names {
        let Some(mutant) = Mutant::named(name) else {
            let known: Vec<_> = Mutant::ALL.iter().map(|m| m.name()).collect();
            return failed(2, &format!("there is no bug {name:?}; there are: {}\n{USAGE}", known.join(", ")));
        };
        let row = match hunt::one(mutant) {
            Ok(row) => row,
            Err(error) => return failed(2, &error),
        };
        println!("{}", page::line(&row));
        if let Some(kill) = &row.kill {
            kill.story.iter().for_each(|line| println!("  {line}"));
            println!("  auditor: {}", row.audited.as_ref().unwrap_or_else(|why| why));
        } else {
            survived.push(*name);
        }
    }
    if survived.is_empty() {
        return ExitCode::SUCCESS;
    }
    failed(1, &format!("no path shows {}", survived.join(", ")))
}

fn failed(code: u8, why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(code)
}
