//! Marks of hard interrupt context.

use core::marker::PhantomData;

use super::order::InIrq;

/// Mark that the calling CPU is in hard interrupt context until it is dropped (Linux: `irq_enter`, `in_hardirq`): it has
/// interrupted anything, so it must take no [`Mutex`](super::Mutex), wait for nothing, allocate nothing and free nothing.
///
/// A target whose traps preempt whatever runs enters it around [`IrqSink::interrupt`](crate::env::IrqSink::interrupt); the
/// core then leaves everything that may sleep or allocate for [`IrqSink::timer`](crate::env::IrqSink::timer). The core enters
/// it around handlers of [`Bound::request_irq`](crate::binding::Bound::request_irq), wherever they are called.
///
/// Without the feature `std` it counts for the thread whose number [`TargetHooks`](super::TargetHooks) give; a trap has that of
/// the thread that it interrupted. Without numbers, and beyond 64 threads in such contexts at the same time,
/// [`is_active`](Self::is_active) is true while *any* CPU is in hard context: work is then put off that could have been done at
/// once, so a call such as `settle` may return before. The lock-order checker panics when a `Mutex` is taken, or
/// a wait begins, in hard interrupt context.
#[derive(Debug)]
#[must_use = "the context ends when this is dropped"]
pub struct HardIrq {
    /// For the lock-order checker.
    _section: InIrq,
    /// Not `Send`: it counts for the CPU, or thread, that entered.
    here: PhantomData<*const ()>,
}

impl HardIrq {
    /// Enters hard interrupt context on the calling CPU. Calls nest.
    pub fn enter() -> Self {
        imp::add(Mark::Hard, 1);
        Self { _section: InIrq::begin(), here: PhantomData }
    }

    /// True in hard interrupt context.
    pub fn is_active() -> bool {
        imp::depth(Mark::Hard) > 0
    }
}

impl Drop for HardIrq {
    fn drop(&mut self) {
        imp::add(Mark::Hard, -1);
    }
}

/// Mark that the calling thread delivers an interrupt, in a trap or not.
#[must_use = "the delivery ends when this is dropped"]
pub(crate) struct Delivering(PhantomData<*const ()>);

impl Delivering {
    pub(crate) fn enter() -> Self {
        imp::add(Mark::Delivering, 1);
        Self(PhantomData)
    }

    /// True in a delivery, and in hard interrupt context.
    pub(crate) fn is_active() -> bool {
        imp::depth(Mark::Delivering) > 0 || HardIrq::is_active()
    }
}

impl Drop for Delivering {
    fn drop(&mut self) {
        imp::add(Mark::Delivering, -1);
    }
}

/// Kind of a mark; each has a count.
#[derive(Clone, Copy)]
enum Mark {
    Hard,
    Delivering,
}

#[cfg(all(any(feature = "std", test, shuttle), not(loom)))]
mod imp {
    use core::cell::Cell;

    use super::Mark;

    #[cfg(not(shuttle))]
    std::thread_local! {
        static DEPTHS: [Cell<i32>; 2] = const { [Cell::new(0), Cell::new(0)] };
    }
    #[cfg(shuttle)]
    shuttle::thread_local! {
        static DEPTHS: [Cell<i32>; 2] = [Cell::new(0), Cell::new(0)];
    }

    pub(super) fn add(mark: Mark, change: i32) {
        // A thread whose locals are gone ends: it takes no interrupts.
        let _ = DEPTHS.try_with(|depths| depths[mark as usize].set(depths[mark as usize].get() + change));
    }

    pub(super) fn depth(mark: Mark) -> i32 {
        DEPTHS.try_with(|depths| depths[mark as usize].get()).unwrap_or(0)
    }
}

/// The loom models deliver from threads, and put nothing off.
#[cfg(loom)]
mod imp {
    use super::Mark;

    pub(super) fn add(_: Mark, _: i32) {}

    pub(super) fn depth(_: Mark) -> i32 {
        0
    }
}

#[cfg(not(any(feature = "std", test, loom, shuttle)))]
mod imp {
    use super::Mark;
    use super::by_number::Marks;
    use crate::sync::hooks::{InterruptsDisabled, current_thread};

    static MARKS: Marks = Marks::new();

    pub(super) fn add(mark: Mark, change: i32) {
        // A trap between the claim of a place and its mark would find that place, and free it at its end.
        let _off = InterruptsDisabled::unrecorded();
        MARKS.add(current_thread(), mark, change);
    }

    pub(super) fn depth(mark: Mark) -> i32 {
        MARKS.depth(current_thread(), mark)
    }
}

/// Marks of threads that the target has numbered. A trap has the number of the thread that it interrupted.
#[cfg(all(any(test, not(feature = "std")), not(any(loom, shuttle))))]
mod by_number {
    use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};

    use super::Mark;
    use crate::sync::ThreadNumber;

    /// Threads that may have marks at the same time. Those of any more count as everybody's.
    const THREADS: usize = 64;

    pub(super) struct Marks {
        threads: [Thread; THREADS],
        /// Of threads without number, or without place in the table.
        everybody: [AtomicI32; 2],
    }

    struct Thread {
        /// Its number, and 1; 0 in a place that is free. Changed by this thread only, with its CPU's interrupts disabled.
        number: AtomicU64,
        depths: [AtomicI32; 2],
    }

    // Relaxed everywhere: a thread reads what it wrote itself, and the rest is a hint beside which nothing is read.
    impl Marks {
        pub(super) const fn new() -> Self {
            Self {
                threads: [const { Thread { number: AtomicU64::new(0), depths: [const { AtomicI32::new(0) }; 2] } };
                    THREADS],
                everybody: [const { AtomicI32::new(0) }; 2],
            }
        }

        pub(super) fn add(&self, thread: Option<ThreadNumber>, mark: Mark, change: i32) {
            let key = thread.and_then(|number| number.checked_add(1));
            let Some(place) =
                key.and_then(|key| self.of(key).or_else(|| if change > 0 { self.claim(key) } else { None }))
            else {
                self.everybody[mark as usize].fetch_add(change, Ordering::Relaxed);
                return;
            };
            place.depths[mark as usize].fetch_add(change, Ordering::Relaxed);
            if place.depths.iter().all(|depth| depth.load(Ordering::Relaxed) == 0) {
                place.number.store(0, Ordering::Relaxed);
            }
        }

        pub(super) fn depth(&self, thread: Option<ThreadNumber>, mark: Mark) -> i32 {
            let of_all = self.everybody[mark as usize].load(Ordering::Relaxed);
            match thread.and_then(|number| number.checked_add(1)) {
                Some(key) => {
                    of_all + self.of(key).map_or(0, |place| place.depths[mark as usize].load(Ordering::Relaxed))
                }
                // It may be any of them.
                None => {
                    of_all + self.threads.iter().map(|t| t.depths[mark as usize].load(Ordering::Relaxed)).sum::<i32>()
                }
            }
        }

        fn of(&self, key: u64) -> Option<&Thread> {
            self.threads.iter().find(|place| place.number.load(Ordering::Relaxed) == key)
        }

        fn claim(&self, key: u64) -> Option<&Thread> {
            let take =
                |place: &&Thread| place.number.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            self.threads.iter().find(take)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn each_threads_marks_are_its_own() {
            let marks = Marks::new();
            marks.add(Some(7), Mark::Hard, 1);
            marks.add(Some(7), Mark::Delivering, 1);
            marks.add(Some(7), Mark::Hard, 1);
            let depths = |thread| [Mark::Hard, Mark::Delivering].map(|mark| marks.depth(thread, mark));
            assert_eq!((depths(Some(7)), depths(Some(8)), depths(None)), ([2, 1], [0, 0], [2, 1]));
            marks.add(Some(8), Mark::Hard, 1);
            marks.add(Some(7), Mark::Hard, -1);
            marks.add(Some(7), Mark::Hard, -1);
            assert_eq!((depths(Some(7)), depths(Some(8))), ([0, 1], [1, 0]), "its place is its own while one is left");
            marks.add(Some(8), Mark::Hard, -1);
            marks.add(Some(7), Mark::Delivering, -1);
            assert_eq!(depths(None), [0, 0]);
            assert!(marks.threads.iter().all(|place| place.number.load(Ordering::Relaxed) == 0));
        }

        #[test]
        fn a_mark_without_number_or_place_is_everybodys() {
            let marks = Marks::new();
            for without in [None, Some(u64::MAX)] {
                marks.add(without, Mark::Hard, 1);
                assert_eq!((marks.depth(Some(1), Mark::Hard), marks.depth(without, Mark::Hard)), (1, 1));
                marks.add(without, Mark::Hard, -1);
            }
            let threads = 0..THREADS as u64;
            threads.clone().for_each(|thread| marks.add(Some(thread), Mark::Hard, 1));
            assert_eq!((marks.depth(Some(3), Mark::Hard), marks.depth(Some(64), Mark::Hard)), (1, 0));
            marks.add(Some(64), Mark::Hard, 1);
            assert_eq!((marks.depth(Some(3), Mark::Hard), marks.depth(Some(99), Mark::Hard)), (2, 1));
            // A place becomes free while the mark is everybody's, and a mark inside it takes that place.
            marks.add(Some(3), Mark::Hard, -1);
            marks.add(Some(64), Mark::Delivering, 1);
            marks.add(Some(64), Mark::Delivering, -1);
            marks.add(Some(64), Mark::Hard, -1);
            threads.filter(|thread| *thread != 3).for_each(|thread| marks.add(Some(thread), Mark::Hard, -1));
            assert_eq!((marks.depth(None, Mark::Hard), marks.depth(None, Mark::Delivering)), (0, 0));
            assert!(marks.threads.iter().all(|place| place.number.load(Ordering::Relaxed) == 0), "a place is lost");
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_the_threads_own_and_nests() {
        let outer = HardIrq::enter();
        drop(HardIrq::enter());
        assert!(HardIrq::is_active());
        std::thread::scope(|s| s.spawn(|| assert!(!HardIrq::is_active())).join().unwrap());
        drop(outer);
        assert!(!HardIrq::is_active());
        let _delivering = Delivering::enter();
        assert!(Delivering::is_active() && !HardIrq::is_active());
    }
}
