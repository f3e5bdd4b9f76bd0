//! Errors of the recorder.

use std::io;
use std::path::PathBuf;

use crate::command::said;

/// Error of the recorder: nothing was recorded, or not all of it. Everything that was changed before has been put back.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The system is not Linux.
    #[error("recording needs Linux's ftrace")]
    Platform,
    /// The name cannot be a device's.
    #[error("{0:?} cannot be the name of a device")]
    Name(String),
    /// The file of the recording cannot be written.
    #[error("cannot write {}: {}", .path.display(), said(.error))]
    Output {
        /// The file.
        path: PathBuf,
        /// The host's error.
        error: io::Error,
    },
    /// There is a file of the name that is taken when none is given.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// The command cannot be run.
    #[error("cannot run {command}: {}", said(.error))]
    Command {
        /// The command.
        command: String,
        /// The host's error.
        error: io::Error,
    },
    /// The kernel has no tracefs, or it cannot be mounted.
    #[error("no tracefs: {0}")]
    NoTracefs(String),
    /// The kernel refuses access to tracefs.
    #[error("{}: {}", .path.display(), said(.error))]
    Refused {
        /// The file or folder.
        path: PathBuf,
        /// The host's error.
        error: io::Error,
    },
    /// The program cannot start itself again as the one that puts things back.
    #[error("cannot start the helper that puts tracing back when this program is killed: {}", said(.0))]
    Keeper(io::Error),
    /// No event at all could be enabled.
    #[error("this kernel has none of the events that are audited")]
    NoEvents,
    /// A signal came before the command was started.
    #[error("interrupted before the command was started")]
    Interrupted,
}

impl RecordError {
    /// Advice for the user.
    pub(crate) fn help(&self) -> Option<String> {
        let text = match self {
            Self::Platform => "copy the recording or a kernel log here, and name it: `bindery audit FILE`",
            Self::Name(_) => "name it as `ls /sys/bus/*/devices` does, such as 0000:00:1f.2 or ee300000.sata",
            Self::Output { .. } => "name another file with -o; a recording needs some MiB",
            Self::Exists(_) => "remove it, or name a file with -o",
            Self::Command { .. } => {
                "what stands behind `--` is a program and its arguments; a shell's line is `sh -c 'LINE'`"
            }
            Self::NoTracefs(_) | Self::NoEvents => {
                "a kernel needs CONFIG_FTRACE with CONFIG_FUNCTION_TRACER, as distributions build it. The kernel log can be \
                 audited all the same, for faults, crashes and refusals: `dmesg | bindery audit`"
            }
            Self::Refused { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                "recording needs root, and a kernel that is not locked down (/sys/kernel/security/lockdown). The kernel log \
                 can be audited all the same: `dmesg | bindery audit`"
            }
            Self::Refused { .. } | Self::Keeper(_) | Self::Interrupted => return None,
        };
        Some(text.to_owned())
    }
}
