//! Counters that CPUs do not share.

/// Number of copies. More CPUs than that share some.
const COPIES: usize = if cfg!(any(loom, shuttle)) { 1 } else { 8 };

/// A value for each of a few CPUs (as threads of the host, with the feature `std`), each in cache lines of its own, so that
/// those who change it do not wait for each other's lines. Which copy a caller gets is a hint: two may get the same one, so
/// each copy must be fit to be shared, such as atomics, and a sum over all of them counts everything that happened before.
#[derive(Debug, Default)]
pub(crate) struct PerCpu<T>([Padded<T>; COPIES]);

/// Aligned to two lines of 64 bytes: processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T> PerCpu<T> {
    /// The copy of the caller's CPU.
    pub(crate) fn here(&self) -> &T {
        &self.0[number() % COPIES].0
    }

    /// All copies.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }
}

#[cfg(all(feature = "std", not(any(loom, shuttle))))]
fn number() -> usize {
    use core::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    std::thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // A thread that is ending has none any more.
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

#[cfg(not(all(feature = "std", not(any(loom, shuttle)))))]
fn number() -> usize {
    super::hooks::current_thread().unwrap_or(0) as usize
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn what_every_thread_counted_is_in_the_sum() {
        let counts = PerCpu::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        counts.here().fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counts.all().map(|count| count.load(Ordering::Relaxed)).sum::<u64>(), 2000);
    }
}
