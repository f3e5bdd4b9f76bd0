//! The kernel log while the command ran.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// Longest record that the kernel gives.
const RECORD: usize = 16 << 10;
/// Most bytes that are kept.
const MOST: usize = 16 << 20;
/// Lines of earlier that say how the IOMMU works.
const POLICY: [&str; 3] = ["Default domain type:", "TLB invalidation policy:", "DMA-API: "];

/// A reader of `/dev/kmsg`, behind what was there when it was opened.
#[derive(Debug)]
pub(super) struct KernelLog {
    file: Option<File>,
    /// Records of before that say how the IOMMU works.
    pub(super) policy: Vec<String>,
}

/// Text that was read.
#[derive(Debug, Default)]
pub(super) struct Since {
    /// Records.
    pub(super) records: Vec<String>,
    /// True when the kernel overwrote some before they were read, or there were too many.
    pub(super) gap: bool,
}

impl KernelLog {
    /// Opens the log and reads what is in it.
    pub(super) fn open() -> Self {
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/kmsg").ok();
        let mut log = Self { file, policy: Vec::new() };
        let policy = |record: &String| POLICY.iter().any(|words| record.contains(words));
        log.policy = log.read().records.into_iter().filter(policy).take(100).collect();
        log
    }

    /// True when the log cannot be read.
    pub(super) fn is_closed(&self) -> bool {
        self.file.is_none()
    }

    /// The records since the last call.
    pub(super) fn read(&mut self) -> Since {
        let mut read = Since::default();
        let Some(file) = &mut self.file else { return read };
        let mut buffer = vec![0; RECORD];
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) if bytes + n > MOST => {
                    read.gap = true;
                    break;
                }
                Ok(n) => {
                    bytes += n;
                    read.records.push(String::from_utf8_lossy(&buffer[..n]).trim_end().to_owned());
                }
                // Some were overwritten; the next call goes on with the oldest that is there.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => read.gap = true,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        read
    }
}
