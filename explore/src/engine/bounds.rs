//! How far an exploration goes: kinds of choice points, bounds, shards.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The kind of a choice point. [`Bounds`] limit the non-default choices of some kinds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Which of several pending steps runs next. Not bounded.
    Order,
    /// Whether a fallible call fails. Bounded by [`Bounds::faults`].
    Fault,
    /// Whether a concurrent operation (an unbind, a removal, a second binder) starts or continues at this scheduling point.
    /// Bounded by [`Bounds::preemptions`].
    Preemption,
    /// Which of several values or variants. Not bounded.
    Value,
}

impl Kind {
    /// The word that reports print.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Fault => "fault",
            Self::Preemption => "preemption",
            Self::Value => "value",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far an exploration goes. Within the first four it is exhaustive; the others end it early, and the report says so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bounds {
    /// Most faults on one path.
    pub faults: u32,
    /// Most preemptions on one path.
    pub preemptions: u32,
    /// Most non-default choices on one path, of all kinds together. `None`: any number.
    pub non_default: Option<u32>,
    /// Choice points on one path after which choice 0 is taken, and the path counts as truncated. `None`:
    /// [`Bounds::LONGEST`].
    pub depth: Option<u32>,
    /// Paths after which the exhaustive exploration stops.
    pub paths: u64,
    /// Most states that are remembered. Further ones are explored each time they are met. One takes about 32 bytes.
    pub states: u64,
    /// Time after which the exhaustive exploration stops.
    pub time: Option<Duration>,
    /// Paths drawn at random when the exhaustive exploration had to stop. 0: none.
    pub samples: u64,
    /// Seed of the random paths: the same seed draws the same paths, on any number of threads.
    pub seed: u64,
}

impl Bounds {
    /// Choice points above which a path is truncated whatever [`Bounds::depth`] says, so that a scenario that never ends
    /// does not fill the memory.
    pub const LONGEST: u32 = 1 << 20;
}

impl Default for Bounds {
    /// One fault, one preemption, a million paths, four million states, no samples.
    fn default() -> Self {
        Self {
            faults: 1,
            preemptions: 1,
            non_default: None,
            depth: None,
            paths: 1_000_000,
            states: 4_000_000,
            time: None,
            samples: 0,
            seed: 1,
        }
    }
}

/// One of `of` equal parts of a run, counted from 1. Written `K/N`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u32,
    of: u32,
}

impl Shard {
    /// Most parts that a run may be split into.
    pub const MOST: u32 = 65_536;

    /// Part `index` of `of`.
    pub fn new(index: u32, of: u32) -> Result<Self, ShardError> {
        if of == 0 || of > Self::MOST {
            return Err(ShardError::Parts { asked: of });
        }
        if index == 0 || index > of {
            return Err(ShardError::Index { index, of });
        }
        Ok(Self { index, of })
    }

    /// Which part, from 1.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Of how many.
    pub const fn of(self) -> u32 {
        self.of
    }

    /// Whether the `position`-th subtree of work, from 0, belongs to this part.
    pub(super) fn owns(self, position: usize) -> bool {
        position % self.of as usize == (self.index - 1) as usize
    }
}

/// Why a shard cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShardError {
    /// Not of the form `K/N`.
    #[error("{0:?} is not a shard: write K/N, for example 3/8")]
    Syntax(String),
    /// No parts, or too many.
    #[error("a run is split into 1 to {most} parts, not {asked}", most = Shard::MOST)]
    Parts {
        /// What was asked for.
        asked: u32,
    },
    /// Not one of the parts.
    #[error("there is no shard {index} of {of}: they count from 1 to {of}")]
    Index {
        /// What was asked for.
        index: u32,
        /// Parts.
        of: u32,
    },
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let syntax = || ShardError::Syntax(text.chars().take(40).collect());
        let (index, of) = text.split_once('/').ok_or_else(syntax)?;
        Self::new(index.parse().map_err(|_| syntax())?, of.parse().map_err(|_| syntax())?)
    }
}

impl TryFrom<String> for Shard {
    type Error = ShardError;

    fn try_from(text: String) -> Result<Self, ShardError> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}
