//! Paths, and their text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::bounds::Bounds;

/// The choices of one execution, in order. Zeros at the end are left out: an execution takes choice 0 where its path is
/// over.
///
/// Written with dots between, and a run of zeros as `0xCOUNT`: `0x12.1.0x3.2`. The path of nothing but zeros is `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Path(Vec<u32>);

impl Path {
    /// A path of these choices.
    pub fn new(mut choices: Vec<u32>) -> Self {
        let end = choices.iter().rposition(|&a| a != 0).map_or(0, |i| i + 1);
        choices.truncate(end);
        Self(choices)
    }

    /// The choices, without the zeros at the end.
    pub fn choices(&self) -> &[u32] {
        &self.0
    }

    /// Number of non-default choices: faults, preemptions, other orders than the default.
    pub fn non_default(&self) -> usize {
        self.0.iter().filter(|&&a| a != 0).count()
    }

    /// Sort key of paths, shortest first: fewer non-default choices, then fewer choices, then smaller ones.
    pub(super) fn cost(&self) -> (usize, usize, &[u32]) {
        (self.non_default(), self.0.len(), &self.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        let mut rest = &self.0[..];
        while let Some(&first) = rest.first() {
            if rest.len() < self.0.len() {
                f.write_str(".")?;
            }
            let zeros = rest.iter().take_while(|&&a| a == 0).count();
            if zeros > 1 {
                write!(f, "0x{zeros}")?;
                rest = &rest[zeros..];
            } else {
                write!(f, "{first}")?;
                rest = &rest[1..];
            }
        }
        Ok(())
    }
}

/// Reason for which a text is not a path.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// Nothing at all.
    #[error("the path is empty; that of default choices only is written -")]
    Empty,
    /// A part is neither a number nor a run of zeros.
    #[error("part {position} of the path is {part:?}: neither a number nor 0xCOUNT")]
    Part {
        /// Position, counted from 1.
        position: usize,
        /// Text there, at most 40 characters of it.
        part: String,
    },
    /// More choices than an execution may have.
    #[error("the path is longer than {} choices", Bounds::LONGEST)]
    TooLong,
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let text = text.trim();
        match text {
            "" => return Err(PathError::Empty),
            "-" => return Ok(Self::default()),
            _ => {}
        }
        let mut choices = Vec::new();
        for (index, part) in text.split('.').enumerate() {
            let wrong = || PathError::Part { position: index + 1, part: part.chars().take(40).collect() };
            let (choice, count) = match part.strip_prefix("0x") {
                Some(count) => (0, count.parse::<usize>().map_err(|_| wrong())?),
                None => (part.parse::<u32>().map_err(|_| wrong())?, 1),
            };
            if count > Bounds::LONGEST as usize - choices.len() {
                return Err(PathError::TooLong);
            }
            choices.resize(choices.len() + count, choice);
        }
        Ok(Self::new(choices))
    }
}

impl TryFrom<String> for Path {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.to_string()
    }
}
