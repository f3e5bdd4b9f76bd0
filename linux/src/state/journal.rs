//! The journal of one plan: a line of JSON for what is about to be done, on disk before it is done.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FORMAT;
use crate::plan::{Memory, Step};

/// Largest journal that is read, in bytes. A plan of a hundred devices has 1 MiB.
const MAX_JOURNAL: u64 = 64 << 20;

/// The first line of a journal: all that is needed to undo the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format.
    pub format: u32,
    /// The plan's name, and that of its files.
    pub id: String,
    /// The kernel's `boot_id`: after another boot, devices are where the kernel put them.
    pub boot: String,
    /// The verb: `give`, `take`.
    pub purpose: String,
    /// The process.
    pub pid: u32,
    /// The devices that were asked for, by label.
    pub devices: Vec<String>,
    /// The steps.
    pub steps: Vec<Step>,
    /// Names and numbers that vanish with the drivers.
    pub remembered: Vec<Memory>,
    /// The plan whose devices are taken back.
    pub takes: Option<String>,
}

/// A later line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Record {
    /// A step is about to be done.
    Begin {
        /// Its number, from 0.
        step: usize,
    },
    /// A step was done and verified.
    Done {
        /// Its number.
        step: usize,
    },
    /// A step failed; what was done is about to be undone.
    Failed {
        /// Its number.
        step: usize,
        /// The reason.
        why: String,
    },
    /// A step is about to be undone.
    Undo {
        /// Its number.
        step: usize,
    },
    /// A step was not answered in time.
    Hung {
        /// Its number.
        step: usize,
        /// The process that waits for the kernel.
        helper: Option<u32>,
    },
    /// The plan is over.
    End {
        /// True when it was done, false when it was undone.
        done: bool,
    },
}

/// A journal cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The state directory refuses.
    #[error("cannot write the journal {path}: {error}; nothing is done without it")]
    Write {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        error: std::io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read the journal {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        error: std::io::Error,
    },
    /// The file is from a newer version.
    #[error("{path}:1: written by a newer version (format {found}, this one knows {FORMAT}): use that version")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The file is damaged where it cannot be done without.
    #[error("{path}:{line}: not a journal: {why}; look at the devices by hand, then remove the file")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The mistake.
        why: String,
    },
}

/// Destination of the engine's records.
pub trait Log {
    /// Adds a line. It is on disk when this returns.
    fn append(&mut self, record: &Record) -> Result<(), LogError>;
}

/// A journal in a file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// A journal that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// The plan.
    pub header: Header,
    /// Its records. A last line that was cut is left out.
    pub records: Vec<Record>,
    /// True when the last line was cut: the command or the machine ended while it was written.
    pub cut: bool,
}

impl Journal {
    /// Makes the file, complete with its header or not at all.
    pub fn create(directory: &Path, header: &Header) -> Result<Self, LogError> {
        let path = directory.join(format!("{}.jsonl", header.id));
        let fail = |error| LogError::Write { path: path.clone(), error };
        let draft = directory.join(format!(".{}.draft", header.id));
        let mut line = serde_json::to_vec(header).map_err(|error| fail(error.into()))?;
        line.push(b'\n');
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&draft).map_err(fail)?;
        let written =
            file.write_all(&line).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&draft, &path));
        if written.is_err() {
            // A full disk must not fill with drafts.
            let _ = std::fs::remove_file(&draft);
        }
        written.map_err(fail)?;
        // The name, too, must be on disk before the first step.
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(fail)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(fail)?;
        Ok(Self { path, file })
    }

    /// Reads a journal and leaves it as it is: another command may just be writing it.
    pub fn read(path: &Path) -> Result<Resumed, LogError> {
        Ok(Self::load(path)?.0)
    }

    fn load(path: &Path) -> Result<(Resumed, usize), LogError> {
        let fail = |error| LogError::Read { path: path.into(), error };
        let length = std::fs::metadata(path).map_err(fail)?.len();
        if length > MAX_JOURNAL {
            let why = format!("more than {} MiB", MAX_JOURNAL >> 20);
            return Err(LogError::Damaged { path: path.into(), line: 1, why });
        }
        parse(path, &std::fs::read(path).map_err(fail)?)
    }

    /// Reads a journal and opens it to go on. Whoever does so holds the plan's locks.
    pub fn resume(path: &Path) -> Result<(Self, Resumed), LogError> {
        let fail = |error| LogError::Read { path: path.into(), error };
        let (resumed, good) = Self::load(path)?;
        let mut file = OpenOptions::new().append(true).open(path).map_err(fail)?;
        if resumed.cut {
            // What follows must not join the torn line.
            file.set_len(good as u64).map_err(fail)?;
            file.flush().map_err(fail)?;
        }
        Ok((Self { path: path.into(), file }, resumed))
    }
}

impl Log for Journal {
    fn append(&mut self, record: &Record) -> Result<(), LogError> {
        let fail = |error| LogError::Write { path: self.path.clone(), error };
        let mut line = serde_json::to_vec(record).map_err(|error| fail(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(fail)
    }
}

/// Reads the lines of a journal; also the number of bytes before a torn last line.
fn parse(path: &Path, bytes: &[u8]) -> Result<(Resumed, usize), LogError> {
    let damaged = |line: usize, why: String| LogError::Damaged { path: path.into(), line, why };
    let good = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let mut lines = bytes[..good].split_inclusive(|b| *b == b'\n').enumerate();
    let Some((_, first)) = lines.next() else { return Err(damaged(1, "it has no complete line".into())) };
    let version: Version = serde_json::from_slice(first).map_err(|error| damaged(1, error.to_string()))?;
    if version.format > FORMAT {
        return Err(LogError::Newer { path: path.into(), found: version.format });
    }
    let header = serde_json::from_slice(first).map_err(|error| damaged(1, error.to_string()))?;
    let mut records = Vec::new();
    for (index, line) in lines {
        records.push(serde_json::from_slice(line).map_err(|error| damaged(index + 1, error.to_string()))?);
    }
    Ok((Resumed { header, records, cut: good < bytes.len() }, good))
}

#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Resumed {
    /// The last step that may have been done.
    pub fn last_begun(&self) -> Option<usize> {
        let begun = self.records.iter().filter_map(|r| match r {
            Record::Begin { step } => Some(*step),
            _ => None,
        });
        begun.max()
    }

    /// True when every step was done and verified.
    pub fn is_complete(&self) -> bool {
        let last = self.header.steps.len().checked_sub(1);
        let turned = self.records.iter().any(|r| matches!(r, Record::Failed { .. } | Record::Undo { .. }));
        !turned && last.is_none_or(|last| self.records.contains(&Record::Done { step: last }))
    }

    /// Outcome of the plan, if it ended.
    pub fn ended(&self) -> Option<bool> {
        self.records.iter().find_map(|r| match r {
            Record::End { done } => Some(*done),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            format: FORMAT,
            id: "p1".into(),
            boot: "b".into(),
            purpose: "give".into(),
            pid: 1,
            devices: Vec::new(),
            steps: Vec::new(),
            remembered: Vec::new(),
            takes: None,
        }
    }

    #[test]
    fn a_journal_that_is_cut_anywhere_is_read_up_to_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path(), &header()).unwrap();
        journal.append(&Record::Begin { step: 0 }).unwrap();
        journal.append(&Record::Done { step: 0 }).unwrap();
        let path = dir.path().join("p1.jsonl");
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            match Journal::resume(&path) {
                Err(LogError::Damaged { line: 1, .. }) => assert!(length < first),
                Ok((mut journal, resumed)) => {
                    assert!(length >= first && resumed.records.len() <= 1);
                    journal.append(&Record::End { done: false }).unwrap();
                    let (_, again) = Journal::resume(&path).unwrap();
                    assert_eq!(again.ended(), Some(false), "cut at {length}");
                }
                other => panic!("cut at {length}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_newer_journal_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.jsonl");
        std::fs::write(&path, "{\"format\":99,\"shape\":\"unknown\"}\n").unwrap();
        assert!(matches!(Journal::resume(&path), Err(LogError::Newer { found: 99, .. })));
    }

    #[test]
    fn a_directory_that_cannot_be_written_makes_no_journal() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Journal::create(&dir.path().join("missing"), &header()), Err(LogError::Write { .. })));
    }
}
