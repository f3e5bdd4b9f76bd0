//! Places in files and times on clocks.

use std::fmt;

/// A line of a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Place {
    /// The file, in the order in which they were read, from 0.
    pub file: u32,
    /// The line, from 1.
    pub line: u64,
}

/// The clock that a time was taken from. Times of different clocks are never compared: they differ by up to seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// The trace's.
    Trace,
    /// The kernel log's.
    Printk,
    /// A wall clock with fractions of a second.
    Wall,
    /// A wall clock of whole seconds: too coarse for an order or an age below that.
    WallSeconds,
}

/// A time in nanoseconds on a clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The clock.
    pub clock: Clock,
    /// Nanoseconds.
    pub ns: u64,
}

impl Stamp {
    /// Nanoseconds from `earlier` to here, where both are on one clock that is fine enough to tell.
    pub fn since(self, earlier: Self) -> Option<u64> {
        if self.clock != earlier.clock {
            return None;
        }
        let age = self.ns.checked_sub(earlier.ns)?;
        (self.clock != Clock::WallSeconds || age >= 1_000_000_000).then_some(age)
    }
}

/// A span of time in words: `3 µs`, `8 ms`, `5.0 s`.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ns @ 0..1_000 => write!(f, "{ns} ns"),
            ns @ 1_000..1_000_000 => write!(f, "{} µs", ns / 1_000),
            ns @ 1_000_000..1_000_000_000 => write!(f, "{} ms", ns / 1_000_000),
            ns => write!(f, "{}.{} s", ns / 1_000_000_000, ns / 100_000_000 % 10),
        }
    }
}

/// Nanoseconds of `SECONDS.FRACTION`.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.')?;
    if whole.is_empty() || whole.len() > 10 || !(3..=9).contains(&fraction.len()) {
        return None;
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let scale = 10_u64.pow(9 - fraction.len() as u32);
    Some(whole.parse::<u64>().ok()? * 1_000_000_000 + fraction.parse::<u64>().ok()? * scale)
}
