//! Programs that write the generated files of `docs/`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A generated file: its name in `docs/`, and the function that writes its text.
pub type File = (&'static str, fn() -> String);

/// Runs `program`, which prints `text`, or with `--update` writes `files`. The exit code is 2 for any other argument and for
/// a file that cannot be written.
pub fn main(program: &str, text: fn() -> String, files: &[File]) -> ExitCode {
    let names: Vec<String> = files.iter().map(|(name, _)| format!("docs/{name}")).collect();
    let names = names.join(" and ");
    let update = format!("{program} --update");
    let usage =
        format!("usage: {program:width$}   print the text\n       {update}   write {names}", width = update.len());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => print!("{}", text()),
        ["--help" | "-h"] => println!("{usage}"),
        ["--update"] => {
            // Cargo names the package's folder; docs stand beside it.
            let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| "explore".into(), PathBuf::from);
            if let Err(error) = update_in(&package.join("../docs"), files) {
                eprintln!("error: {error}");
                return ExitCode::from(2);
            }
        }
        _ => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Writes `files` into `folder`.
fn update_in(folder: &Path, files: &[File]) -> Result<(), String> {
    files.iter().try_for_each(|(name, text)| {
        let file = folder.join(name);
        std::fs::write(&file, text()).map_err(|error| format!("cannot write {}: {error}", file.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        update_in(folder.path(), &[("a.txt", || "text".into())]).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("a.txt")).unwrap(), "text");
        let error = update_in(&folder.path().join("none"), &[("a.txt", String::new)]).unwrap_err();
        assert!(error.starts_with("cannot write ") && error.contains("none/a.txt"), "{error}");
    }
}
