//! The lock-order checker. It allocates nothing before it reports, and keeps interrupts disabled while it looks at its
//! common tables, so that interrupt handlers may take locks, too.

mod graph;

use core::panic::Location;
use core::sync::atomic::{AtomicU16, Ordering};
use std::cell::Cell;
use std::format;
use std::string::String;

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

/// Section with interrupts disabled: one of those that the thread is in, counted from 1.
pub(in crate::sync) struct Disabled(u32);

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

/// State of one thread. A handler may interrupt any of its changes: it leaves everything as it was, but for entries from `count` on.
struct Here {
    held: [Cell<Option<Entry>>; MOST_HELD],
    count: Cell<usize>,
    /// Index of the first lock that is not the interrupted code's.
    base: Cell<usize>,
    /// Number of the last lock that was taken.
    last: Cell<u32>,
    irq_depth: Cell<u32>,
    disabled_depth: Cell<u32>,
}

std::thread_local! {
    static HERE: Here = const {
        Here {
            held: [const { Cell::new(None) }; MOST_HELD],
            count: Cell::new(0),
            base: Cell::new(0),
            last: Cell::new(0),
            irq_depth: Cell::new(0),
            disabled_depth: Cell::new(0),
        }
    };
}

/// Runs `act` on the thread's state.
fn here<R>(act: impl FnOnce(&Here) -> R) -> R {
    HERE.with(act)
}

/// True in hard interrupt context.
fn in_irq() -> bool {
    here(|here| here.irq_depth.get() > 0)
}

fn change(count: &Cell<u32>, by: i32) {
    count.set(count.get().wrapping_add_signed(by));
}

/// Panics when something is wrong, unless the thread panics already: then another failure is on its way.
fn report(wrong: Option<String>) {
    if let Some(what) = wrong {
        assert!(std::thread::panicking(), "lock order: {what}");
    }
}

impl Here {
    fn locks(&self) -> impl Iterator<Item = Entry> {
        // Empty when a handler has dropped guards of what it interrupted.
        self.held.get(self.base.get()..self.count.get()).unwrap_or_default().iter().filter_map(Cell::get)
    }

    /// Reason for which the thread must not sleep now.
    fn must_not_sleep(&self) -> Option<String> {
        if self.irq_depth.get() > 0 {
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
        let id = graph::class(Class { made: self.made, level: self.level, kind, nests: self.nests, holds });
        // 0 in a handler that could not look it up: the next use does.
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
            // What is taken after another lock of a class that nests, and before this one, has no order with it: a bus driver
            // takes its own lock under its device's, and its children's under that. Two that are not under a third one have.
            let mut nested = false;
            here.locks().find_map(|held| {
                let edge = Edge { held: (held.class, held.since), taken: (class, at), nested };
                nested |= held.class == class;
                graph::take(edge)
            })
        });
        report(wrong);
    }

    /// Records that the thread holds the lock.
    #[track_caller]
    pub(in crate::sync) fn held(&self, kind: Kind, holds: &'static str) -> Held {
        let (since, class) = (Location::caller(), self.id(kind, holds));
        let (number, wrong) = here(|here| {
            let usage = match (here.irq_depth.get() > 0, here.disabled_depth.get() > 0) {
                (true, _) => Usage::InIrq,
                (false, true) => Usage::Disabled,
                (false, false) => Usage::Enabled,
            };
            let wrong = graph::used(class, usage, since);
            change(&here.last, 1);
            let (number, count) = (here.last.get(), here.count.get());
            if count < MOST_HELD {
                // Counted first, so that a handler does not use the same place.
                here.held[count].set(None);
                here.count.set(count + 1);
                here.held[count].set(Some(Entry { class, kind, since, number }));
            }
            (number, wrong)
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
            let is_it = |held: &Cell<Option<Entry>>| {
                held.get().is_some_and(|e| (e.class, e.number) == (self.class, self.number))
            };
            let count = here.count.get();
            if let Some(at) = here.held[..count].iter().rposition(is_it) {
                here.held[at..count].windows(2).for_each(|pair| pair[0].set(pair[1].get()));
                here.count.set(count - 1);
            }
        });
    }
}

impl Disabled {
    pub(in crate::sync) fn begin() -> Self {
        here(|here| {
            change(&here.disabled_depth, 1);
            Self(here.disabled_depth.get())
        })
    }
}

impl Drop for Disabled {
    fn drop(&mut self) {
        let depth = here(|here| {
            let depth = here.disabled_depth.get();
            change(&here.disabled_depth, -1);
            depth
        });
        // It has restored what it found, which is not what the sections around it have made of it.
        report((depth != self.0).then(|| {
            let what =
                "guards of locks that spin are dropped out of order, which leaves interrupts enabled or disabled";
            format!("{what}: the guard of section {} of {depth} is dropped", self.0)
        }));
    }
}

impl InIrq {
    pub(in crate::sync) fn begin() -> Self {
        here(|here| {
            change(&here.irq_depth, 1);
            Self { interrupted: here.base.replace(here.count.get()) }
        })
    }
}

impl Drop for InIrq {
    fn drop(&mut self) {
        here(|here| {
            change(&here.irq_depth, -1);
            here.base.set(self.interrupted);
        });
    }
}

/// Checks that the thread may sleep.
#[track_caller]
pub(in crate::sync) fn might_sleep() {
    let at = Location::caller();
    let why = here(Here::must_not_sleep);
    report(why.map(|why| format!("a wait at {at} {why}")));
}
