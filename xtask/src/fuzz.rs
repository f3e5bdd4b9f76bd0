//! `cargo xtask fuzz`: libFuzzer on what the auditor reads, guided by coverage. Any panic fails the command, and leaves its
//! input.

use std::fs;

use crate::cargo::Cargo;
use crate::outcome::{Outcome, Trouble};
use crate::tool::{root, target};

/// The targets in `audit/fuzz`, with the share of the time that each gets, in percent.
const TARGETS: [(&str, u64); 2] = [("audit", 90), ("patterns", 10)];

/// Compiler flags for counting the edges that an input reaches.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// The flags are for the targets alone, not for what runs while they are built: that takes a target by name.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds in all, without the build
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
}

impl Default for Args {
    fn default() -> Self {
        Self { seconds: 3600 }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Err(Trouble::Skipped(format!("the fuzz targets are built for {TRIPLE}")));
    }
    Cargo::new("build --release --manifest-path audit/fuzz/Cargo.toml --target")
        .args(&[TRIPLE])
        .env("RUSTFLAGS", FLAGS)
        .target_dir("fuzz")
        .run()?;
    for (name, share) in TARGETS {
        let found = target().join("fuzz").join("corpus").join(name);
        fs::create_dir_all(&found).map_err(|e| Trouble::Broken(format!("{}: {e}", found.display())))?;
        let program = target().join("fuzz").join(TRIPLE).join("release").join(name);
        let time = format!("-max_total_time={}", (args.seconds * share / 100).max(1));
        let fixtures = root().join("audit/tests/fixtures");
        let crashes = format!("-artifact_prefix={}/", target().join("fuzz").display());
        let mut command = std::process::Command::new(&program);
        command.args([
            time.as_str(),
            "-max_len=16384",
            "-timeout=20",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            &crashes,
        ]);
        // What is found is kept in the first folder; the others are only read.
        command.arg(&found);
        if name == "audit" {
            command.args(["log", "seed", "wrapped"].map(|folder| fixtures.join(folder)));
        }
        let status = command.status().map_err(|e| Trouble::Broken(format!("{}: {e}", program.display())))?;
        if !status.success() {
            return Err(Trouble::Failed(format!(
                "{name}: {status}; its input is below {}",
                target().join("fuzz").display()
            )));
        }
    }
    Ok(())
}

/// The form that `cargo xtask test` runs.
pub(crate) fn short() -> Outcome {
    run(&Args { seconds: 60 })
}
