//! tracefs: where it is mounted, and its files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::RecordError;

/// Usual mount point of tracefs.
const PLACE: &str = "/sys/kernel/tracing";

/// Mount point of tracefs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// It is mounted.
    Mounted(PathBuf),
    /// It is not, and can be mounted here.
    Free(PathBuf),
}

/// Looks for tracefs; the place where it belongs is preferred, debugfs shows it in a folder.
pub(super) fn find() -> Result<Place, RecordError> {
    let mounts = fs::read("/proc/self/mounts")
        .map_err(|error| RecordError::Refused { path: "/proc/self/mounts".into(), error })?;
    if let Some(at) = in_mounts(&mounts, &|path| path.is_dir()) {
        return Ok(Place::Mounted(at));
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.lines().any(|line| line.split_whitespace().last() == Some("tracefs")) {
        return Err(RecordError::NoTracefs("this kernel is built without ftrace".to_owned()));
    }
    if !Path::new(PLACE).is_dir() {
        return Err(RecordError::NoTracefs(format!("it is not mounted, and there is no {PLACE} to mount it at")));
    }
    Ok(Place::Free(PLACE.into()))
}

/// The best of the places in the text of `/proc/self/mounts`.
fn in_mounts(mounts: &[u8], is_dir: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for line in mounts.split(|byte| *byte == b'\n') {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(_), Some(at), Some(kind)) = (words.next(), words.next(), words.next()) else { continue };
        let at = PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(at)));
        match kind {
            b"tracefs" => found.push(at),
            b"debugfs" => found.push(at.join("tracing")),
            _ => {}
        }
    }
    // A line feed in the path would end the line that names it to the keeper.
    found.retain(|at| is_dir(at) && !at.as_os_str().as_bytes().contains(&b'\n'));
    found.sort_by_key(|at| at.as_path() != Path::new(PLACE));
    found.into_iter().next()
}

/// A path of `/proc/self/mounts`, where blanks are written as `\040`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let octal = text
            .get(at + 1..at + 4)
            .filter(|digits| text[at] == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        if let Some(digits) = octal {
            out.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            at += 4;
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

/// Writes `text` to the file at `path`, which must be there. Files of tracefs take one command with each write.
pub(super) fn put(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

/// Adds `text` to what the file at `path` holds. Without this mode, some files of tracefs are emptied when they are opened.
pub(super) fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracefs_is_found_where_it_belongs_before_debugfs() {
        let mounts = b"debugfs /sys/kernel/debug debugfs rw 0 0\ntracefs /mnt/a\\040b tracefs rw 0 0\n\
            tracefs /sys/kernel/tracing tracefs rw 0 0\n";
        assert_eq!(in_mounts(mounts, &|_| true), Some(PathBuf::from(PLACE)));
        assert_eq!(in_mounts(mounts, &|at| !at.starts_with(PLACE)), Some("/sys/kernel/debug/tracing".into()));
        assert_eq!(in_mounts(mounts, &|at| at.starts_with("/mnt")), Some("/mnt/a b".into()));
        assert_eq!(in_mounts(b"proc /proc proc rw 0 0\n\ngarbage", &|_| true), None);
    }
}
