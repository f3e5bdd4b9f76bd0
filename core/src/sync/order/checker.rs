//! The lock-order checker. It allocates nothing before it reports, and keeps interrupts disabled while it looks at its
//! tables, so that interrupt handlers may take locks, too.

mod graph;

use core::panic::Location;
use core::sync::atomic::{AtomicU16, Ordering};
use std::cell::RefCell;
use std::format;
use std::string::String;

use super::super::hooks::InterruptsDisabled;
use super::{Kind, LockLevel};
use graph::{Class, ClassId, Edge, Usage};

/// A place in the source.
pub(super) type Place = &'static Location<'static>;

/// Most locks that one thread holds at a time; more are not recorded.
const MOST_HELD: usize = 48;

/// Class of a lock: the place at which it was made.
pub(in crate::sync) struct LockClass {
    made: Place,
    level: LockLevel,
    nests: bool,
    /// Number of the class, once it was looked up.
    id: AtomicU16,
}

/// Lock that the calling thread holds, until this is dropped.
pub(in crate::sync) struct Held {
    class: ClassId,
    number: u32,
    /// Not `Send`: it is on the list of its thread.
    here: core::marker::PhantomData<*const ()>,
}

/// Section with interrupts disabled.
pub(in crate::sync) struct Disabled(());

/// Section in hard interrupt context.
#[derive(Debug)]
pub(in crate::sync) struct InIrq {
    /// Locks that the interrupted code holds; they are not in the order of those that the handler takes.
    interrupted: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    class: ClassId,
    kind: Kind,
    since: Place,
    number: u32,
}

/// State of one thread.
struct Here {
    held: [Option<Entry>; MOST_HELD],
    count: usize,
    /// Index of the first lock that is not the interrupted code's.
    base: usize,
    /// Number of the last lock that was taken.
    last: u32,
    irq_depth: u32,
    disabled_depth: u32,
}

std::thread_local! {
    static HERE: RefCell<Here> = const {
        RefCell::new(Here { held: [None; MOST_HELD], count: 0, base: 0, last: 0, irq_depth: 0, disabled_depth: 0 })
    };
}

/// Runs `act` on the thread's state, which no interrupt handler sees half-changed.
fn here<R>(act: impl FnOnce(&mut Here) -> R) -> R {
    let _interrupts = InterruptsDisabled::unrecorded();
    HERE.with(|here| act(&mut here.borrow_mut()))
}

/// Panics when something is wrong, unless the thread panics already: then another failure is on its way.
fn report(wrong: Option<String>) {
    if let Some(what) = wrong {
        assert!(std::thread::panicking(), "lock order: {what}");
    }
}

impl Here {
    fn locks(&self) -> impl Iterator<Item = Entry> {
        self.held[self.base..self.count].iter().flatten().copied()
    }

    /// Reason for which the thread must not sleep now.
    fn must_not_sleep(&self) -> Option<String> {
        if self.irq_depth > 0 {
            return Some("in hard interrupt context".into());
        }
        let spin = self.locks().find(|held| held.kind == Kind::Spin)?;
        Some(format!("while {}, which does not sleep, is held since {}", graph::describe(spin.class), spin.since))
    }
}

impl LockClass {
    #[track_caller]
    pub(in crate::sync) const fn here(level: LockLevel) -> Self {
        Self { made: Location::caller(), level, nests: false, id: AtomicU16::new(0) }
    }

    pub(in crate::sync) const fn at(mut self, level: LockLevel) -> Self {
        self.level = level;
        self
    }

    pub(in crate::sync) const fn nesting(mut self) -> Self {
        self.nests = true;
        self
    }

    fn id(&self, kind: Kind, holds: &'static str) -> ClassId {
        // Relaxed: the number is the same whoever looks it up.
        let known = self.id.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let _interrupts = InterruptsDisabled::unrecorded();
        let id = graph::class(Class { made: self.made, level: self.level, kind, nests: self.nests, holds });
        self.id.store(id, Ordering::Relaxed);
        id
    }

    /// Checks, before the thread waits for the lock, that it may.
    #[track_caller]
    pub(in crate::sync) fn wanted(&self, kind: Kind, holds: &'static str) {
        let (at, class) = (Location::caller(), self.id(kind, holds));
        let wrong = here(|here| {
            if kind == Kind::Sleeping
                && let Some(why) = here.must_not_sleep()
            {
                return Some(format!("{}, which sleeps, is taken at {at} {why}", graph::describe(class)));
            }
            here.locks().find_map(|held| graph::take(Edge { held: (held.class, held.since), taken: (class, at) }))
        });
        report(wrong);
    }

    /// Records that the thread holds the lock.
    #[track_caller]
    pub(in crate::sync) fn held(&self, kind: Kind, holds: &'static str) -> Held {
        let (since, class) = (Location::caller(), self.id(kind, holds));
        let (number, wrong) = here(|here| {
            let usage = match (here.irq_depth > 0, here.disabled_depth > 0) {
                (true, _) => Usage::InIrq,
                (false, true) => Usage::Disabled,
                (false, false) => Usage::Enabled,
            };
            let wrong = graph::used(class, usage, since);
            here.last = here.last.wrapping_add(1);
            if here.count < MOST_HELD {
                here.held[here.count] = Some(Entry { class, kind, since, number: here.last });
                here.count += 1;
            }
            (here.last, wrong)
        });
        let held = Held { class, number, here: core::marker::PhantomData };
        report(wrong);
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        here(|here| {
            // Guards may be dropped in any order.
            let is_it = |held: &Option<Entry>| held.is_some_and(|e| (e.class, e.number) == (self.class, self.number));
            if let Some(at) = here.held[..here.count].iter().rposition(is_it) {
                here.held.copy_within(at + 1..here.count, at);
                here.count -= 1;
            }
        });
    }
}

impl Disabled {
    pub(in crate::sync) fn begin() -> Self {
        here(|here| here.disabled_depth += 1);
        Self(())
    }
}

impl Drop for Disabled {
    fn drop(&mut self) {
        here(|here| here.disabled_depth -= 1);
    }
}

impl InIrq {
    pub(in crate::sync) fn begin() -> Self {
        here(|here| {
            here.irq_depth += 1;
            Self { interrupted: core::mem::replace(&mut here.base, here.count) }
        })
    }
}

impl Drop for InIrq {
    fn drop(&mut self) {
        here(|here| {
            here.irq_depth -= 1;
            here.base = self.interrupted;
        });
    }
}

/// Checks that the thread may sleep.
#[track_caller]
pub(in crate::sync) fn might_sleep() {
    let at = Location::caller();
    let why = here(|here| here.must_not_sleep());
    report(why.map(|why| format!("a wait at {at} {why}")));
}
