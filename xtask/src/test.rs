//! `cargo xtask test`: everything that must pass, on a machine that has nothing but rustup.

use crate::cargo::Cargo;
use crate::outcome::Outcome;
use crate::session::Session;
use crate::{bench, campaign, check, dtbs, fuzz, guest, loom, miri, patches, qtest, shuttle};

/// Number of patches in `mutants/` that one run tries of those whose files have changed lately, beside one of the others (the budget of
/// the gate allows no more): the rest have their turn with later commits, or in `long`.
const PATCHES: usize = 2;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out what fetches or takes long: loom models, shuttle, a long exploration, instruction counts, mutants, Miri,
    /// Debian's device trees and kernels
    #[arg(long)]
    quick: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    let mut session = Session::new();
    check::steps(&mut session);
    // `dtc` stands in tests, too; fetched first, so that its absence is told once and by name.
    session.step("device-tree-compiler", dtbs::compiler);
    session.step("tests", || Cargo::new("test --workspace --all-targets --no-fail-fast").run());
    session.step("tests: core with spinning locks", || Cargo::new("test -p bindery --lib --test cooperative").run());
    session.step("documentation examples", || Cargo::new("test --workspace --doc").run());
    if !args.quick {
        session.step("loom models", loom::short);
        session.step("shuttle, short", shuttle::short);
        session.step("the disk controller, explored", || {
            Cargo::new("test -p bindery-explore --test lifecycle one_fault_and_one_preemption -- --ignored").run()
        });
        session.step("small systems, explored", || {
            Cargo::new("test -p bindery-explore --test scenarios fault_and_a_preemption -- --ignored").run()
        });
        session.step("instruction counts", bench::gate);
        session.step("a mixed DMA load, ten million operations", bench::mixed::short);
        session.step("mutants, in turn", || patches::sample(PATCHES));
        session.step("mutants of what has changed", campaign::changed);
        session.step("fuzzing, a minute", fuzz::short);
        session.step("Miri, short", miri::short);
        session.step("Debian's device trees", || dtbs::run(&dtbs::Args::default()));
        session.step("the main job on real trees", || dtbs::run(&dtbs::Args::boards()));
        session.step("QEMU's devices", qtest::run);
        session.step("Debian's kernels", guest::short);
    }
    session.finish()
}
