//! The directories that hold journals, records and locks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{FORMAT, Given, Header, Journal, Lock, LockError, LogError};
use crate::face::Face;
use crate::plan::{Action, Step};

/// A file of the state directory makes no sense, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A directory or file cannot be used.
    #[error("cannot use {path}: {error}; it must be a directory that can be written")]
    Directory {
        /// The path.
        path: PathBuf,
        /// The host's answer.
        error: io::Error,
    },
    /// A record is damaged.
    #[error("{path}:1: not a record of given devices: {why}; look at the devices by hand, then remove the file")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The mistake.
        why: String,
    },
    /// A record is from a newer version.
    #[error("{path}:1: written by a newer version (format {found}, this one knows {FORMAT}): use that version")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A journal.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A lock.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// The state of the command on a host.
#[derive(Debug)]
pub struct Store {
    /// Journals and records; they outlive a reboot.
    state: PathBuf,
    /// Locks; they do not.
    locks: PathBuf,
}

impl Store {
    /// A store below `state`, and locks below `locks`. Nothing is made yet.
    pub fn at(state: impl Into<PathBuf>, locks: impl Into<PathBuf>) -> Self {
        Self { state: state.into(), locks: locks.into() }
    }

    /// Makes the directories.
    pub fn prepare(&self) -> Result<(), StoreError> {
        for path in [self.journals(), self.records(), self.locks.clone()] {
            fs::create_dir_all(&path).map_err(|error| StoreError::Directory { path, error })?;
        }
        Ok(())
    }

    fn journals(&self) -> PathBuf {
        self.state.join("journal")
    }

    fn records(&self) -> PathBuf {
        self.state.join("given")
    }

    /// Begins the journal of a plan.
    pub fn begin(&self, header: &Header) -> Result<Journal, StoreError> {
        Ok(Journal::create(&self.journals(), header)?)
    }

    /// Takes a lock.
    pub fn lock(&self, name: &str, purpose: &str) -> Result<Lock, StoreError> {
        Ok(Lock::take(&self.locks, name, purpose)?)
    }

    /// The journals of plans that are not over, oldest first.
    pub fn unfinished(&self) -> Result<Vec<PathBuf>, StoreError> {
        files(&self.journals(), "jsonl")
    }

    /// Closes a plan: keeps its record if devices are given, and removes its journal.
    pub fn close(&self, header: &Header, done: bool) -> Result<(), StoreError> {
        // A plan that only gave nodes to a user has nothing to take back: the record of the device is another one.
        let moves = |step: &Step| {
            !matches!(step.action, Action::VerifyDriver { .. } | Action::VerifyNodes | Action::Own { .. })
        };
        let gave = header.purpose == "give" && header.steps.iter().any(moves);
        if done && gave {
            self.keep(&Given::from(header))?;
        } else if done && let Some(id) = &header.takes {
            let path = self.records().join(format!("{id}.json"));
            if let Some(given) = read(&path)? {
                match given.without(&header.devices) {
                    Some(rest) => self.keep(&rest)?,
                    None => remove(&path)?,
                }
            }
        }
        // Only now: a crash before this line leaves a journal that says the same again.
        remove(&self.journals().join(format!("{}.jsonl", header.id)))
    }

    /// The records of given devices, oldest first.
    pub fn given(&self) -> Result<Vec<Given>, StoreError> {
        let mut found = Vec::new();
        for path in files(&self.records(), "json")? {
            found.extend(read(&path)?);
        }
        Ok(found)
    }

    /// Removes a record.
    pub fn forget(&self, id: &str) -> Result<(), StoreError> {
        remove(&self.records().join(format!("{id}.json")))
    }

    fn keep(&self, given: &Given) -> Result<(), StoreError> {
        let path = self.records().join(format!("{}.json", given.id));
        let fail = |error| StoreError::Directory { path: path.clone(), error };
        let draft = self.records().join(format!(".{}.draft", given.id));
        let text = serde_json::to_vec_pretty(given).map_err(|error| fail(error.into()))?;
        fs::write(&draft, text).map_err(fail)?;
        fs::File::open(&draft).and_then(|file| file.sync_all()).map_err(fail)?;
        fs::rename(&draft, &path).map_err(fail)?;
        fs::File::open(self.records()).and_then(|directory| directory.sync_all()).map_err(fail)
    }
}

/// Reads a record; `None` when there is none.
fn read(path: &Path) -> Result<Option<Given>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::Directory { path: path.into(), error }),
    };
    let damaged = |error: serde_json::Error| StoreError::Damaged { path: path.into(), why: error.to_string() };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
    let format = value["format"].as_u64().unwrap_or(0) as u32;
    if format > FORMAT {
        return Err(StoreError::Newer { path: path.into(), found: format });
    }
    serde_json::from_value(value).map(Some).map_err(damaged)
}

/// A name for a new plan: its time in milliseconds, so that names sort by age, and the process.
pub(crate) fn new_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    format!("{now:013}-{}", std::process::id())
}

/// The kernel's name for this boot.
pub(crate) fn boot(face: &dyn Face) -> String {
    face.try_text("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().into()
}

fn files(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, StoreError> {
    let fail = |error| StoreError::Directory { path: directory.into(), error };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Directory { path: path.into(), error })
        }
        _ => Ok(()),
    }
}
