//! The promises (invariants) P1 to P14, and counters of their checks at run time.

use alloc::string::String;
use alloc::vec::Vec;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{PerCpu, SpinLock};

macro_rules! promises {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $title:literal;)*) => {
        /// An invariant that the core keeps and checks at run time (ARCHITECTURE.md, "The promises").
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        pub enum Promise { $($(#[$doc])* $name,)* }

        impl Promise {
            /// All promises, P1 first.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$name,)*];
            /// Number of promises.
            pub const COUNT: usize = [$($id,)*].len();
            /// `"P1"` to `"P14"`.
            pub const fn id(self) -> &'static str { match self { $(Self::$name => $id,)* } }
            /// Short name: `"unreachable before free"`.
            pub const fn title(self) -> &'static str { match self { $(Self::$name => $title,)* } }
        }
    };
}

promises! {
    /// A resource is freed by the back-end that allocated it.
    MatchingBackend = "P1", "matching back-end on free";
    /// A page returns to its allocator only when no translation lets a device reach it.
    UnreachableBeforeFree = "P2", "unreachable before free";
    /// One ledger and one unwinder, newest entry first.
    SingleUnwindPath = "P3", "single unwind path";
    /// After unwinding the device holds nothing.
    NothingLeft = "P4", "nothing left";
    /// After driver data is dropped, nothing reaches it.
    NoUseAfterRevoke = "P5", "no use after revoke";
    /// Consumers are unbound before their supplier.
    SuppliersOutlast = "P6", "suppliers outlast consumers";
    /// An IOMMU group has one owner, until its last managed resource is gone.
    OneOwner = "P7", "one owner";
    /// The result of probing does not depend on registration order.
    OrderIndependent = "P8", "order-independent";
    /// Forgetting a handle costs memory at most.
    ForgetProof = "P9", "forget-proof";
    /// No device runs untranslated without a written policy.
    NoSilentDowngrade = "P10", "no silent downgrade";
    /// Device memory is released only after the device is shown to be quiesced.
    QuiescedFirst = "P11", "quiesced first";
    /// Memory that changes owner is zeroed.
    ZeroedOnOwnerChange = "P12", "zeroed on change of owner";
    /// CPU and device see the same bytes of a buffer that is transferred between them.
    CoherentAtTransfer = "P13", "coherent at transfer";
    /// Nothing has a second holder without the first one's consent.
    Claimed = "P14", "claimed";
}

/// Most violations that are kept with their details.
const MAX_KEPT: usize = 64;

/// Checks that one owner has counted without others, until they are [published](Promises::publish): by `check_in` after 4,096 of
/// one promise, and by the owner when it ends. A violation is recorded at once.
#[derive(Default, Debug)]
pub(crate) struct CheckTally {
    counts: [u32; Promise::COUNT],
    /// By [`Checks`].
    sets: [u32; Checks::ALL.len()],
}

impl CheckTally {
    const MOST: u32 = 4096;
}

/// Checks that are always made together, and counted as one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Checks {
    /// Of a map by a lease.
    Map,
    /// Of an unmap by a lease.
    Unmap,
    /// Of an unmap by a lease in a lazy domain.
    Queue,
}

impl Checks {
    const ALL: [Self; 3] = [Self::Map, Self::Unmap, Self::Queue];

    /// How often it checks each promise.
    const fn each(self) -> &'static [(Promise, u32)] {
        match self {
            Self::Map => &[(Promise::MatchingBackend, 1)],
            Self::Unmap => &[
                (Promise::MatchingBackend, 1),
                // The table is looked at, and the proof.
                (Promise::UnreachableBeforeFree, 2),
                (Promise::QuiescedFirst, 1),
            ],
            Self::Queue => {
                &[(Promise::MatchingBackend, 1), (Promise::UnreachableBeforeFree, 1), (Promise::QuiescedFirst, 1)]
            }
        }
    }
}

/// Counters of checks, and the recorded violations.
#[derive(Default)]
pub struct Promises {
    checked: PerCpu<[AtomicU64; Promise::COUNT]>,
    broken_count: AtomicU64,
    broken: SpinLock<Vec<(Promise, String)>>,
}

impl Promises {
    /// Counts one check of `promise`; when it does not hold, records the violation with `detail`.
    pub fn check(&self, promise: Promise, holds: bool, detail: impl FnOnce() -> String) {
        // Relaxed: statistics; no other memory is ordered by them.
        self.checked.here()[promise as usize].fetch_add(1, Ordering::Relaxed);
        if !holds {
            self.record(promise, detail);
        }
    }

    /// As [`check`](Self::check), counted in `tally` at first.
    #[inline]
    pub(crate) fn check_in(
        &self,
        tally: &mut CheckTally,
        promise: Promise,
        holds: bool,
        detail: impl FnOnce() -> String,
    ) {
        let count = &mut tally.counts[promise as usize];
        *count += 1;
        if *count >= CheckTally::MOST {
            self.publish(tally);
        }
        if !holds {
            self.record(promise, detail);
        }
    }

    /// As [`check_in`](Self::check_in), of a check that stands for `times` of them.
    #[inline]
    pub(crate) fn check_times(
        &self,
        tally: &mut CheckTally,
        promise: Promise,
        times: u32,
        holds: bool,
        detail: impl FnOnce() -> String,
    ) {
        tally.counts[promise as usize] += times.saturating_sub(1);
        if tally.counts[promise as usize] >= CheckTally::MOST - 1 {
            self.publish(tally);
        }
        self.check_in(tally, promise, holds, detail);
    }

    /// Counts a set of checks in `tally`, of which `holds` tells whether the last one, of `promise`, holds. The others are
    /// [reported](Self::report) by the caller if they do not.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does")]
    #[inline(always)]
    pub(crate) fn check_set(
        &self,
        tally: &mut CheckTally,
        set: Checks,
        holds: bool,
        promise: Promise,
        detail: impl FnOnce() -> String,
    ) {
        let count = &mut tally.sets[set as usize];
        *count += 1;
        if *count == CheckTally::MOST {
            self.publish(tally);
        }
        if !holds {
            self.record(promise, detail);
        }
    }

    /// Records a violation of a check that is counted as one of a set.
    #[cold]
    pub(crate) fn report(&self, promise: Promise, detail: impl FnOnce() -> String) {
        self.record(promise, detail);
    }

    #[cold]
    fn record(&self, promise: Promise, detail: impl FnOnce() -> String) {
        if self.broken_count.fetch_add(1, Ordering::Relaxed) < MAX_KEPT as u64 {
            // Before the lock, which does not sleep: the detail may need locks that do, such as the registry's.
            let detail = detail();
            self.broken.lock().push((promise, detail));
        }
    }

    /// Adds the checks that `tally` has counted, and starts it again.
    #[cold]
    pub(crate) fn publish(&self, tally: &mut CheckTally) {
        for set in Checks::ALL {
            let made = core::mem::take(&mut tally.sets[set as usize]);
            for (promise, times) in set.each() {
                tally.counts[*promise as usize] += made * times;
            }
        }
        let shared = self.checked.here();
        for (count, own) in shared.iter().zip(&mut tally.counts) {
            if *own != 0 {
                count.fetch_add(u64::from(core::mem::take(own)), Ordering::Relaxed);
            }
        }
    }

    /// Number of checks of `promise`.
    pub fn checked(&self, promise: Promise) -> u64 {
        self.checked.all().map(|checked| checked[promise as usize].load(Ordering::Relaxed)).sum()
    }

    /// The first 64 violations, with what was seen.
    pub fn broken(&self) -> Vec<(Promise, String)> {
        self.broken.lock().clone()
    }

    /// Number of failed checks of all promises.
    pub fn broken_count(&self) -> u64 {
        self.broken_count.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn checks_of_all_threads_are_counted() {
        let promises = Promises::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| promises.check(Promise::NothingLeft, true, String::new));
            }
        });
        assert_eq!((promises.checked(Promise::NothingLeft), promises.broken_count()), (4, 0));
    }

    #[test]
    fn a_detail_may_take_a_lock_that_sleeps() {
        let (promises, name) = (Promises::default(), crate::sync::Mutex::new(String::from("a device")));
        promises.check(Promise::NothingLeft, false, || name.lock().clone());
        assert_eq!(promises.broken(), [(Promise::NothingLeft, "a device".into())]);
    }

    #[test]
    fn the_first_violations_are_kept_and_all_are_counted() {
        let promises = Promises::default();
        (0..=MAX_KEPT).for_each(|n| promises.check(Promise::NothingLeft, false, || format!("{n}")));
        let kept: Vec<_> = promises.broken().into_iter().map(|(_, seen)| seen).collect();
        assert_eq!(kept, (0..MAX_KEPT).map(|n| format!("{n}")).collect::<Vec<_>>());
        assert_eq!(promises.broken_count(), MAX_KEPT as u64 + 1);
    }
}
