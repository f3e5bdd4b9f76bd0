//! Backing store of a simulated disk: a file or memory.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes in a sector.
pub const SECTOR: u64 = 512;
/// Most sectors with 48-bit addressing.
const MAX_SECTORS: u64 = 1 << 48;

/// Access mode of a disk image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The file is opened for reading and writing.
    ReadWrite,
    /// The file is opened for reading; the disk aborts writes.
    ReadOnly,
}

/// Failure to use a file as a disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The host could not open or examine it.
    #[error("disk image {} cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Error of the host.
        source: io::Error,
    },
    /// It is neither a regular file nor a block device.
    #[error("disk image {}: not a regular file or block device", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It is empty.
    #[error("disk image {}: the file is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Its size is not a whole number of sectors.
    #[error("disk image {}: {len} bytes are not a multiple of 512", path.display())]
    Unaligned {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        len: u64,
    },
    /// It has more sectors than 48-bit addressing allows.
    #[error("disk image {}: {len} bytes are more than 48-bit addressing allows", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        len: u64,
    },
    /// A temporary disk could not be created.
    #[error("temporary disk of {sectors} sectors in {} cannot be created", dir.display())]
    Temporary {
        /// Directory of the temporary file.
        dir: PathBuf,
        /// Number of sectors asked for.
        sectors: u64,
        /// Error of the host.
        source: io::Error,
    },
}

#[derive(Debug)]
enum Backing {
    /// `keep`: the file belongs to the user, so a flush must reach the host's disk.
    File {
        file: File,
        keep: bool,
    },
    Memory(Vec<u8>),
}

/// A disk of whole 512-byte sectors.
#[derive(Debug)]
pub struct Disk {
    backing: Backing,
    sectors: u64,
    access: Access,
    /// The host's first failure to write or flush the file.
    failure: Option<io::Error>,
}

impl Disk {
    /// Opens the image at `path`.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or is not a disk of whole sectors.
    pub fn open(path: &Path, access: Access) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Open { path: path.into(), source };
        let meta = std::fs::metadata(path).map_err(failed)?;
        if meta.is_dir() || !(meta.is_file() || is_block_device(&meta)) {
            return Err(DiskError::NotAFile { path: path.into() });
        }
        let file = OpenOptions::new().read(true).write(access == Access::ReadWrite).open(path).map_err(failed)?;
        // The metadata of a block device has no length; seeking to its end gives it.
        let len = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(failed)?;
        let path = || path.to_path_buf();
        match len {
            0 => Err(DiskError::Empty { path: path() }),
            _ if len % SECTOR != 0 => Err(DiskError::Unaligned { path: path(), len }),
            _ if len / SECTOR > MAX_SECTORS => Err(DiskError::TooLarge { path: path(), len }),
            _ => Ok(Self { backing: Backing::File { file, keep: true }, sectors: len / SECTOR, access, failure: None }),
        }
    }

    /// Creates a zeroed disk in an unnamed temporary file, which is deleted with the disk.
    ///
    /// # Errors
    ///
    /// When `sectors` is 0 or too large for the host.
    pub fn temporary(sectors: u64) -> Result<Self, DiskError> {
        let dir = std::env::temp_dir();
        let file = unnamed_file(&dir)
            .and_then(|f| {
                let len = sectors.checked_mul(SECTOR).filter(|len| *len > 0).ok_or(io::ErrorKind::InvalidInput)?;
                f.set_len(len)?;
                Ok(f)
            })
            .map_err(|source| DiskError::Temporary { dir, sectors, source })?;
        Ok(Self { backing: Backing::File { file, keep: false }, sectors, access: Access::ReadWrite, failure: None })
    }

    /// Creates a disk in memory with `bytes`, padded with zeros to whole sectors, at least one.
    pub fn memory(mut bytes: Vec<u8>) -> Self {
        let sectors = (bytes.len() as u64).div_ceil(SECTOR).max(1);
        bytes.resize((sectors * SECTOR) as usize, 0);
        Self { backing: Backing::Memory(bytes), sectors, access: Access::ReadWrite, failure: None }
    }

    /// Number of sectors, at least 1.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Returns true when writes are allowed.
    pub fn writable(&self) -> bool {
        self.access == Access::ReadWrite
    }

    /// Reads `buf.len()` bytes at byte `offset`.
    ///
    /// # Errors
    ///
    /// Beyond the end, also of an image that was truncated meanwhile, and when the host fails.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match &self.backing {
            Backing::File { file, .. } => file.read_exact_at(buf, offset),
            Backing::Memory(bytes) => {
                buf.copy_from_slice(slice(offset, buf.len()).and_then(|r| bytes.get(r)).ok_or(END)?);
                Ok(())
            }
        }
    }

    /// Writes `buf` at byte `offset`.
    ///
    /// # Errors
    ///
    /// Beyond the end, on a read-only disk, and when the host fails.
    pub fn write(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).ok_or(END)?;
        if !self.writable() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        // The image never grows.
        if end > self.sectors * SECTOR {
            return Err(END.into());
        }
        match &mut self.backing {
            Backing::File { file, .. } => {
                let written = file.write_all_at(buf, offset);
                self.noted(written)
            }
            Backing::Memory(bytes) => {
                slice(offset, buf.len()).and_then(|r| bytes.get_mut(r)).ok_or(END)?.copy_from_slice(buf);
                Ok(())
            }
        }
    }

    /// Waits until all writes are on the host's disk.
    ///
    /// # Errors
    ///
    /// When the host fails.
    pub fn flush(&mut self) -> io::Result<()> {
        match &self.backing {
            Backing::File { file, keep: true } if self.writable() => {
                let flushed = file.sync_data();
                self.noted(flushed)
            }
            _ => Ok(()),
        }
    }

    /// Takes the first failure of the host to write or flush the file since the last call: what the board then sees as an error of
    /// its disk. A refusal of the disk's own (beyond its end, read-only) is none.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    fn noted(&mut self, done: io::Result<()>) -> io::Result<()> {
        if let (Err(error), None) = (&done, &self.failure) {
            // An error of the operating system's can be copied by its number only.
            self.failure = Some(error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error));
        }
        done
    }
}

const END: io::ErrorKind = io::ErrorKind::UnexpectedEof;

fn slice(offset: u64, len: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    Some(start..start.checked_add(len)?)
}

fn is_block_device(meta: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_block_device(&meta.file_type())
}

/// Creates a file in `dir` and unlinks it at once, so that nothing is left behind however the process ends.
fn unnamed_file(dir: &Path) -> io::Result<File> {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    loop {
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = dir.join(format!("bindery-disk-{}-{n}", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => return std::fs::remove_file(&path).map(|()| file),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn file(name: &str, len: u64) -> PathBuf {
        let path = std::env::temp_dir().join(format!("bindery-test-{}-{name}", std::process::id()));
        File::create(&path).unwrap().set_len(len).unwrap();
        path
    }

    #[test]
    fn an_invalid_image_is_refused_with_its_path_and_reason() {
        let missing = std::env::temp_dir().join("bindery-no-such-file");
        let says = |path: &Path, access| {
            let error = Disk::open(path, access).unwrap_err();
            error.source().map_or_else(|| error.to_string(), |why| format!("{error}: {why}"))
        };
        assert!(says(&missing, Access::ReadWrite).contains("bindery-no-such-file cannot be opened: No such file"));
        assert!(says(&std::env::temp_dir(), Access::ReadOnly).contains("not a regular file"));
        let empty = file("empty", 0);
        assert!(says(&empty, Access::ReadWrite).ends_with("the file is empty"));
        let unaligned = file("unaligned", 1000);
        assert!(says(&unaligned, Access::ReadWrite).ends_with("1000 bytes are not a multiple of 512"));
        for path in [empty, unaligned] {
            std::fs::remove_file(path).unwrap();
        }
        assert!(says(Path::new("/dev/null"), Access::ReadOnly).contains("not a regular file"));
    }

    #[test]
    fn writes_reach_the_file_and_never_extend_it() {
        let path = file("write", 2048);
        let mut disk = Disk::open(&path, Access::ReadWrite).unwrap();
        disk.write(512, &[7; 512]).unwrap();
        assert!(disk.write(2047, &[1; 2]).is_err());
        assert!(disk.write(u64::MAX, &[1; 2]).is_err());
        disk.flush().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes.len(), bytes[511], bytes[512], bytes[1023]), (2048, 0, 7, 7));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_read_only_disk_reads_and_refuses_writes() {
        let path = file("ro", 512);
        let mut disk = Disk::open(&path, Access::ReadOnly).unwrap();
        disk.read(0, &mut [1; 512]).unwrap();
        assert_eq!(disk.write(0, &[1]).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_temporary_disk_of_absurd_size_is_an_error() {
        assert!(matches!(Disk::temporary(u64::MAX), Err(DiskError::Temporary { .. })));
        assert_eq!(Disk::temporary(64).unwrap().sectors(), 64);
    }

    #[test]
    fn a_disk_in_memory_is_padded_to_whole_sectors() {
        let mut disk = Disk::memory(vec![1; 600]);
        assert_eq!(disk.sectors(), 2);
        disk.write(1023, &[9]).unwrap();
        let mut back = [0; 2];
        disk.read(1022, &mut back).unwrap();
        assert_eq!(back, [0, 9]);
        assert!(disk.read(1023, &mut back).is_err());
    }
}
