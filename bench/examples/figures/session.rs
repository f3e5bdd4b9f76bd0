//! Measures one row after the other, by counting or by the clock, and prints what it measured.

use std::time::Instant;

use super::allocator::allocations;

/// How rows are measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Under callgrind, which writes one dump for each call of [`measured`].
    Count,
    /// By the clock.
    Time,
}

/// How much of it is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// The rows of the gate: without what takes long under callgrind.
    Short,
    /// All rows.
    Long,
    /// What depends on the number of live mappings, by that number.
    Curves,
}

/// One run of this program.
pub(crate) struct Session {
    mode: Mode,
    length: Length,
}

/// The place that callgrind looks at: it collects inside of this function only, and dumps when it returns.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}

impl Session {
    pub(crate) fn new(mode: Mode, length: Length) -> Self {
        Self { mode, length }
    }

    pub(crate) fn length(&self) -> Length {
        self.length
    }

    pub(crate) fn counts(&self) -> bool {
        self.mode == Mode::Count
    }

    /// Counts what one call of `work` takes, as the mean over `times` calls, after as many for warming up. With the clock it
    /// prints nanoseconds.
    pub(crate) fn count(&self, row: &str, times: u32, mut work: impl FnMut()) {
        (0..times).for_each(|_| work());
        if self.counts() {
            count(row, times, &mut || (0..times).for_each(|_| work()));
        } else {
            println!("time\t{row}\t{:.1}", nanoseconds(times, &mut work));
        }
    }

    /// As [`count`](Self::count), for `work` that can be done only once and is `parts` operations.
    pub(crate) fn once(&self, row: &str, parts: u32, work: &mut dyn FnMut()) {
        if self.counts() {
            count(row, parts, work);
        } else {
            let start = Instant::now();
            work();
            println!("time\t{row}\t{:.1}", start.elapsed().as_secs_f64() * 1e9 / f64::from(parts));
        }
    }

    /// Compares with a peer. Both are counted, and by the clock they take turns.
    pub(crate) fn compare(&self, row: &str, times: u32, mut own: impl FnMut(), mut peer: impl FnMut()) {
        self.count(row, times, &mut own);
        if self.counts() {
            self.count(&format!("{row}.peer"), times, &mut peer);
            return;
        }
        let mut pairs: Vec<_> =
            (0..25).map(|_| (nanoseconds(times, &mut own), nanoseconds(times, &mut peer))).collect();
        pairs.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        // The median of the ratios of turns that follow each other: both suffer alike from a busy machine.
        let (own, peer) = pairs[pairs.len() / 2];
        println!("ratio\t{row}\t{own:.3}\t{peer:.3}");
    }

    /// Prints a figure that was counted by the program itself.
    #[expect(clippy::unused_self, reason = "reads like the other rows")]
    pub(crate) fn figure(&self, row: &str, value: f64) {
        println!("figure\t{row}\t{value:.3}");
    }
}

/// Has callgrind count `work`, which is `times` operations.
fn count(row: &str, times: u32, work: &mut dyn FnMut()) {
    let before = allocations();
    measured(work);
    let allocations = (allocations() - before) as f64 / f64::from(times);
    println!("count\t{row}\t{times}\t{allocations:.2}");
}

/// Nanoseconds of one call of `work`, as the mean over `times` calls.
fn nanoseconds(times: u32, work: &mut impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..times).for_each(|_| work());
    start.elapsed().as_secs_f64() * 1e9 / f64::from(times)
}

/// Random numbers without a state that others share: a linear congruential generator (Knuth's MMIX), upper bits.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }
}
