//! State that outlives the command: journals of plans, records of devices that are given, and locks.

mod journal;
mod lock;
mod record;
mod recover;
mod store;

pub use journal::{Header, Journal, Log, LogError, Record, Resumed};
pub use lock::{Lock, LockError};
pub use record::{Given, take_steps};
pub use recover::{Recovered, lock_all, lock_names, recover};
pub use store::{Store, StoreError};

pub(crate) use store::{boot, new_id};

/// Version of the files. A newer version is refused, an older one is read.
pub const FORMAT: u32 = 1;
