//! Running other programs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::outcome::Trouble;

/// The repository.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// Directory of what `cargo` builds and commands fetch.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// True when the program can be started.
pub(crate) fn exists(program: &str) -> bool {
    let mut quiet = Command::new(program);
    quiet.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    !matches!(quiet_status(&mut quiet), Err(ErrorKind::NotFound))
}

fn quiet_status(command: &mut Command) -> Result<(), ErrorKind> {
    command.status().map(drop).map_err(|e| e.kind())
}

/// True when this process may install packages.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}

/// Runs a program and returns what it wrote. Its error output is part of the trouble when it fails.
pub(crate) fn output(command: &mut Command) -> Result<String, Trouble> {
    let shown = format!("{command:?}");
    let output = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Trouble::Broken(format!("{shown}: {e}")))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(Trouble::Broken(format!("{shown}: {}: {}", output.status, error.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
