//! `cargo xtask check`: what can be said of the source without running it.

use std::process::Command;

use crate::cargo::Cargo;
use crate::outcome::{Outcome, Trouble};
use crate::session::Session;
use crate::tool::{output, root};
use crate::{floors, licences, patches};

/// Feature sets of the core, apart from the one that the workspace as a whole unites to.
const CORE_FEATURES: [&str; 4] = ["", "std", "serde", "std,serde"];

/// Targets without an operating system that core and drivers are built for.
const BARE: [&str; 2] = ["aarch64-unknown-none", "x86_64-unknown-none"];

/// Runs the command.
pub(crate) fn run() -> Outcome {
    let mut session = Session::new();
    steps(&mut session);
    session.finish()
}

/// The steps, for other commands that begin with them.
pub(crate) fn steps(session: &mut Session) {
    session.step("format", || Cargo::new("fmt --all --check").run());
    session.step("clippy: workspace", || clippy("--workspace --all-targets"));
    for features in CORE_FEATURES {
        let name = if features.is_empty() { "no features" } else { features };
        session.step(&format!("clippy: core, {name}"), || {
            clippy(&format!("-p bindery --all-targets --features={features}"))
        });
    }
    session.step("clippy: drivers alone", || clippy("-p bindery-drivers"));
    session.step("documentation", || {
        Cargo::new("doc --quiet --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings").run()
    });
    for target in BARE {
        session.step(&format!("no_std build: {target}"), || {
            add_target(target)?;
            Cargo::new(&format!("build --quiet -p bindery -p bindery-drivers --target {target}")).run()
        });
    }
    session.step("floors of the core", floors::check);
    session.step("licences", licences::run);
    session.step("mutants apply, and are listed", patches::check);
}

/// Has rustup add what rust-toolchain.toml lists: it does so by itself only with a tool chain that is new here.
fn add_target(target: &str) -> Outcome {
    output(Command::new("rustup").current_dir(root()).args(["target", "add", target]))
        .map(drop)
        .map_err(|t| Trouble::Skipped(format!("rustup could not add the target: {}", t.why())))
}

fn clippy(what: &str) -> Outcome {
    Cargo::new(&format!("clippy --quiet {what} -- -D warnings")).run()
}
