//! Scripts: the user's own commands at the control tree and at the disk.
//!
//! A script is read as a whole before its first command runs, so that one with an error changes nothing.

mod parse;
mod run;

pub use parse::{Command, Line, Script, parse};
pub use run::run;

use std::path::Path;

use crate::failure::Result;
use crate::load;

/// Reads the script at `path`.
pub fn open(path: &Path) -> Result<Script> {
    parse(&path.display().to_string(), &load::script(path)?)
}
