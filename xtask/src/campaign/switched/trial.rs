//! Tests that reach a mutant, and what they say about it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::build::Program;
use super::{Stage, Switches};
use crate::campaign::results::Fate;
use crate::outcome::Trouble;

/// KiB of address space of the tests of one mutant, of which several are tried at a time.
const MEMORY: u64 = 6 << 20;

/// Tests of one call, from the quickest on: most mutants end in the first one, and each call takes time of its own.
const CALLS: [usize; 2] = [25, usize::MAX];

/// The tests of a stage, with what each one reaches.
pub(crate) struct Suite {
    programs: Vec<Program>,
    tests: Vec<Test>,
}

struct Test {
    program: usize,
    name: String,
    takes: Duration,
    /// Numbers of the mutants that it reaches, in order.
    reaches: Vec<usize>,
}

/// Builds the tests of `stage`, and runs each by itself, without a mutant.
pub(crate) fn suite(
    switches: &mut Switches,
    stage: &Stage,
    package: &str,
    at_a_time: usize,
    longest: Duration,
) -> Result<Suite, Trouble> {
    let programs = switches.build(stage, package)?;
    let mut names = Vec::new();
    for (at, program) in programs.iter().enumerate() {
        let ignored = program.list(&["--ignored"])?;
        names.extend(program.list(&[])?.into_iter().filter(|name| !ignored.contains(name)).map(|name| (at, name)));
    }
    println!("{} tests of {}", names.len(), stage.name);
    let count = switches.mutants.len();
    let tests = at_once(at_a_time, names, |worker, (at, name)| {
        let reached = std::env::temp_dir().join(format!("reached-{}-{worker}", std::process::id()));
        let broken = |e: io::Error| Trouble::Broken(format!("{}: {e}", reached.display()));
        fs::write(&reached, vec![0; count]).map_err(broken)?;
        let begin = Instant::now();
        let mut command = programs[at].command(&[&name]);
        let ended = wait(&mut command.env("MUTANT_REACHED", &reached).spawn().map_err(broken)?, longest);
        let takes = begin.elapsed();
        let marks = fs::read(&reached).map_err(broken)?;
        let _ = fs::remove_file(&reached);
        let why = match ended {
            Some(status) if status.success() => None,
            Some(_) => Some("fails"),
            None => Some("takes long"),
        };
        if let Some(why) = why {
            println!("without a mutant, {name} {why}; left out ({})", programs[at].path.display());
            return Ok(None);
        }
        let reaches = marks.iter().enumerate().filter(|(_, mark)| **mark != 0).map(|(n, _)| n).collect();
        Ok(Some(Test { program: at, name, takes, reaches }))
    })?;
    Ok(Suite { programs, tests: tests.into_iter().flatten().collect() })
}

impl Suite {
    /// Tries `mutants`, and tells `each` its fate.
    pub(crate) fn try_all(
        &self,
        switches: &Switches,
        stage: &Stage,
        mutants: Vec<usize>,
        at_a_time: usize,
        each: impl Fn(usize, Fate) -> Result<(), Trouble> + Sync,
    ) -> Result<(), Trouble> {
        let lock = Mutex::new(());
        at_once(at_a_time, mutants, |_, n| {
            let subject = switches.mutants[n].subject();
            let fate = self
                .fate(n, |name| stage.skip.iter().all(|(whose, begin)| *whose == subject || !name.contains(begin)))?;
            let _one = lock.lock();
            each(n, fate)
        })
        .map(drop)
    }

    fn fate(&self, n: usize, wanted: impl Fn(&str) -> bool) -> Result<Fate, Trouble> {
        let mut tests: Vec<&Test> =
            self.tests.iter().filter(|t| t.reaches.binary_search(&n).is_ok() && wanted(&t.name)).collect();
        tests.sort_by_key(|test| test.takes);
        let mut tests = tests.into_iter();
        for call in CALLS {
            let mut by_program: BTreeMap<usize, Vec<&Test>> = BTreeMap::new();
            for test in tests.by_ref().take(call) {
                by_program.entry(test.program).or_default().push(test);
            }
            for (program, tests) in by_program {
                let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
                let mut command = self.programs[program].command(&names);
                command.args(["-Z", "unstable-options", "--fail-fast"]);
                command.env("RUSTC_BOOTSTRAP", "1").env("MUTANT_ON", n.to_string());
                let limit = Duration::from_secs(10) + 8 * tests.iter().map(|test| test.takes).sum::<Duration>();
                let mut child = command.spawn().map_err(|e| Trouble::Broken(format!("{command:?}: {e}")))?;
                match wait(&mut child, limit) {
                    None => return Ok(Fate::TimedOut),
                    Some(status) if !status.success() => return Ok(Fate::Killed),
                    Some(_) => {}
                }
            }
        }
        Ok(Fate::Missed)
    }
}

impl Program {
    /// Runs the tests `names`, one after the other.
    fn command(&self, names: &[&str]) -> Command {
        let mut command = self.limited();
        command.args(["--exact", "--test-threads=1"]).args(names);
        command
    }

    fn limited(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$@\""), "sh"]).arg(&self.path);
        command.current_dir(&self.home).env("CARGO_MANIFEST_DIR", &self.home).env("RUST_BACKTRACE", "0");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn list(&self, words: &[&str]) -> Result<Vec<String>, Trouble> {
        let mut command = self.limited();
        command.args(["--list", "--format=terse"]).args(words).stdout(Stdio::piped());
        let said = command.output().map_err(|e| Trouble::Broken(format!("{}: {e}", self.path.display())))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        Ok(said.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }
}

/// Waits for the end of a process; ends it itself after `limit`.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

/// Does `work` on all of `list`, on `workers` threads.
fn at_once<T: Send, R: Send>(
    workers: usize,
    list: Vec<T>,
    work: impl Fn(usize, T) -> Result<R, Trouble> + Sync,
) -> Result<Vec<R>, Trouble> {
    let (queue, done) = (Mutex::new(list.into_iter()), Mutex::new(Vec::new()));
    let (queue, results, work) = (&queue, &done, &work);
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                while let Some(item) = next() {
                    let result = work(worker, item);
                    if let Ok(mut results) = results.lock() {
                        results.push(result);
                    }
                }
            });
        }
    });
    done.into_inner().map_err(|_| Trouble::Broken("a thread panicked".into()))?.into_iter().collect()
}
