//! Running a patch's tests, without it and with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::file::{Killer, Patch};
use super::scratch::Scratch;
use crate::failures::Failures;
use crate::outcome::Trouble;

/// A test that takes longer hangs: the bug has made it do so.
const LIMIT: Duration = Duration::from_mins(15);

/// Settings of the builds, whatever the environment says. Each patch changes a few lines of a large crate, which an
/// incremental build without optimisation takes in a fraction of the time. Packages from outside are built once.
pub(crate) const PROFILE: [&str; 4] =
    ["--config", "profile.dev.opt-level=0", "--config", "profile.dev.package.\"*\".opt-level=1"];

/// Outcome of a patch.
#[derive(Debug)]
pub(super) enum Verdict {
    Killed {
        by: String,
    },
    /// This command passes with it.
    Survived(String),
    /// This command fails with it, and its output does not say what was expected.
    SeenOtherwise {
        command: String,
        says: String,
    },
    /// This command fails, or runs no test, without it.
    Useless {
        command: String,
        why: String,
    },
    /// This command ended, but no test failed or ended the process: what it was killed by is not known.
    Unclear(String),
    DoesNotApply(String),
    DoesNotCompile,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed { by } => write!(f, "killed by {by}"),
            Self::Survived(command) => write!(f, "SURVIVED `cargo {command}`"),
            Self::SeenOtherwise { command, says } => {
                write!(f, "SEEN OTHERWISE: `cargo {command}` fails and does not say {says:?}")
            }
            Self::Useless { command, why } => write!(f, "NOT TRIED: `cargo {command}` {why}"),
            Self::Unclear(command) => {
                write!(f, "UNCLEAR: `cargo {command}` fails, and no test did (see target/patched/output.txt)")
            }
            Self::DoesNotApply(why) => write!(f, "DOES NOT APPLY: {why}"),
            Self::DoesNotCompile => f.write_str("DOES NOT COMPILE"),
        }
    }
}

enum Ended {
    Well,
    /// No test matched.
    NoTest,
    /// Tests that failed, if any did, and all that was printed.
    Badly {
        failed: Option<String>,
        output: String,
    },
}

pub(super) struct Trial<'s> {
    scratch: &'s Scratch,
}

impl<'s> Trial<'s> {
    pub(super) fn new(scratch: &'s Scratch) -> Self {
        Self { scratch }
    }

    /// Runs the tests of `patches` without them: a test that fails anyway, or a command that runs none, kills nothing. All at
    /// first, since each change between patched and unpatched sources builds most crates anew. Returns the commands that are
    /// of no use, with the reasons.
    pub(super) fn check_unpatched(&self, patches: &[Patch]) -> Result<BTreeMap<String, String>, Trouble> {
        let commands: BTreeSet<_> =
            patches.iter().flat_map(|p| &p.killers).map(|killer| killer.command.as_str()).collect();
        let mut useless = BTreeMap::new();
        for (at, command) in commands.iter().enumerate() {
            eprintln!("[{} of {}] without a patch: cargo {command}", at + 1, commands.len());
            let why = match self.cargo(command, false)? {
                Ended::Well => continue,
                Ended::NoTest => "runs no test".into(),
                Ended::Badly { failed, .. } => {
                    format!("fails without a patch: {}", failed.as_deref().unwrap_or("no test did"))
                }
            };
            eprintln!("`cargo {command}` {why}");
            useless.insert((*command).to_owned(), why);
        }
        Ok(useless)
    }

    /// Runs the tests of `patch` with it, but for those that are `useless` without it.
    pub(super) fn run(&self, patch: &Patch, useless: &BTreeMap<String, String>) -> Result<Verdict, Trouble> {
        let useless = patch.killers.iter().find_map(|killer| useless.get_key_value(&killer.command));
        if let Some((command, why)) = useless {
            return Ok(Verdict::Useless { command: command.clone(), why: why.clone() });
        }
        if let Err(why) = self.scratch.apply(&patch.path) {
            self.scratch.restore()?;
            return Ok(Verdict::DoesNotApply(why));
        }
        let verdict = self.patched(patch);
        self.scratch.restore()?;
        verdict
    }

    fn patched(&self, patch: &Patch) -> Result<Verdict, Trouble> {
        let mut by = Vec::new();
        for Killer { command, says } in &patch.killers {
            if let Ended::Badly { .. } = self.cargo(command, true)? {
                return Ok(Verdict::DoesNotCompile);
            }
            let Ended::Badly { failed, output } = self.cargo(command, false)? else {
                return Ok(Verdict::Survived(command.clone()));
            };
            if let Some(says) = says.as_ref().filter(|says| !output.contains(says.as_str())) {
                return Ok(Verdict::SeenOtherwise { command: command.clone(), says: says.clone() });
            }
            // What a watchdog says before it ends the process is as good as a test's name.
            match failed.or_else(|| says.clone()) {
                Some(failed) => by.push(failed),
                None => return Ok(Verdict::Unclear(command.clone())),
            }
        }
        Ok(Verdict::Killed { by: by.join("; ") })
    }

    /// Runs `cargo COMMAND` in the copy; its output goes to a file. With `build_only` nothing is run.
    fn cargo(&self, command: &str, build_only: bool) -> Result<Ended, Trouble> {
        let broken = |e: std::io::Error| Trouble::Broken(format!("cargo {command}: {e}"));
        let log = self.scratch.build().with_file_name("output.txt");
        let (cargo_words, test_words) = command.split_once(" -- ").unwrap_or((command, ""));
        let mut cargo = Command::new("cargo");
        cargo.args(cargo_words.split_whitespace()).args(PROFILE);
        if build_only {
            cargo.arg("--no-run");
        } else {
            cargo.arg("--no-fail-fast").arg("--").args(test_words.split_whitespace());
        }
        let file = File::create(&log).map_err(broken)?;
        cargo
            .current_dir(self.scratch.tree())
            .env("CARGO_TARGET_DIR", self.scratch.build())
            .env("RUST_BACKTRACE", "0")
            .env("CARGO_INCREMENTAL", "1")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(broken)?)
            .stderr(file)
            // A group of its own, so that the tests end with cargo.
            .process_group(0);
        let mut child = cargo.spawn().map_err(broken)?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(broken)? {
                break status;
            }
            if !build_only && begun.elapsed() > LIMIT {
                let group = format!("-{}", child.id());
                Command::new("kill").args(["-KILL", "--", &group]).status().map_err(broken)?;
                child.wait().map_err(broken)?;
                let failed = Some(format!("a hang: more than {} s", LIMIT.as_secs()));
                let output = std::fs::read(&log).map_err(broken)?;
                return Ok(Ended::Badly { failed, output: String::from_utf8_lossy(&output).into_owned() });
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let text = String::from_utf8_lossy(&std::fs::read(&log).map_err(broken)?).into_owned();
        if status.success() {
            let ran: usize = text.lines().filter_map(passed).sum();
            return Ok(if build_only || ran > 0 { Ended::Well } else { Ended::NoTest });
        }
        Ok(Ended::Badly { failed: failed_tests(&text), output: text })
    }
}

/// The count in `test result: ok. 12 passed; ...`.
fn passed(line: &str) -> Option<usize> {
    line.strip_prefix("test result: ")?.split(". ").nth(1)?.split(' ').next()?.parse().ok()
}

/// The first test that failed, and how many more; or the one that ended the process, and so has no line of its own.
fn failed_tests(text: &str) -> Option<String> {
    let failures = Failures::copy(text.as_bytes(), std::io::sink()).unwrap_or_default();
    failures.short().or_else(|| Some(format!("the end of the process in {}", text.lines().rev().find_map(broke_off)?)))
}

/// The test in `thread 'a::b' (7) panicked at ...`: a test's thread has the test's name.
fn broke_off(line: &str) -> Option<&str> {
    let (test, what) = line.strip_prefix("thread '")?.split_once('\'')?;
    (what.contains(" panicked at ") || what.contains(" has overflowed its stack")).then_some(test)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_cargos_lines() {
        assert_eq!(passed("test result: ok. 12 passed; 0 failed; 0 ignored"), Some(12));
        assert_eq!(passed("running 12 tests"), None);
        let failed = |text| failed_tests(text).unwrap_or_default();
        assert_eq!(failed("test a::b ... FAILED\ntest c ... ok\ntest d ... FAILED\n"), "a::b and 1 more");
    }

    #[test]
    fn a_test_that_ends_the_process_is_named_and_an_end_without_a_test_is_none() {
        let end = "\nerror: test failed\n  process didn't exit successfully (signal: 6, SIGABRT)\n";
        let aborted = format!("thread 'a::b' (7) panicked at x.rs:1:2:\nno\n{end}");
        assert_eq!(failed_tests(&aborted).as_deref(), Some("the end of the process in a::b"));
        let overflowed = format!("\nthread 'c' (8) has overflowed its stack\n{end}");
        assert_eq!(failed_tests(&overflowed).as_deref(), Some("the end of the process in c"));
        assert_eq!(failed_tests(end), None);
    }
}
