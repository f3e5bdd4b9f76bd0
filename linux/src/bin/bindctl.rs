//! The `bindctl` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    bindery_linux::command::main()
}
