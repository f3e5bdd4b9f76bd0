//! Shards: parts of one exploration that run anywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

    /// Number of this part, from 1.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Number of parts.
    pub const fn of(self) -> u32 {
        self.of
    }

    /// Returns true when the `position`-th subtree of work, from 0, belongs to this part.
    pub(super) fn owns(self, position: usize) -> bool {
        position % self.of as usize == (self.index - 1) as usize
    }
}

/// Reason for which there is no such shard.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShardError {
    /// Not of the form `K/N`.
    #[error("{0:?} is not a shard: write K/N, for example 3/8")]
    Syntax(String),
    /// No parts, or too many.
    #[error("a run is split into 1 to {most} parts, not {asked}", most = Shard::MOST)]
    Parts {
        /// The number that was asked for.
        asked: u32,
    },
    /// Not one of the parts.
    #[error("there is no shard {index} of {of}: they count from 1 to {of}")]
    Index {
        /// The number that was asked for.
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
