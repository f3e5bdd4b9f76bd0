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
/// Without the feature `std` CPUs have no identity here, and [`is_active`](Self::is_active) is true while *any* CPU is in hard
/// context: work is then put off that could have been done at once. The lock-order checker panics when a `Mutex` is taken, or
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
    use core::sync::atomic::{AtomicI32, Ordering};

    use super::Mark;

    static DEPTHS: [AtomicI32; 2] = [const { AtomicI32::new(0) }; 2];

    pub(super) fn add(mark: Mark, change: i32) {
        // Relaxed: a hint beside which nothing is read.
        DEPTHS[mark as usize].fetch_add(change, Ordering::Relaxed);
    }

    pub(super) fn depth(mark: Mark) -> i32 {
        DEPTHS[mark as usize].load(Ordering::Relaxed)
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
