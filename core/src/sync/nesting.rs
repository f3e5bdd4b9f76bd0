//! Detection of a thread that is about to wait for itself.

use core::marker::PhantomData;

/// A section of code that threads enter, also recursively.
///
/// Before waiting until the section is empty, call [`is_inside`](Self::is_inside): a thread that is inside would wait
/// for itself. Without the feature `std` threads have the identity that [`TargetHooks`](super::TargetHooks) give them. On a
/// target without such hooks the result is true while *any* thread is inside; callers then defer work that they could have
/// done at once, but never deadlock.
#[derive(Debug, Default)]
pub struct Nesting {
    #[cfg(not(any(feature = "std", test, loom, shuttle)))]
    threads: super::SpinLock<alloc::vec::Vec<(Option<super::ThreadNumber>, ThreadEntry)>>,
    /// Makes the type non-zero-sized, so that no two of them share the address by which threads identify them.
    #[cfg(any(feature = "std", test, loom, shuttle))]
    _address: u8,
}

/// One thread's nesting in one section.
#[derive(Clone, Copy, Debug, Default)]
struct ThreadEntry {
    #[cfg(all(any(feature = "std", test, shuttle), not(loom)))]
    section: usize,
    depth: u32,
    /// Work was deferred until the thread leaves the section.
    deferred: bool,
}

/// Holding a `Nested` tells you: this thread is inside the section.
#[derive(Debug)]
#[must_use = "the thread is inside while this lives"]
pub struct Nested<'a> {
    section: &'a Nesting,
    /// Not `Send`: it counts for the thread that entered.
    here: PhantomData<*const ()>,
}

impl Nesting {
    /// True where threads have an identity, so that [`is_inside`](Self::is_inside) is about the calling thread alone.
    pub fn has_thread_ids() -> bool {
        #[cfg(not(any(feature = "std", loom, shuttle)))]
        return super::hooks::current_thread().is_some();
        #[cfg(any(feature = "std", loom, shuttle))]
        return cfg!(not(loom));
    }

    /// An empty section.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters the section.
    pub fn enter(&self) -> Nested<'_> {
        self.with(|here| here.depth += 1);
        Nested { section: self, here: PhantomData }
    }

    /// True while the calling thread is inside (any thread, without [thread identities](Self::has_thread_ids)).
    pub fn is_inside(&self) -> bool {
        self.with(|here| here.depth) > 0
    }

    /// Records that the calling thread deferred work until it leaves the section. See [`Nested::leave`].
    pub fn defer(&self) {
        self.with(|here| here.deferred = here.depth > 0);
    }

    #[cfg(all(any(feature = "std", test, shuttle), not(loom)))]
    fn with<R: Default>(&self, act: impl FnOnce(&mut ThreadEntry) -> R) -> R {
        let section = core::ptr::from_ref(self) as usize;
        per_thread::with(|sections| {
            let at = sections.iter().position(|here| here.section == section).unwrap_or_else(|| {
                sections.push(ThreadEntry { section, ..ThreadEntry::default() });
                sections.len() - 1
            });
            let result = act(&mut sections[at]);
            if sections[at].depth == 0 {
                sections.swap_remove(at);
            }
            result
        })
    }

    #[cfg(not(any(feature = "std", test, loom, shuttle)))]
    fn with<R>(&self, act: impl FnOnce(&mut ThreadEntry) -> R) -> R {
        let number = super::hooks::current_thread();
        let mut threads = self.threads.lock();
        let at = threads.iter().position(|(thread, _)| *thread == number).unwrap_or_else(|| {
            threads.push((number, ThreadEntry::default()));
            threads.len() - 1
        });
        let result = act(&mut threads[at].1);
        if threads[at].1.depth == 0 {
            threads.swap_remove(at);
        }
        result
    }

    /// The loom models have no thread that could wait for itself.
    #[cfg(loom)]
    #[expect(clippy::unused_self, reason = "the other variants use it")]
    fn with<R>(&self, act: impl FnOnce(&mut ThreadEntry) -> R) -> R {
        act(&mut ThreadEntry::default())
    }
}

impl Nested<'_> {
    /// Leaves the section. True when the thread has left it entirely and work was deferred: the caller does it now.
    pub fn leave(self) -> bool {
        let last = self.section.with(|here| here.depth == 1 && core::mem::take(&mut here.deferred));
        drop(self);
        last
    }
}

impl Drop for Nested<'_> {
    fn drop(&mut self) {
        self.section.with(|here| here.depth = here.depth.saturating_sub(1));
    }
}

#[cfg(all(any(feature = "std", test, shuttle), not(loom)))]
mod per_thread {
    use std::cell::RefCell;
    use std::vec::Vec;

    use super::ThreadEntry;

    #[cfg(not(shuttle))]
    std::thread_local! {
        static SECTIONS: RefCell<Vec<ThreadEntry>> = const { RefCell::new(Vec::new()) };
    }
    #[cfg(shuttle)]
    shuttle::thread_local! {
        static SECTIONS: RefCell<Vec<ThreadEntry>> = RefCell::new(Vec::new());
    }

    /// Runs `act` on the sections that this thread is inside; on none while the thread's locals are being destroyed.
    pub(super) fn with<R: Default>(act: impl FnOnce(&mut Vec<ThreadEntry>) -> R) -> R {
        SECTIONS.try_with(|sections| act(&mut sections.borrow_mut())).unwrap_or_default()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_inside_the_sections_that_it_entered_only() {
        let (one, two) = (Nesting::new(), Nesting::new());
        let outer = one.enter();
        let inner = one.enter();
        assert!(one.is_inside() && !two.is_inside());
        std::thread::scope(|s| s.spawn(|| assert!(!one.is_inside())).join().unwrap());
        drop(inner);
        assert!(one.is_inside());
        drop(outer);
        assert!(!one.is_inside());
    }

    #[test]
    fn deferred_work_is_due_when_the_outermost_section_is_left() {
        let section = Nesting::new();
        section.defer();
        assert!(!section.enter().leave(), "nothing is deferred outside");
        let outer = section.enter();
        let inner = section.enter();
        section.defer();
        assert!(!inner.leave());
        assert!(outer.leave());
        assert!(!section.enter().leave());
    }
}
