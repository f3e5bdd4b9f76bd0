//! `cargo xtask qtest`: what needs QEMU's device models, without a guest.

use crate::cargo::Cargo;
use crate::install::install;
use crate::outcome::Outcome;
use crate::tool::exists;

/// The programs, and Debian's packages that have them.
const QEMU: [(&str, &str); 2] = [("qemu-system-x86_64", "qemu-system-x86"), ("qemu-system-aarch64", "qemu-system-arm")];

/// Runs the command.
pub(crate) fn run() -> Outcome {
    let missing: Vec<&str> = QEMU.iter().filter(|(program, _)| !exists(program)).map(|(_, package)| *package).collect();
    install(&missing)?;
    Cargo::new("test -p bindery-qtest -- --ignored").run()?;
    Cargo::new("test -p bindery-explore --test qemu -- --ignored").run()?;
    Cargo::new("test -p bindery-cli --test qemu -- --ignored").run()
}
