//! The order in which locks are taken, and the checker that holds it against what happens (Linux: lockdep).
//!
//! All locks that are made at one place of the source are one *class*. The checker learns which class was taken while which
//! other one was held, and panics when a thread takes two classes in an order that contradicts [`LockLevel`] or what any
//! thread did before, however long ago: no two threads need to meet. It runs with the feature `std`, in builds with debug
//! assertions and with the feature `lock-order`; elsewhere a class is nothing.

#[cfg(all(feature = "std", any(debug_assertions, feature = "lock-order"), not(any(loom, shuttle))))]
mod checker;
#[cfg(not(all(feature = "std", any(debug_assertions, feature = "lock-order"), not(any(loom, shuttle)))))]
mod unchecked;

#[cfg(all(feature = "std", any(debug_assertions, feature = "lock-order"), not(any(loom, shuttle))))]
pub(super) use checker::{Disabled, Held, InIrq, LockClass, might_sleep};
#[cfg(not(all(feature = "std", any(debug_assertions, feature = "lock-order"), not(any(loom, shuttle)))))]
pub(super) use unchecked::{Disabled, Held, InIrq, LockClass, might_sleep};

/// Level of a lock in the order in which a thread takes locks: outermost first, any may be skipped. ARCHITECTURE.md has
/// the order and its reasons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LockLevel {
    /// A device's lock, held across probe and unbind.
    Device,
    /// Devices, drivers, links and the probe queue of a machine.
    Registry,
    /// IOMMUs of a machine.
    Iommus,
    /// An IOMMU group.
    Group,
    /// Users of a supply, which is switched under it.
    Supplies,
    /// Interrupt lines; interrupt controllers are called under it.
    Interrupts,
    /// Ranges whose unmapping is not confirmed yet, held while the owner of an unmanaged domain maps.
    Unconfirmed,
    /// A leaf: only other leaves are taken under it, in an order that use alone defines.
    Leaf,
    /// No level: a driver's or a target's lock that sleeps. Use alone defines its order.
    Other,
}

/// Kind of a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Spin,
    Sleeping,
}

#[cfg(all(test, feature = "std", not(any(loom, shuttle))))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::string::String;
    use std::vec::Vec;

    use crate::sync::{HardIrq, LockLevel, Mutex, SpinLock, WaitQueue, might_sleep};

    /// Message of the panic in `act`.
    fn report(act: impl FnOnce()) -> String {
        let payload = catch_unwind(AssertUnwindSafe(act)).expect_err("the checker noticed nothing");
        payload.downcast_ref::<String>().expect("a message").clone()
    }

    /// Lines of this file that `text` names, in their order.
    fn lines(text: &str) -> Vec<u32> {
        let here = file!();
        text.split(here).skip(1).map(|rest| rest[1..].split(':').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn an_inversion_is_reported_with_both_classes_and_all_places_although_no_threads_meet() {
        let line = line!();
        let first = Mutex::new('a');
        let second = Mutex::new(2_u8);
        {
            let _first = first.lock();
            let _second = second.lock();
        }
        let text = std::thread::spawn(move || {
            report(|| {
                let _second = second.lock();
                let _first = first.lock();
            })
        });
        let text = text.join().unwrap();
        assert!(text.contains("Mutex<char>") && text.contains("Mutex<u8>"), "{text}");
        let expected = [1, 10, 2, 9, 2, 5, 1, 4].map(|after| line + after);
        assert_eq!(lines(&text), expected, "{text}");
    }

    #[test]
    fn classes_are_ordered_and_not_locks_and_by_several_steps_too() {
        let make = || (Mutex::new(1_u16), Mutex::new(2_u32), Mutex::new(3_u64));
        let (one, two) = (make(), make());
        drop((one.0.lock(), one.1.lock()));
        drop((one.1.lock(), one.2.lock()));
        let text = report(|| drop((two.2.lock(), two.0.lock())));
        assert!(["u16", "u32", "u64"].iter().all(|class| text.contains(class)), "{text}");
        assert!(report(|| drop((one.0.lock(), two.0.lock()))).contains("one class"));
    }

    #[test]
    fn levels_are_held_without_an_earlier_use() {
        let outer = Mutex::new(()).at(LockLevel::Registry);
        let inner = Mutex::new(()).at(LockLevel::Supplies);
        let text = report(|| drop((inner.lock(), outer.lock())));
        assert!(text.contains("Registry") && text.contains("Supplies") && text.contains("levels"), "{text}");
        let between = Mutex::new(i8::MIN);
        drop((inner.lock(), between.lock()));
        let text = report(|| drop((between.lock(), outer.lock())));
        assert!(text.contains("by its level"), "{text}");
    }

    #[test]
    fn nothing_that_sleeps_happens_under_a_lock_that_spins() {
        let (spin, mutex, queue) = (SpinLock::new(()), Mutex::new(()), WaitQueue::new());
        assert!(report(|| drop((spin.lock(), mutex.lock()))).contains("sleeps"));
        let wait = report(|| {
            let _spin = spin.lock();
            might_sleep();
        });
        assert!(wait.contains("a wait at") && wait.contains("is held since"), "{wait}");
        let wait = report(|| {
            let _spin = spin.lock();
            queue.sleep(|| Some(()));
        });
        assert!(wait.contains("a wait at"), "{wait}");
        drop((mutex.lock(), spin.lock()));
    }

    #[test]
    fn a_handler_may_take_a_lock_that_spins_whatever_it_interrupts_but_none_that_sleeps() {
        let (spin, mutex) = (SpinLock::new(()), Mutex::new(()));
        let other = SpinLock::new(0_i32);
        drop(other.lock());
        let held = spin.lock();
        {
            let _irq = HardIrq::enter();
            drop(other.lock());
            assert!(report(|| drop(mutex.lock())).contains("in hard interrupt context"));
            assert!(report(might_sleep).contains("in hard interrupt context"));
        }
        drop(held);
        // No order between what was interrupted and what the handler took.
        let _other = other.lock();
        drop(spin.lock());
    }

    #[test]
    fn a_lock_that_handlers_try_and_tasks_hold_with_interrupts_enabled_is_reported() {
        let mutex = Mutex::new(0_i64);
        drop(mutex.lock());
        // A handler does not wait for the checker's tables: it skips a use while another thread, of another test, has them.
        let text = report(|| {
            for _ in 0..1_000_000 {
                let _irq = HardIrq::enter();
                drop(mutex.try_lock());
            }
        });
        assert!(text.contains("Mutex<i64>") && text.contains("with interrupts enabled at"), "{text}");
    }

    #[test]
    fn a_wake_up_is_allowed_in_a_handler() {
        let queue = WaitQueue::new();
        let waiting = queue.register(std::task::Waker::noop().clone());
        {
            let _irq = HardIrq::enter();
            queue.wake_all();
        }
        drop(waiting);
    }

    #[test]
    fn guards_of_locks_that_spin_are_dropped_in_the_reverse_order() {
        let (first, second) = (SpinLock::new('a'), SpinLock::new('b'));
        let text = report(|| {
            let (outer, _inner) = (first.lock(), second.lock());
            drop(outer);
        });
        assert!(text.contains("out of order"), "{text}");
        let _outer = first.lock();
        drop(second.lock());
    }

    #[test]
    fn a_handler_may_drop_a_guard_of_what_it_has_interrupted() {
        let (mutex, spin) = (Mutex::new(()), SpinLock::new(()));
        let held = mutex.lock();
        let _irq = HardIrq::enter();
        drop(held);
        drop(spin.lock());
    }

    #[test]
    fn a_bus_drivers_lock_has_no_order_with_its_childrens_under_its_devices() {
        let device = || Mutex::new(0_u128).at(LockLevel::Device).nesting();
        let (bus, child, of_driver) = (device(), device(), Mutex::new(0_isize));
        for _ in 0..2 {
            let _bus = bus.lock();
            let _own = of_driver.lock();
            drop(child.lock());
        }
        let text = report(|| drop((of_driver.lock(), child.lock())));
        assert!(text.contains("Mutex<u128>") && text.contains("but earlier"), "{text}");
        let registry = Mutex::new(()).at(LockLevel::Registry);
        let text = report(|| drop((bus.lock(), registry.lock(), child.lock())));
        assert!(text.contains("levels"), "{text}");
    }
}
