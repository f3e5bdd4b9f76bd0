//! The file of a recording: comments with the evidence beside the trace, then the trace.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::RecordError;
use super::instance::Instance;

/// The file while it is written. What is not finished is removed.
#[derive(Debug)]
pub(super) struct Draft {
    to: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    finished: bool,
}

impl Draft {
    /// Makes the draft of the file at `output`, or of `DEVICE.trace`, before anything else is changed.
    pub(super) fn create(output: Option<&Path>, device: &str) -> Result<Self, RecordError> {
        let to = output.map_or_else(|| PathBuf::from(format!("{device}.trace")), Path::to_owned);
        let failed = |error| RecordError::Output { path: to.clone(), error };
        match fs::metadata(&to) {
            Ok(_) if output.is_none() => return Err(RecordError::Exists(to)),
            // A device or a pipe would be replaced by the file.
            Ok(meta) if !meta.is_file() => return Err(failed(io::Error::other("not a file"))),
            _ => {}
        }
        let name = to.file_name().ok_or_else(|| failed(io::Error::other("not the name of a file")))?;
        let draft = to.with_file_name(format!("{}.part", name.to_string_lossy()));
        // Of a recorder that was killed. `create_new` below follows no link that somebody else put there.
        let _ = fs::remove_file(&draft);
        let file = File::create_new(&draft).map_err(failed)?;
        Ok(Self { to, part: draft, file: BufWriter::with_capacity(1 << 16, file), finished: false })
    }

    /// Writes a comment.
    pub(super) fn comment(&mut self, text: &str) -> io::Result<()> {
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        writeln!(self.file, "# {line}")
    }

    /// Writes a line of a kernel log.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.file, "{text}")
    }

    /// Writes what the buffers' counters say.
    pub(super) fn stats(&mut self, instance: &Instance) -> io::Result<()> {
        let Ok(entries) = fs::read_dir(instance.file("per_cpu")) else { return Ok(()) };
        let mut cpus: Vec<(u32, PathBuf)> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| Some((entry.file_name().to_str()?.strip_prefix("cpu")?.parse().ok()?, entry.path())))
            .collect();
        cpus.sort();
        for (cpu, path) in cpus {
            let Ok(text) = fs::read_to_string(path.join("stats")) else { continue };
            let counts: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            self.comment(&format!("stats cpu {cpu}: {}", counts.join(", ")))?;
        }
        Ok(())
    }

    /// Writes the trace, and says whether there is any event in it.
    pub(super) fn trace(&mut self, instance: &Instance) -> io::Result<bool> {
        let mut reader = BufReader::with_capacity(1 << 18, File::open(instance.file("trace"))?);
        let mut events = false;
        loop {
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(events);
            }
            events |= bytes.split(|byte| *byte == b'\n').any(|line| !line.is_empty() && line[0] != b'#');
            let n = bytes.len();
            self.file.write_all(bytes)?;
            reader.consume(n);
        }
    }

    /// Gives the file its name.
    pub(super) fn finish(mut self) -> io::Result<PathBuf> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.part, &self.to)?;
        self.finished = true;
        Ok(self.to.clone())
    }

    /// The file that it will be.
    pub(super) fn path(&self) -> PathBuf {
        self.to.clone()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.trace");
        fs::write(folder.path().join("x.trace.part"), "of a recorder that was killed").unwrap();
        let mut draft = Draft::create(Some(&path), "d").unwrap();
        draft.comment("a\u{1b}b\nc").unwrap();
        assert!(!path.exists());
        drop(draft);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut draft = Draft::create(Some(&path), "d").unwrap();
        draft.comment("a\u{1b}b\nc").unwrap();
        draft.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# a b c\n");
    }

    #[test]
    fn what_cannot_be_the_file_is_refused_at_once() {
        assert!(matches!(Draft::create(Some(Path::new("/dev/null")), "d"), Err(RecordError::Output { .. })));
        assert!(matches!(Draft::create(Some(Path::new("/proc/x/y")), "d"), Err(RecordError::Output { .. })));
        assert!(matches!(Draft::create(Some(Path::new("/")), "d"), Err(RecordError::Output { .. })));
    }
}
