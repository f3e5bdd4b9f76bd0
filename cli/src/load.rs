//! Files that the user names: device trees, scripts, disks, reports.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bindery_sim::disk::{Access, Disk};
use bindery_sim::{salvator, virt};

use crate::failure::{Failure, MAX_DEVICE_TREE, MAX_REPORTS, MAX_SCRIPT, Result};

/// Sectors of the disk that is made when the user names none: 32 MiB.
pub const TEMPORARY_SECTORS: u64 = 64 << 10;

/// A device tree blob and where it comes from.
#[derive(Debug, Clone)]
pub struct Blob {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Its file, or the name of the embedded board.
    pub origin: String,
}

impl Blob {
    /// The blob of the board Salvator-XS.
    pub fn salvator() -> Self {
        Self { bytes: salvator::DEVICE_TREE.to_vec(), origin: "salvator-xs".into() }
    }

    /// The blob of the simulated board `virt`.
    pub fn virt() -> Self {
        Self { bytes: virt::DEVICE_TREE.to_vec(), origin: "virt".into() }
    }

    /// The blob in the file at `path`, or the board's own.
    pub fn open(path: Option<&Path>, own: fn() -> Self) -> Result<Self> {
        let Some(path) = path else { return Ok(own()) };
        let bytes = read(path, "device tree", MAX_DEVICE_TREE)?;
        Ok(Self { bytes, origin: path.display().to_string() })
    }
}

/// The text of a script. Bytes that are not UTF-8 become U+FFFD, which no command has.
pub fn script(path: &Path) -> Result<String> {
    read(path, "script", MAX_SCRIPT).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The bytes of a file of exploration reports.
pub fn reports(path: &Path) -> Result<Vec<u8>> {
    read(path, "file of reports", MAX_REPORTS)
}

/// The disk in the file at `path`, or a temporary one.
pub fn disk(path: Option<&Path>) -> Result<Disk> {
    Ok(match path {
        Some(path) => Disk::open(path, Access::ReadWrite)?,
        None => Disk::temporary(TEMPORARY_SECTORS)?,
    })
}

/// Reads a whole file of at most `limit` bytes. A larger one is refused before it is read; one that does not tell its
/// size, as soon as the limit is passed.
fn read(path: &Path, what: &'static str, limit: u64) -> Result<Vec<u8>> {
    let failed = |e| Failure::read(path, e);
    let too_large = || Failure::TooLarge { path: path.into(), what, limit };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    if meta.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_refused_at_the_limit() {
        let error = read(Path::new("/dev/zero"), "script", 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "/dev/zero: more than 1 MiB, which no script has");
    }

    #[test]
    fn a_directory_is_refused_by_name() {
        let error = read(Path::new("/"), "script", 1).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /: is a directory");
    }
}
