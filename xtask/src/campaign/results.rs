//! Results of a campaign, kept in a file, so that an interrupted one goes on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::mutant::Mutant;
use crate::outcome::{Outcome, Trouble};

/// Fate of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    Killed,
    /// The tests did not end in time.
    TimedOut,
    /// It does not compile.
    Unviable,
    /// All tests pass with it.
    Missed,
}

impl Fate {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Killed, "killed"),
        (Self::TimedOut, "timed out"),
        (Self::Unviable, "unviable"),
        (Self::Missed, "missed"),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(fate, _)| *fate == self).map_or("", |(_, word)| word)
    }

    fn read(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, w)| *w == word).map(|(fate, _)| *fate)
    }

    /// The fate that `cargo mutants` calls `summary`.
    pub(super) fn of_summary(summary: &str) -> Option<Self> {
        Some(match summary {
            "CaughtMutant" => Self::Killed,
            "Timeout" => Self::TimedOut,
            "Unviable" => Self::Unviable,
            "MissedMutant" => Self::Missed,
            _ => return None,
        })
    }
}

/// Fates by mutant, each with the hash of the file that it was found with.
pub(super) struct Results {
    path: PathBuf,
    fates: BTreeMap<String, (u64, Fate)>,
}

impl Results {
    /// Reads the file, which need not be there.
    pub(super) fn read(path: PathBuf) -> Result<Self, Trouble> {
        let mut fates = BTreeMap::new();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Trouble::Broken(format!("{}: {e}", path.display()))),
        };
        for (at, line) in text.lines().enumerate() {
            let (name, entry) = Self::line(line).ok_or_else(|| {
                Trouble::Broken(format!(
                    "{}:{}: not `FATE<tab>HASH<tab>MUTANT`; mend it, or begin anew with --fresh",
                    path.display(),
                    at + 1
                ))
            })?;
            fates.insert(name.to_owned(), entry);
        }
        Ok(Self { path, fates })
    }

    fn line(line: &str) -> Option<(&str, (u64, Fate))> {
        let mut fields = line.splitn(3, '\t');
        let fate = Fate::read(fields.next()?)?;
        let text = u64::from_str_radix(fields.next()?, 16).ok()?;
        Some((fields.next()?, (text, fate)))
    }

    /// Fate of `mutant`, when its file is still the same.
    pub(super) fn fate(&self, mutant: &Mutant) -> Option<Fate> {
        self.fates.get(&mutant.name).filter(|(text, _)| *text == mutant.text).map(|(_, fate)| *fate)
    }

    /// Records a fate. It is in the file when [`save`](Self::save) returns.
    pub(super) fn set(&mut self, mutant: &Mutant, fate: Fate) {
        self.fates.insert(mutant.name.clone(), (mutant.text, fate));
    }

    /// Writes the file, as a whole: an interruption leaves the old one or the new one.
    pub(super) fn save(&self) -> Outcome {
        let broken = |e| Trouble::Broken(format!("{}: {e}", self.path.display()));
        let mut text = String::new();
        for (name, (hash, fate)) in &self.fates {
            let _ = writeln!(text, "{}\t{hash:016x}\t{name}", fate.word());
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(broken)?;
        }
        let new = self.path.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &self.path)).map_err(broken)
    }

    /// Prints a row an area with the fates of `mutants`, and the missed ones by name.
    pub(super) fn report(&self, mutants: &[Mutant]) {
        let mut rows: BTreeMap<&str, [usize; 6]> = BTreeMap::new();
        let mut missed = Vec::new();
        for mutant in mutants {
            let fate = self.fate(mutant);
            let column = match fate {
                Some(Fate::Killed) => 1,
                Some(Fate::TimedOut) => 2,
                Some(Fate::Unviable) => 3,
                Some(Fate::Missed) => 4,
                None => 5,
            };
            for area in [mutant.area(), "~all"] {
                let row = rows.entry(area).or_default();
                row[0] += 1;
                row[column] += 1;
            }
            if fate == Some(Fate::Missed) {
                missed.push(mutant.name.as_str());
            }
        }
        println!("| | mutants | killed | timed out | unviable | missed | not tried |\n|---|---|---|---|---|---|---|");
        for (area, row) in rows {
            let cells: Vec<_> = row.iter().map(ToString::to_string).collect();
            println!("| {} | {} |", area.trim_start_matches('~'), cells.join(" | "));
        }
        missed.sort_unstable();
        for name in missed {
            println!("missed: {name}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mutant::tests::mutant;
    use super::*;

    #[test]
    fn results_outlive_the_run_and_end_with_the_text_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below").join("results.tsv");
        let (one, two) = (mutant("core/src/dma/pool.rs", 3), mutant("core/src/dma/pool.rs", 4));
        let mut results = Results::read(path.clone()).unwrap();
        results.set(&one, Fate::TimedOut);
        results.save().unwrap();
        let again = Results::read(path).unwrap();
        assert_eq!(again.fate(&one), Some(Fate::TimedOut));
        assert_eq!(again.fate(&two), None);
        assert_eq!(again.fate(&Mutant { text: 2, ..one }), None);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.tsv");
        for wrong in ["killed\t1", "eaten\t1\tx", "killed\tz\tx"] {
            fs::write(&path, format!("killed\t01\tgood\n{wrong}\n")).unwrap();
            let Err(trouble) = Results::read(path.clone()) else { panic!("{wrong} was read") };
            assert!(trouble.why().contains("results.tsv:2:"), "{trouble:?}");
        }
    }
}
