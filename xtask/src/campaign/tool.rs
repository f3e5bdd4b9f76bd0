//! The program `cargo-mutants`, which makes the mutants and runs tests on them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::mutant::Mutant;
use super::results::Fate;
use super::stage::Stage;
use crate::cargo::Cargo;
use crate::outcome::Trouble;
use crate::patches::{PROFILE, Scratch};
use crate::tool::{output, root, target};

/// Version of the program. Another one makes other mutants: it is chosen on purpose.
const TOOL: (&str, &str) = ("cargo-mutants", "27.1.0");

/// KiB of address space that a mutant's tests may take. Each board reserves its RAM, of which it uses little, and as many are there as
/// tests run at a time.
const MEMORY: u64 = 64 << 20;

/// Mutants of one call of the program.
pub(super) const BATCH: usize = 10;

/// Times as long that tests may take, when they have not ended in time without a mutant.
const SLOW: u64 = 5;

/// Exit code of the program when the tests fail without a mutant, or do not end in time.
const BASELINE_FAILED: i32 = 4;

/// `cargo-mutants` on a scratch copy of the repository, in place: what is built for one mutant serves the next. The copy stays
/// as it was when the tool was prepared, whatever is edited meanwhile; the program takes its mutants back itself.
pub(super) struct Tool {
    program: PathBuf,
    scratch: Scratch,
    /// Held as long as the copy is in use.
    _lock: File,
    /// Stages of which the tests have passed without a mutant, and the seconds that they may take.
    sound: Vec<(Stage, u64)>,
}

impl Tool {
    /// Makes or refreshes the copy `target/COPY`, and builds the program when it is not there.
    pub(super) fn prepare(copy: &str) -> Result<Self, Trouble> {
        let program = program()?;
        let path = target().join(copy).join("lock");
        let broken = |e: io::Error| Trouble::Broken(format!("{}: {e}", path.display()));
        fs::create_dir_all(target().join(copy)).map_err(broken)?;
        let lock = File::create(&path).map_err(broken)?;
        lock.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => {
                Trouble::Broken(format!("{}: mutants are tried there already", path.display()))
            }
            fs::TryLockError::Error(e) => broken(e),
        })?;
        Ok(Self { program, scratch: Scratch::prepare(copy)?, _lock: lock, sound: Vec::new() })
    }

    /// All mutants that .cargo/mutants.toml does not exclude, or those of the lines that `diff` changes.
    pub(super) fn list(&self, diff: Option<&Path>) -> Result<Vec<Mutant>, Trouble> {
        list(&self.program, self.scratch.tree(), diff)
    }

    /// Tries `mutants`, which are of one subject, with the tests of `stage`. Returns those whose fate is known now.
    pub(super) fn run(&mut self, stage: &Stage, mutants: &[Mutant]) -> Result<Vec<(Mutant, Fate)>, Trouble> {
        let Some(first) = mutants.first() else { return Ok(Vec::new()) };
        // `nice` on a busy machine leaves little of it: tests that are only late have more time, once, and mutants then have it, too.
        let known = self.sound.iter().find(|(sound, _)| sound == stage).map(|(_, limit)| *limit);
        let limits = known.map_or([stage.limit, SLOW * stage.limit], |limit| [limit; 2]);
        let (said, limit) = match self.call(stage, first, mutants, limits[0])? {
            Called::Late => (self.call(stage, first, mutants, limits[1])?, limits[1]),
            said @ Called::Said(_) => (said, limits[0]),
        };
        let Called::Said(said) = said else {
            return Err(Trouble::Failed(format!("without a mutant, {} take longer than {limit} s", stage.name)));
        };
        if known.is_none() {
            self.sound.push((*stage, limit));
        }
        fates(&said, mutants)
    }

    /// Calls the program for `mutants`, of which `first` is one. The tests may take `limit` seconds.
    fn call(&self, stage: &Stage, first: &Mutant, mutants: &[Mutant], limit: u64) -> Result<Called, Trouble> {
        let out = self.scratch.build().with_file_name("mutants");
        // What an earlier call left must not be taken for this one's.
        let outcomes = out.join("mutants.out").join("outcomes.json");
        let _ = fs::remove_file(&outcomes);
        fs::create_dir_all(&out).map_err(|e| Trouble::Broken(format!("{}: {e}", out.display())))?;
        let baseline = if self.sound.iter().any(|(sound, _)| sound == stage) { "skip" } else { "run" };

        let mut command = Command::new("sh");
        // nice: tests that look at time must not see it go faster for others. A mutant that allocates without end must not take the machine
        // with it: where memory runs out, its tests are ended first.
        let limits = format!("ulimit -v {MEMORY}; echo 1000 2>/dev/null >/proc/self/oom_score_adj; exec nice \"$@\"");
        command.arg("-c").arg(limits).arg("sh").arg(&self.program);
        command.args(["mutants", "--in-place", "--no-times", "--colors=never", "--baseline", baseline, "--dir"]);
        command.arg(self.scratch.tree()).arg("--output").arg(&out);
        command.args(["--timeout", &limit.to_string(), "--build-timeout", "900", "--re", &exactly(mutants)]);
        command.args(["--package", &first.package]);
        // The program tries mutants that delete a field, whatever the pattern says: those of other files at least must not be.
        for file in mutants.iter().map(|mutant| &mutant.file).collect::<BTreeSet<_>>() {
            command.args(["--file", file]);
        }
        let own = [first.package.as_str()];
        for package in if stage.packages.is_empty() { &own } else { stage.packages } {
            command.args(["--test-package", package]);
        }
        for word in PROFILE.iter().chain(stage.cargo) {
            command.arg(format!("--cargo-arg={word}"));
        }
        command.args(["--", "--"]);
        for (_, name) in stage.skip.iter().filter(|(subject, _)| *subject != first.subject()) {
            command.args(["--skip", name]);
        }
        command
            .env("CARGO_TARGET_DIR", self.scratch.build())
            .env("CARGO_INCREMENTAL", "1")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null());
        // Its caller was built by cargo, too; the tool chain is the copy's own.
        command.env_remove("CARGO").env_remove("RUSTC");
        let status = command.status().map_err(|e| Trouble::Broken(format!("cargo mutants: {e}")))?;
        let said = fs::read_to_string(&outcomes)
            .map_err(|e| Trouble::Broken(format!("cargo mutants ended with {status}: {}: {e}", outcomes.display())))?;
        match status.code() {
            Some(BASELINE_FAILED) if is_late(&said)? => Ok(Called::Late),
            Some(BASELINE_FAILED) => Err(Trouble::Failed(format!("without a mutant, {} fail", stage.name))),
            _ => Ok(Called::Said(said)),
        }
    }
}

/// What became of a call of the program.
enum Called {
    /// Its `outcomes.json`.
    Said(String),
    /// Without a mutant, the tests did not end in time.
    Late,
}

/// The mutants of the working tree. Leaves the copy alone, which a campaign may be at work in.
pub(super) fn listed() -> Result<Vec<Mutant>, Trouble> {
    list(&program()?, root(), None)
}

fn list(program: &Path, tree: &Path, diff: Option<&Path>) -> Result<Vec<Mutant>, Trouble> {
    let mut list = Command::new(program);
    list.args(["mutants", "--list", "--json", "--workspace", "--dir"]).arg(tree);
    if let Some(diff) = diff {
        list.arg("--in-diff").arg(diff);
    }
    let said = output(&mut list)?;
    // A diff without any mutant is told in words.
    if diff.is_some() && !said.trim_start().starts_with('[') {
        return Ok(Vec::new());
    }
    Mutant::read_list(&said, tree)
}

/// A pattern that these mutants' names match, and no others.
fn exactly(mutants: &[Mutant]) -> String {
    let names: Vec<_> = mutants.iter().map(|mutant| escaped(&mutant.name)).collect();
    format!("^(?:{})$", names.join("|"))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    // Punctuation that a pattern may not escape.
    escaped.replace("\\<", "<").replace("\\>", ">")
}

/// True when the program's `outcomes.json` says that the tests did not end in time without a mutant.
fn is_late(json: &str) -> Result<bool, Trouble> {
    let read: Value = serde_json::from_str(json).map_err(|e| Trouble::Broken(format!("outcomes.json: {e}")))?;
    let mut outcomes = read["outcomes"].as_array().into_iter().flatten();
    Ok(outcomes.any(|outcome| outcome["scenario"] == "Baseline" && outcome["summary"] == "Timeout"))
}

/// Reads the program's `outcomes.json`.
fn fates(json: &str, mutants: &[Mutant]) -> Result<Vec<(Mutant, Fate)>, Trouble> {
    let read: Value = serde_json::from_str(json).map_err(|e| Trouble::Broken(format!("outcomes.json: {e}")))?;
    let mut fates = Vec::new();
    for outcome in read["outcomes"].as_array().into_iter().flatten() {
        let Some(name) = outcome["scenario"]["Mutant"]["name"].as_str() else { continue };
        let summary = outcome["summary"].as_str().unwrap_or_default();
        if let (Some(mutant), Some(fate)) =
            (mutants.iter().find(|mutant| mutant.name == name), Fate::of_summary(summary))
        {
            fates.push((mutant.clone(), fate));
        }
    }
    Ok(fates)
}

/// The program, built when it is not there; without optimisation, since it waits for others most of the time.
fn program() -> Result<PathBuf, Trouble> {
    let (name, version) = TOOL;
    let home = target().join("tools");
    let program = home.join("bin").join(name);
    let there = output(Command::new(&program).args(["mutants", "--version"])).is_ok_and(|said| said.contains(version));
    if !there {
        println!("building {name} {version}");
        let home = home.display().to_string();
        Cargo::new("install --quiet --locked --force --debug")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .args(&[name, "--version", version, "--root", &home])
            .run()
            .map_err(|trouble| Trouble::Skipped(format!("{name} cannot be installed: {}", trouble.why())))?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::super::mutant::tests::mutant;
    use super::*;

    #[test]
    fn outcomes_are_read_and_the_baseline_and_strangers_are_none() {
        let list = [mutant("a.rs", 1), mutant("a.rs", 2), mutant("a.rs", 3)];
        let entry = |name: &str, summary: &str| {
            format!(r#"{{"scenario": {{"Mutant": {{"name": "{name}"}}}}, "summary": "{summary}"}}"#)
        };
        let json = format!(
            r#"{{"outcomes": [{{"scenario": "Baseline", "summary": "Success"}}, {}, {}, {}]}}"#,
            entry(&list[0].name, "MissedMutant"),
            entry(&list[1].name, "CaughtMutant"),
            entry("b.rs:1:1: x", "CaughtMutant"),
        );
        let fates = fates(&json, &list).unwrap();
        assert_eq!(fates, [(list[0].clone(), Fate::Missed), (list[1].clone(), Fate::Killed)]);
    }

    #[test]
    fn tests_that_are_late_are_told_from_those_that_fail() {
        let late = |scenario: &str, summary: &str| {
            is_late(&format!(r#"{{"outcomes": [{{"scenario": {scenario}, "summary": "{summary}"}}]}}"#)).unwrap()
        };
        assert!(late(r#""Baseline""#, "Timeout"));
        assert!(!late(r#""Baseline""#, "Failure"));
        assert!(!late(r#"{"Mutant": {"name": "a.rs:1:1: x"}}"#, "Timeout"));
        assert!(is_late("").is_err());
    }

    #[test]
    fn names_are_patterns_for_themselves() {
        assert_eq!(escaped("a.rs:1:2: f<T>() -> (x|y)"), r"a\.rs\:1\:2\: f<T>\(\) \-> \(x\|y\)");
    }
}
