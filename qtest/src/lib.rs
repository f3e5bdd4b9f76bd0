//! QEMU's device models, driven without a guest.
//!
//! A [`Qemu`] is a process whose CPU halts at once. Its devices are reached through the qtest protocol (text on a socket: registers,
//! ports, memory), and its monitor (QMP) says what it has. A process that ends, hangs, or answers what the protocol does not
//! have is an [`Error`] with the last words of QEMU. A [`QemuEnv`] is such a process as an env of the core.
//!
//! ```no_run
//! use bindery_qtest::{Machine, Options, Qemu};
//!
//! let mut qemu = Qemu::start(&Options::new(Machine::Q35).device("edu,addr=3"))?;
//! let host = qemu.config_space()?.read32(0)?;
//! assert_eq!(host, 0x29c0_8086, "Intel's host bridge of the Q35");
//! # Ok::<(), bindery_qtest::Error>(())
//! ```

mod config;
mod env;
mod error;
mod host;
mod interrupts;
mod line;
mod machine;
mod memory;
mod qemu;
mod qmp;
mod slot;

pub use config::Config;
pub use env::{Listener, PciHost, QemuEnv};
pub use error::Error;
pub use machine::{Machine, Options};
pub use qemu::Qemu;
