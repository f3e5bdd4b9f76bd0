//! The kernel's announcements of changes to devices: uevents, by netlink.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with, sockopt};

use super::{FaceError, Result};

/// The multicast group of the kernel's own messages. Group 2 has those that udev sends on.
const FROM_KERNEL: u32 = 1;

/// Largest message, in bytes: the kernel builds it in a buffer of 2 KiB behind a path of at most 4 KiB.
const MAX_MESSAGE: usize = 8192;

/// Receive buffer, in bytes: a thousand virtual functions that appear at once send about 1 MiB.
const BUFFER: usize = 8 << 20;

/// Name in messages, since a socket has no path.
const NAME: &str = "the kernel's uevent socket";

/// A change to a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `bind`, `unbind`, `change`, `move`, `online`, `offline`.
    pub action: String,
    /// The device's path, with `/sys` before it.
    pub path: String,
    /// Its bus or class.
    pub subsystem: String,
    /// The kernel's number of the event.
    pub sequence: Option<u64>,
}

/// Outcome of a wait for changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A device changed.
    Device(Uevent),
    /// Events came faster than they were read, and some are lost: everything must be looked at again.
    Lost,
}

/// A source of changes. It collects them from the moment it is made.
pub trait Uevents {
    /// The next change; `None` when there is none within `timeout`.
    fn next(&mut self, timeout: Duration) -> Result<Option<Change>>;
}

/// Reads a message of the kernel's: `bind@/devices/...`, then `KEY=VALUE`, each ended by a NUL.
///
/// `None` for what is not one, such as udev's own messages.
pub fn parse(message: &[u8]) -> Option<Uevent> {
    let mut parts = message.split(|byte| *byte == 0).filter_map(|part| std::str::from_utf8(part).ok());
    let (action, path) = parts.next()?.split_once('@')?;
    if action.is_empty() || !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return None;
    }
    let mut event = Uevent { action: action.into(), path: format!("/sys{path}"), ..Uevent::default() };
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key {
            "SUBSYSTEM" => event.subsystem = value.into(),
            "SEQNUM" => event.sequence = value.parse().ok(),
            _ => {}
        }
    }
    Some(event)
}

/// The kernel's socket.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open() -> Result<Self> {
        let fail = |errno| FaceError::Kernel { doing: "open", path: NAME.into(), errno };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT)).map_err(fail)?;
        // More than the system's limit needs root. With less, bursts are lost sooner, which is noticed.
        if sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
            let _ = sockopt::set_socket_recv_buffer_size(&socket, BUFFER);
        }
        bind(&socket, &SocketAddrNetlink::new(0, FROM_KERNEL)).map_err(fail)?;
        Ok(Self(socket))
    }

    /// One message; `None` for one that is not the kernel's.
    fn receive(&self) -> std::result::Result<Option<Change>, Errno> {
        let mut message = vec![0; MAX_MESSAGE];
        let (_, length, from) = match recvfrom(&self.0, message.as_mut_slice(), RecvFlags::TRUNC) {
            Err(Errno::NOBUFS) => return Ok(Some(Change::Lost)),
            received => received?,
        };
        // Any process of root's can send to this socket. The kernel's port is 0.
        let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
        if from.is_none_or(|from| from.pid() != 0) {
            return Ok(None);
        }
        if length > MAX_MESSAGE {
            return Ok(Some(Change::Lost));
        }
        Ok(parse(&message[..length]).map(Change::Device))
    }
}

impl Uevents for Socket {
    fn next(&mut self, timeout: Duration) -> Result<Option<Change>> {
        let fail = |errno| FaceError::Kernel { doing: "read", path: NAME.into(), errno };
        let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(fail(errno)),
        }
        match self.receive() {
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            received => received.map_err(fail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_the_kernels_is_read() {
        let message = b"bind@/devices/pci0000:00/0000:00:04.0\0ACTION=bind\0DEVPATH=/x\0SUBSYSTEM=pci\0SEQNUM=4711\0";
        let event = parse(message).unwrap();
        assert_eq!((event.action.as_str(), event.path.as_str()), ("bind", "/sys/devices/pci0000:00/0000:00:04.0"));
        assert_eq!((event.subsystem.as_str(), event.sequence), ("pci", Some(4711)));
    }

    #[test]
    fn other_messages_are_left_out() {
        let messages: [&[u8]; 6] =
            [b"", b"libudev\0\xfe\xed\xca\xfe", b"bind", b"bind@devices", b"@/devices/x", b"add@/devices/../../etc\0"];
        for message in messages {
            assert_eq!(parse(message), None, "{message:?}");
        }
        assert!(parse(b"add@/devices/x\0\xff\xff=1\0SUBSYSTEM=pci\0").is_some(), "a value that is not UTF-8");
    }

    #[test]
    fn a_silent_socket_returns_within_its_timeout() {
        // Every user may listen; where a sandbox forbids it, the error names the socket.
        match Socket::open() {
            Ok(mut socket) => {
                socket.next(Duration::ZERO).unwrap();
            }
            Err(error) => assert!(error.to_string().contains(NAME), "{error}"),
        }
    }
}
