//! One lock for each IOMMU group, or device without one, with its holder and purpose.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// A lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("{name} is locked by {holder}: wait until it ends")]
    Held {
        /// Name of the lock.
        name: String,
        /// Process and purpose.
        holder: String,
    },
    /// The lock's file cannot be made.
    #[error("cannot lock {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        error: std::io::Error,
    },
}

/// A lock that is held until it is dropped, and by helper processes that got a copy of it.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock called `name` in `directory`. A lock whose holder is dead is free: the kernel releases it.
    pub fn take(directory: &Path, name: &str, purpose: &str) -> Result<Self, LockError> {
        let path = directory.join(format!("{}.lock", name.replace('/', ":")));
        let fail = |error| LockError::File { path: path.clone(), error };
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(fail)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
                return Err(LockError::Held { name: name.into(), holder: crate::path::printable(holder) });
            }
            Err(errno) => return Err(fail(errno.into())),
        }
        let text = format!("process {}, {purpose}\n", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes())).map_err(fail)?;
        Ok(Self { file })
    }

    /// A copy of the open file: the lock is held until both are closed.
    pub fn copy(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_had_once_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path(), "group 7", "give 0000:02:00.0").unwrap();
        let copy = held.copy().unwrap();
        let error = Lock::take(dir.path(), "group 7", "take").unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        assert!(Lock::take(dir.path(), "group 7", "take").is_err(), "a helper still has it");
        drop(copy);
        Lock::take(dir.path(), "group 7", "take").unwrap();
    }
}
