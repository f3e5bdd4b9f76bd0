//! Notes of helper processes that other commands have left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::protocol::readable;
use crate::face::READ_DEADLINE;

/// Wait for the process of another command, by a command that only looks: that one has waited long enough.
const BRIEFLY: Duration = Duration::from_millis(50);

/// Folders with a file for each process that was left behind. It is named by the process, and holds the time of its start and
/// what it was asked about.
#[derive(Debug)]
pub(super) struct Left {
    folders: Vec<PathBuf>,
}

impl Left {
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// Notes that process `pid` waits for something of `whose`. Without a note, later commands leave a process of their own.
    pub(super) fn note(&self, whose: &str, pid: u32) {
        let Some(started) = started(pid) else { return };
        let kept = |folder: &PathBuf| {
            let text = format!("{started}\n{whose}\n");
            fs::create_dir_all(folder).and_then(|()| fs::write(folder.join(pid.to_string()), text)).is_ok()
        };
        self.folders.iter().any(kept);
    }

    /// The process that waits for something of `whose`, if it does not end within the deadline.
    pub(super) fn waits_for(&self, whose: &str, deadline: Duration) -> Option<u32> {
        let noted = self.folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
        let mut waiting = noted.filter_map(|entry| waiting(&entry.path(), whose));
        let patience = if deadline > READ_DEADLINE { deadline } else { BRIEFLY.min(deadline) };
        waiting.find(|pid| !ends_within(*pid, patience))
    }
}

/// The process that the note at `path` is about, if it waits for something of `whose`. Notes of processes that have ended
/// are removed.
fn waiting(path: &Path, whose: &str) -> Option<u32> {
    let pid = path.file_name()?.to_str()?.parse().ok()?;
    let text = fs::read_to_string(path).ok()?;
    let (start, asked) = text.split_once('\n')?;
    // The number may be another process's by now.
    if started(pid).is_none_or(|started| started.to_string() != start) {
        let _ = fs::remove_file(path);
        return None;
    }
    (asked.trim_end() == whose).then_some(pid)
}

/// Time at which a process was started, in ticks since the machine was; `None` when it has ended.
fn started(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and brackets.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok()).flatten()
}

fn ends_within(pid: u32, patience: Duration) -> bool {
    let ending = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    match ending {
        Some(Ok(ending)) => readable(&ending, patience),
        // Kernels before 5.3 have no descriptors of processes.
        _ => started(pid).is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_counts_while_its_process_lives() {
        let dir = tempfile::tempdir().unwrap();
        let left = || Left::new(vec![dir.path().join("late")]);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        left().note("/sys/devices/a", child.id());
        assert_eq!(left().waits_for("/sys/devices/a", BRIEFLY), Some(child.id()));
        assert_eq!(left().waits_for("/sys/devices/b", BRIEFLY), None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(left().waits_for("/sys/devices/a", BRIEFLY), None);
        assert_eq!(fs::read_dir(dir.path().join("late")).unwrap().count(), 0, "the note is gone");
    }

    #[test]
    fn a_process_with_the_number_of_another_one_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(std::process::id().to_string()), "1\n/sys/devices/a\n").unwrap();
        fs::write(dir.path().join("nonsense"), "1").unwrap();
        assert_eq!(Left::new(vec![dir.path().into()]).waits_for("/sys/devices/a", BRIEFLY), None);
    }
}
