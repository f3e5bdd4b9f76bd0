//! Files that appear under their names once they are complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// A file that is being written. It appears under its name with [`finish`](Self::finish); before, and when anything fails,
/// what was there stays.
pub struct NewFile {
    out: BufWriter<File>,
    path: PathBuf,
    /// Temporary file that takes the bytes until then. `None` when the user names something that is not a file, such as a pipe.
    temporary: Option<Temporary>,
}

impl NewFile {
    /// Begins a file for `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let failed = |error| Failure::Write { what: path.display().to_string(), error };
        // A link is followed, so that the file behind it is replaced, not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let special = fs::metadata(&target).is_ok_and(|m| !m.is_file() && !m.is_dir());
        let (file, temporary) = if special {
            (OpenOptions::new().write(true).open(&target).map_err(failed)?, None)
        } else {
            if target.is_dir() {
                return Err(failed(io::ErrorKind::IsADirectory.into()));
            }
            let (file, temporary) = Temporary::beside(&target).map_err(failed)?;
            (file, Some(temporary))
        };
        Ok(Self { out: BufWriter::new(file), path: path.into(), temporary })
    }

    /// Adds `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| self.failed(e))
    }

    /// Puts the file under its name.
    pub fn finish(mut self) -> Result<()> {
        self.out.flush().map_err(|e| self.failed(e))?;
        match self.temporary.take() {
            Some(temporary) => temporary.rename().map_err(|e| self.failed(e)),
            None => Ok(()),
        }
    }

    fn failed(&self, error: io::Error) -> Failure {
        Failure::Write { what: self.path.display().to_string(), error }
    }
}

/// A file beside the one that is meant. Removed when it is dropped.
struct Temporary {
    path: PathBuf,
    target: PathBuf,
}

impl Temporary {
    fn beside(target: &Path) -> io::Result<(File, Self)> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let mut n = 0;
        loop {
            let path = target.with_file_name(format!(".{name}.{}-{n}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, Self { path, target: target.into() })),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => n += 1,
                Err(e) => return Err(e),
            }
        }
    }

    fn rename(self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing under this name; while an error is returned there is nobody to report a second one to.
        let _ = fs::remove_file(&self.path);
    }
}
