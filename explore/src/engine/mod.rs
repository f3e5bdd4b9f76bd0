//! The choice engine: stateless enumeration of choice sequences.
//!
//! A path is a list of small integers, one for each choice point that the scenario met. The engine runs the scenario
//! once for each path: it follows a prefix, takes choice 0 at everything after it, and returns with the choice points it met;
//! those are the next prefixes. Nothing is cloned and nothing is kept between runs, so the scenario may be any code.
//!
//! Choice 0 is always the default: the call succeeds, no preemption happens, the first in the queue runs first.

mod bounds;
mod chooser;
mod estimate;
mod execute;
mod execution;
mod exploration;
mod explore;
mod find;
mod fingerprint;
mod hasher;
mod merge;
mod path;
mod progress;
mod replay;
mod report;
mod sample;
mod shard;
mod shrink;
mod split;
mod tally;
#[cfg(test)]
mod tests;
mod violation;
mod visited;
mod walk;

pub use bounds::{Bounded, Bounds, Kind};
pub use chooser::{Chooser, Visit};
pub use explore::Engine;
pub use fingerprint::{fingerprint, unordered};
pub(crate) use hasher::FastHasher;
pub use merge::MergeError;
pub use path::{Path, PathError};
pub use progress::Progress;
pub use replay::{MachineEvent, Replay, Step};
pub use report::{Finding, Mode, Report};
pub use shard::{Shard, ShardError};
pub use violation::Violation;
