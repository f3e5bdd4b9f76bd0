//! Whether the running thread is inside a section that it must not wait for the end of.

use core::marker::PhantomData;

/// A section of code that a thread can be inside, also several times over.
///
/// Whoever is about to wait until the section is empty asks [`is_inside`](Self::is_inside) first: a thread that is inside
/// would wait for itself. Without the feature `std` threads cannot be told apart, and the answer is whether *anybody* is
/// inside; whoever relies on it then defers what it could have done at once, and never waits for itself.
#[derive(Debug, Default)]
pub struct Nesting {
    #[cfg(not(any(feature = "std", test, loom, shuttle)))]
    here: super::Mutex<ThreadEntry>,
    /// Takes a byte, so that two of them never share an address, by which threads know them.
    #[cfg(any(feature = "std", test, loom, shuttle))]
    _address: u8,
}

/// One thread's place in one section.
#[derive(Clone, Copy, Debug, Default)]
struct ThreadEntry {
    #[cfg(all(any(feature = "std", test, shuttle), not(loom)))]
    section: usize,
    depth: u32,
    /// Something was left to do for when the thread comes out.
    deferred: bool,
}

/// Holding a `Nested` tells you: this thread is inside the section.
#[derive(Debug)]
#[must_use = "the thread is inside while this lives"]
pub struct Nested<'a> {
    section: &'a Nesting,
    /// It counts for the thread that entered.
    here: PhantomData<*const ()>,
}

impl Nesting {
    /// Whether threads are told apart, so that "inside" is said of the running thread and no other.
    pub const HAS_THREAD_IDS: bool = cfg!(all(any(feature = "std", shuttle), not(loom)));

    /// A section that nobody is inside.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters the section.
    pub fn enter(&self) -> Nested<'_> {
        self.with(|here| here.depth += 1);
        Nested { section: self, here: PhantomData }
    }

    /// Whether the running thread is inside.
    pub fn is_inside(&self) -> bool {
        self.with(|here| here.depth) > 0
    }

    /// Notes that this thread has left something to do until it comes out. See [`Nested::leave`].
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
            let answer = act(&mut sections[at]);
            if sections[at].depth == 0 {
                sections.swap_remove(at);
            }
            answer
        })
    }

    #[cfg(not(any(feature = "std", test, loom, shuttle)))]
    fn with<R>(&self, act: impl FnOnce(&mut ThreadEntry) -> R) -> R {
        act(&mut self.here.lock())
    }

    /// Under loom, pieces are checked in which nobody waits for itself.
    #[cfg(loom)]
    #[expect(clippy::unused_self, reason = "the others look at it")]
    fn with<R>(&self, act: impl FnOnce(&mut ThreadEntry) -> R) -> R {
        act(&mut ThreadEntry::default())
    }
}

impl Nested<'_> {
    /// Comes out. True when the thread is outside now and has left something to do: it is its turn.
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

    /// Runs `act` on the sections that this thread is inside. A thread that is ending is inside none.
    pub(super) fn with<R: Default>(act: impl FnOnce(&mut Vec<ThreadEntry>) -> R) -> R {
        SECTIONS.try_with(|sections| act(&mut sections.borrow_mut())).unwrap_or_default()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_inside_what_it_has_entered_and_nothing_else() {
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
    fn what_was_deferred_inside_is_due_when_the_thread_is_outside() {
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
