//! The choice engine: stateless enumeration of choice sequences.
//!
//! A path is a list of small integers, one for each question that the scenario asked. The engine runs the scenario
//! once for each path: it follows a prefix, answers 0 to everything after it, and comes back with the questions it saw;
//! those are the next prefixes. Nothing is cloned and nothing is kept between runs, so the scenario may be any code.
//!
//! Choice 0 is always the ordinary one: the call succeeds, nobody interrupts, the first in line goes first.

mod bounds;
mod cheap;
mod chooser;
mod estimate;
mod execute;
mod explore;
mod find;
mod fingerprint;
mod merge;
mod path;
mod progress;
mod replay;
mod report;
mod run;
mod sample;
mod shrink;
mod split;
mod tally;
#[cfg(test)]
mod tests;
mod violation;
mod visited;
mod walk;
mod work;

pub use bounds::{Bounds, Kind, Shard, ShardError};
pub(crate) use cheap::Cheap;
pub use chooser::{Chooser, Visit};
pub use explore::Engine;
pub use fingerprint::{fingerprint, unordered};
pub use merge::MergeError;
pub use path::{Path, PathError};
pub use progress::Progress;
pub use replay::{Happened, Replay, Step};
pub use report::{Finding, Mode, Report};
pub use violation::Violation;
