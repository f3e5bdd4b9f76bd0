//! Runs `bench/examples/figures`, by the clock and under callgrind, and reads what it measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cargo::Cargo;
use crate::install::install;
use crate::outcome::{Outcome, Trouble};
use crate::tool::{exists, output, target};

/// The function that callgrind looks at.
const MEASURED: &str = "figures::session::measured";

/// What one operation takes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Counts {
    pub(crate) instructions: f64,
    /// Read-modify-write operations on memory that are atomic. An uncontended lock is two: taking and releasing.
    pub(crate) atomics: f64,
    pub(crate) allocations: f64,
}

/// All that was measured, by name of the row.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) counts: BTreeMap<String, Counts>,
    /// Nanoseconds.
    pub(crate) times: BTreeMap<String, f64>,
    /// Nanoseconds of ours and of the peer's.
    pub(crate) pairs: BTreeMap<String, (f64, f64)>,
    /// Figures that the program counted itself.
    pub(crate) others: BTreeMap<String, f64>,
}

impl Figures {
    /// Counts under callgrind. `length` is `short`, as the gate wants it, `long`, or `curves`.
    pub(crate) fn counted(length: &str) -> Result<Self, Trouble> {
        build()?;
        if !exists("valgrind") {
            install(&["valgrind"])?;
        }
        let dir = target().join("figures");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).map_err(|e| Trouble::Broken(format!("{}: {e}", dir.display())))?;
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--collect-bus=yes", "--collect-atstart=no", "--compress-strings=no"])
            // Else `memset` is one instruction that callgrind counts once a byte.
            .env("GLIBC_TUNABLES", "glibc.cpu.x86_rep_stosb_threshold=100000000")
            .arg(format!("--toggle-collect={MEASURED}"))
            .arg(format!("--dump-after={MEASURED}"))
            .arg(format!("--callgrind-out-file={}", dir.join("dump").display()))
            .arg(program())
            .arg("count")
            .args((length != "long").then_some(length));
        let text = output(&mut command)?;
        let mut figures = Self::default();
        figures.read(&text);
        // The dumps are numbered in the order of the lines.
        for (number, line) in text.lines().filter_map(|l| l.strip_prefix("count\t")).enumerate() {
            let malformed = || Trouble::Broken(format!("a line of `figures count`: {line}"));
            let fields: Vec<&str> = line.split('\t').collect();
            let [row, times, allocations] = fields[..] else { return Err(malformed()) };
            let (times, allocations) = (times.parse(), allocations.parse());
            let (Ok(times), Ok(allocations)) = (times, allocations) else { return Err(malformed()) };
            let counts = read_dump(&dir.join(format!("dump.{}", number + 1)), times, allocations)?;
            figures.counts.insert(row.to_owned(), counts);
        }
        Ok(figures)
    }

    /// Adds what is measured by the clock: `figures` with these arguments.
    pub(crate) fn timed(&mut self, args: &[&str]) -> Outcome {
        build()?;
        let text = output(Command::new(program()).args(args))?;
        self.read(&text);
        Ok(())
    }

    fn read(&mut self, text: &str) {
        for line in text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let number = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok());
            match (fields[0], fields.get(1), number(2), number(3)) {
                ("time", Some(row), Some(time), _) => drop(self.times.insert((*row).to_owned(), time)),
                ("figure", Some(row), Some(value), _) => drop(self.others.insert((*row).to_owned(), value)),
                ("ratio", Some(row), Some(own), Some(peer)) => drop(self.pairs.insert((*row).to_owned(), (own, peer))),
                _ => {}
            }
        }
    }
}

fn build() -> Outcome {
    Cargo::new("build --release -q -p bindery-bench --example figures").run()
}

fn program() -> std::path::PathBuf {
    target().join("release/examples/figures")
}

/// Reads the totals of a dump of callgrind.
fn read_dump(path: &Path, times: f64, allocations: f64) -> Result<Counts, Trouble> {
    let text = fs::read_to_string(path).map_err(|e| Trouble::Broken(format!("{}: {e}", path.display())))?;
    let (instructions, atomics) =
        totals(&text).ok_or_else(|| Trouble::Broken(format!("{}: not a dump of callgrind", path.display())))?;
    Ok(Counts { instructions: instructions / times, atomics: atomics / times, allocations })
}

/// Instructions and atomic operations. Trailing zeros are left out in a dump.
fn totals(dump: &str) -> Option<(f64, f64)> {
    let line = dump.lines().find_map(|line| line.strip_prefix("totals: "))?;
    let mut numbers = line.split_whitespace().map_while(|n| n.parse().ok());
    Some((numbers.next()?, numbers.next().unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_of_a_dump_are_read() {
        assert_eq!(totals("events: Ir Ge\nfn=a\n1 20 2\ntotals: 1000 8\n"), Some((1000.0, 8.0)));
        assert_eq!(totals("totals: 12\n"), Some((12.0, 0.0)));
        assert_eq!(totals("desc: nothing\n"), None);
    }
}
