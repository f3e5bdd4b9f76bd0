//! The kernel's log, record by record.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{FaceError, Result};

/// Path of the kernel's log.
pub(super) const PATH: &str = "/dev/kmsg";

/// Largest record, in bytes, as the kernel's own reader has it.
const MAX_RECORD: usize = 8192;

/// Largest number of records that are read. A log buffer of 16 MiB holds about 200,000.
const MAX_RECORDS: usize = 1 << 20;

/// Reads all records that are there now: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT`, then lines that begin with a space.
pub(super) fn read() -> Result<Vec<String>> {
    let fail = |errno| FaceError::Kernel { doing: "read", path: PATH.into(), errno };
    let file =
        rustix::fs::open(PATH, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let mut record = vec![0; MAX_RECORD];
    let mut records = Vec::new();
    while records.len() < MAX_RECORDS {
        match rustix::io::read(&file, record.as_mut_slice()) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(length) => records.push(String::from_utf8_lossy(&record[..length]).trim_end().to_owned()),
            // The oldest records were overwritten meanwhile: the next read goes on behind them.
            Err(Errno::PIPE | Errno::INTR) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(records)
}

/// Splits a file of such records.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut records: Vec<String> = Vec::new();
    for line in text.lines() {
        match records.last_mut() {
            Some(record) if line.starts_with(' ') => {
                record.push('\n');
                record.push_str(line);
            }
            _ => records.push(line.into()),
        }
    }
    records
}
