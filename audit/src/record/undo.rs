//! Undoing each change, and the helper that does it when the recorder is killed.

use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;

use super::error::RecordError;
use super::{instance, probes};

/// The steps that undo one change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Undo {
    /// Unmount tracefs.
    Unmount(PathBuf),
    /// Remove the instance.
    Instance(PathBuf),
    /// Remove the kprobe events of a group: the last component; the rest is tracefs. Noted before the instance that uses them.
    Probes(PathBuf),
}

impl Undo {
    /// As a line for the keeper.
    fn line(&self) -> Vec<u8> {
        let (word, path) = match self {
            Self::Unmount(path) => ("unmount", path),
            Self::Instance(path) => ("instance", path),
            Self::Probes(path) => ("probes", path),
        };
        [word.as_bytes(), b" ", path.as_os_str().as_bytes(), b"\n"].concat()
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let at = line.iter().position(|byte| *byte == b' ')?;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&line[at + 1..]));
        match &line[..at] {
            b"unmount" => Some(Self::Unmount(path)),
            b"instance" => Some(Self::Instance(path)),
            b"probes" => Some(Self::Probes(path)),
            _ => None,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Unmount(path) | Self::Instance(path) | Self::Probes(path) => path,
        }
    }

    fn undo(&self) -> io::Result<()> {
        match self {
            Self::Instance(path) => instance::remove(path),
            Self::Probes(path) => match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
                (Some(tracefs), Some(group)) => probes::remove(tracefs, group),
                _ => Ok(()),
            },
            Self::Unmount(path) => match rustix::mount::unmount(path, rustix::mount::UnmountFlags::empty()) {
                // Somebody else has begun to use it: it is theirs now. Not mounted any more is as good; and who may not
                // unmount it has not mounted it.
                Ok(()) | Err(Errno::BUSY | Errno::INVAL | Errno::PERM) => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// Everything that was changed, newest last. Dropping it puts everything back.
#[derive(Debug)]
pub(super) struct Journal {
    keeper: Child,
    changes: Vec<Undo>,
}

impl Journal {
    /// Starts the keeper: this program again, with `arguments` and `--keeper`.
    pub(super) fn start(arguments: &[&str]) -> Result<Self, RecordError> {
        let keeper = Command::new("/proc/self/exe")
            .args(arguments)
            .arg("--keeper")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .current_dir("/")
            // What a terminal or a shell sends to the recorder's group must not end the keeper.
            .process_group(0)
            .spawn()
            .map_err(RecordError::Keeper)?;
        Ok(Self { keeper, changes: Vec::new() })
    }

    /// Records how to undo the change that is made next. The helper process knows it before the change is made.
    pub(super) fn will(&mut self, undo: Undo) -> Result<(), RecordError> {
        let pipe = self.keeper.stdin.as_mut().ok_or_else(|| RecordError::Keeper(io::ErrorKind::BrokenPipe.into()))?;
        pipe.write_all(&undo.line()).map_err(RecordError::Keeper)?;
        self.changes.push(undo);
        Ok(())
    }

    /// Puts everything back, newest first, and lets the keeper go.
    pub(super) fn undo(&mut self) {
        if back(&mut self.changes)
            && let Some(pipe) = &mut self.keeper.stdin
        {
            // A keeper that does not hear it does once more what is done.
            let _ = pipe.write_all(b"done\n");
        }
        self.keeper.stdin = None;
        let _ = self.keeper.wait();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.undo();
    }
}

/// Undoes `changes`, newest first, and says whether all could be undone.
fn back(changes: &mut Vec<Undo>) -> bool {
    let mut all = true;
    while let Some(change) = changes.pop() {
        if let Err(error) = change.undo() {
            all = false;
            let _ = writeln!(io::stderr(), "cannot put back {}: {error}", change.path().display());
        }
    }
    all
}

/// The keeper: waits until the recorder is done or gone, and then puts back what it did not. Returns the exit code.
pub fn keep() -> u8 {
    // It outlives what asks the recorder to end. A failure costs only that.
    let _ = ctrlc::set_handler(|| {});
    u8::from(!keep_from(&mut io::stdin().lock()))
}

fn keep_from(input: &mut dyn BufRead) -> bool {
    let mut changes = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            // A line without its end was cut by the recorder's death, before the change that it is about.
            Ok(_) if line.pop() != Some(b'\n') => break,
            Ok(_) if line == b"done" => return true,
            Ok(_) => changes.extend(Undo::parse(&line)),
        }
    }
    if !changes.is_empty() {
        // The terminal may be gone, too.
        let _ = writeln!(io::stderr(), "the recorder is gone: its changes to tracefs are put back");
    }
    back(&mut changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_back_survives_the_pipe() {
        for undo in
            [Undo::Unmount("/sys/kernel/tracing".into()), Undo::Instance("/a b/x".into()), Undo::Probes("/t/g".into())]
        {
            let line = undo.line();
            assert_eq!(Undo::parse(&line[..line.len() - 1]), Some(undo));
        }
        assert_eq!(Undo::parse(b"nonsense"), None);
    }

    #[test]
    fn the_keeper_acts_when_the_recorder_is_gone_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&two).unwrap();
        let mut text = Undo::Instance(one.clone()).line();
        let done = [&text[..], b"done\n"].concat();
        assert!(keep_from(&mut &done[..]));
        assert!(one.exists());
        assert!(keep_from(&mut &text[..]));
        assert!(!one.exists());
        // Cut in the middle of the second line.
        std::fs::create_dir(&one).unwrap();
        text.extend(&Undo::Instance(two.clone()).line()[..12]);
        assert!(keep_from(&mut &text[..]));
        assert!(!one.exists());
        assert!(two.exists());
    }

    /// A change of a kind that can or cannot be put back, in a folder of its own.
    fn changed(folder: &Path, kind: usize) -> Undo {
        let held = folder.join("held");
        std::fs::create_dir_all(&held).unwrap();
        match kind {
            0 => Undo::Instance(held),
            // Somebody's file in it keeps the folder.
            1 => Undo::Instance(folder.into()),
            2 => {
                std::fs::write(folder.join("kprobe_events"), "p:group/x f\n").unwrap();
                Undo::Probes(folder.join("group"))
            }
            _ => Undo::Unmount(folder.join("missing")),
        }
    }

    /// True when the change of that kind was put back, and no sign of it is left.
    fn is_back(folder: &Path, kind: usize) -> bool {
        match kind {
            0 => !folder.join("held").exists(),
            2 => std::fs::read_to_string(folder.join("kprobe_events")).unwrap().ends_with("-:group/x\n"),
            _ => false,
        }
    }

    #[test]
    fn what_can_be_put_back_is_though_others_cannot() {
        for number in 0..4_usize.pow(2) {
            let kinds = [number / 4, number % 4];
            for by_keeper in [false, true] {
                let root = tempfile::tempdir().unwrap();
                let folders: Vec<_> = (0..kinds.len()).map(|at| root.path().join(at.to_string())).collect();
                let mut changes: Vec<_> = folders.iter().zip(&kinds).map(|(at, kind)| changed(at, *kind)).collect();
                let lines: Vec<u8> = changes.iter().flat_map(Undo::line).collect();
                let all = if by_keeper { keep_from(&mut &lines[..]) } else { back(&mut changes) };
                let done: Vec<bool> = folders.iter().zip(&kinds).map(|(at, kind)| is_back(at, *kind)).collect();
                let can = kinds.map(|kind| kind % 2 == 0);
                assert_eq!(done, can, "{kinds:?}, by the keeper: {by_keeper}");
                assert_eq!(all, can == [true; 2], "{kinds:?}, by the keeper: {by_keeper}");
            }
        }
    }
}
