//! Developer commands: `cargo xtask COMMAND`, the same that CI runs.

mod bench;
mod campaign;
mod cargo;
mod check;
mod dtbs;
mod failures;
mod floors;
mod fuzz;
mod guest;
mod install;
mod licences;
mod long;
mod loom;
mod miri;
mod mutants;
mod outcome;
mod package;
mod patches;
mod qtest;
mod session;
mod shuttle;
mod small;
mod test;
mod tool;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything a developer does to this repository.
///
/// Exit code 0: done and good. 1: a check failed. 2: wrong arguments, or a tool failed. 77: skipped, because this machine
/// lacks what the command needs; the line that says so begins with `skipped`. `test` and `long` go on without what they
/// lack, and name and count it in their last lines; with CI=true in the environment that is a failure.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Format, lints, documentation, builds without std, floors, licences
    Check,
    /// The host tool as static programs, for each architecture; each must be below 4 MiB
    Bindctl(small::Args),
    /// The auditor with its recorder as static programs, for each architecture; each must be below 4 MiB
    Auditor(small::Args),
    /// Checks that the core's modules import downwards only
    Floors(floors::Args),
    /// libFuzzer on what the auditor reads
    Fuzz(fuzz::Args),
    /// The host tool on a stock Debian kernel under QEMU
    Guest(guest::Args),
    /// The core on QEMU's device models, without a guest
    Qtest,
    /// Everything that must pass; sets up what it needs
    Test(test::Args),
    /// The core's unit tests under Miri
    Miri(miri::Args),
    /// The host tool as a Debian package: installed, used and purged in a small Debian, its initramfs images booted
    Package(package::Args),
    /// The models of the small pieces made of atomics, in every interleaving
    Loom(loom::Args),
    /// Each bug of mutants/, put into a scratch copy; the tests that it names must fail
    Mutants(mutants::Args),
    /// Whole machines with threads, in many orders
    Shuttle(shuttle::Args),
    /// Campaigns that take an hour: many cases, long races, all interleavings
    Long(long::Args),
    /// The table of docs/benchmarks.md, the gate of its counts, or the benchmarks of criterion
    Bench(bench::Args),
    /// Describe every device tree of Debian's arm64 kernel and compare with an independent reader
    Dtbs(dtbs::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Check => check::run(),
        Command::Test(args) => test::run(&args),
        Command::Miri(args) => miri::run(&args),
        Command::Bindctl(args) => small::BINDCTL.run(&args),
        Command::Auditor(args) => small::AUDIT.run(&args),
        Command::Floors(args) => floors::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Guest(args) => guest::run(&args),
        Command::Qtest => qtest::run(),
        Command::Package(args) => package::run(&args),
        Command::Loom(args) => loom::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::Shuttle(args) => shuttle::run(&args),
        Command::Long(args) => long::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Dtbs(args) => dtbs::run(&args),
    };
    outcome::report(outcome)
}
