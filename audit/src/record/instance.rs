//! The recorder's own instance of ftrace.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::probes;
use super::tracefs::put;

/// Prefix of the names of instances.
const PREFIX: &str = "bindery-audit-";
/// Prefix of the groups of kprobe events: a group's name has no dashes.
const GROUP: &str = "bindery_audit_";

/// The group of kprobe events of the instance at `path`.
pub(super) fn group_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().replace('-', "_")
}

/// An instance that this process made.
///
/// Holding it tells other recorders that it is in use: its folder is locked, and the kernel unlocks it when the process ends
/// in any way.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) path: PathBuf,
    _lock: File,
}

/// A path in the tracefs at `tracefs` that no instance has.
pub(super) fn free_path(tracefs: &Path) -> PathBuf {
    let folder = tracefs.join("instances");
    let pid = std::process::id();
    let mut n = 0u32;
    loop {
        let path = folder.join(format!("{PREFIX}{pid}-{n}"));
        if !path.exists() {
            return path;
        }
        n += 1;
    }
}

impl Instance {
    /// Makes the instance at `path`.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        fs::create_dir(path)?;
        let lock = File::open(path)?;
        // Another recorder may have taken it for one that was left behind, between the two calls.
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        if !path.join("trace").exists() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the instance is gone, or has no files"));
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The file `name` of the instance.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Its group of kprobe events.
    pub(super) fn group(&self) -> String {
        group_of(&self.path)
    }

    /// Writes to the file `name`.
    pub(super) fn put(&self, name: &str, text: &str) -> io::Result<()> {
        put(&self.file(name), text)
    }
}

/// Stops and removes the instance at `path`. One that is not there is removed.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    // Each may be missing in a kernel; the removal says whether it worked.
    for (file, text) in [("tracing_on", "0"), ("current_tracer", "nop"), ("events/enable", "0")] {
        let _ = put(&path.join(file), text);
    }
    let mut tries = 0;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Somebody reads one of its files; the kernel's own work on it may also take a moment.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < 100 => {
                tries += 1;
                sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

/// Groups of kprobe events whose instance is gone: a recorder makes them after its instance.
pub(super) fn groups_left_behind(tracefs: &Path) -> Vec<String> {
    let mut groups = probes::groups(tracefs, GROUP);
    groups.retain(|group| !tracefs.join("instances").join(group.replace('_', "-")).exists());
    groups
}

/// Instances of recorders that are gone: their folders are not locked.
pub(super) fn left_behind(tracefs: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(tracefs.join("instances")) else { return Vec::new() };
    let ours = |entry: fs::DirEntry| entry.file_name().to_str()?.starts_with(PREFIX).then(|| entry.path());
    let idle = |path: &PathBuf| {
        File::open(path).is_ok_and(|folder| flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok())
    };
    entries.filter_map(Result::ok).filter_map(ours).filter(idle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_left_behind_when_nobody_locks_it() {
        let tracefs = tempfile::tempdir().unwrap();
        let folder = tracefs.path().join("instances");
        let (dead, live) = (folder.join("bindery-audit-1-0"), folder.join("bindery-audit-2-0"));
        for path in [&dead, &live, &folder.join("somebody-else")] {
            fs::create_dir_all(path).unwrap();
        }
        let lock = File::open(&live).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        assert_eq!(left_behind(tracefs.path()), std::slice::from_ref(&dead));
        remove(&dead).unwrap();
        remove(&dead).unwrap();
        drop(lock);
        assert_eq!(left_behind(tracefs.path()), [live]);
    }

    #[test]
    fn two_recorders_of_one_process_get_instances_of_their_own() {
        let tracefs = tempfile::tempdir().unwrap();
        fs::create_dir(tracefs.path().join("instances")).unwrap();
        let first = free_path(tracefs.path());
        fs::create_dir(&first).unwrap();
        assert_ne!(first, free_path(tracefs.path()));
    }
}
