//! Classes of locks, and which was taken while which was held, for the whole program.

use core::fmt::Write;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::format;
use std::string::String;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::{Kind, LockLevel};
use super::Place;
use crate::sync::hooks::InterruptsDisabled;

/// Number of a class, from 1; 0 for one that could not be looked up yet. Neither that nor [`UNCHECKED`] is checked.
pub(super) type ClassId = u16;

/// Number of the classes that did not fit into the table.
const UNCHECKED: ClassId = ClassId::MAX;

/// Most classes.
const CLASSES: usize = 512;

/// A class.
#[derive(Clone, Copy)]
pub(super) struct Class {
    /// Place at which its locks are made.
    pub(super) made: Place,
    pub(super) level: LockLevel,
    pub(super) kind: Kind,
    /// Locks of the class nest in each other, in an order that the code keeps otherwise.
    pub(super) nests: bool,
    /// Type of the values that its locks hold.
    pub(super) holds: &'static str,
}

/// One class that is taken while another one is held, with the places of both.
#[derive(Clone, Copy)]
pub(super) struct Edge {
    pub(super) held: (ClassId, Place),
    pub(super) taken: (ClassId, Place),
    /// Under another lock of the class that is taken: their levels are checked, and no order is learnt.
    pub(super) nested: bool,
}

/// Context in which a lock is held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    InIrq,
    /// By a task, with interrupts disabled.
    Disabled,
    /// By a task, with interrupts enabled.
    Enabled,
}

struct Graph {
    count: usize,
    classes: [Option<Class>; CLASSES],
    /// Places at which a class of each was held and taken: by the class held, then the class taken.
    edges: [[Option<(Place, Place)>; CLASSES]; CLASSES],
    /// Places at which each class was held in an interrupt handler, and by a task with interrupts enabled.
    in_irq: [Option<Place>; CLASSES],
    enabled: [Option<Place>; CLASSES],
    /// A class did not fit.
    is_full: bool,
}

/// A lock of the host, which the checker does not see. It is held with interrupts disabled.
static GRAPH: Mutex<Graph> = Mutex::new(Graph::EMPTY);

/// Edges that were found in order, one bit each: the usual case without the lock.
static KNOWN: [AtomicU64; CLASSES * CLASSES / 64] = [const { AtomicU64::new(0) }; CLASSES * CLASSES / 64];

/// Usages of each class that were seen: 1 in a handler, 2 with interrupts enabled.
static USED: [AtomicU8; CLASSES] = [const { AtomicU8::new(0) }; CLASSES];

/// The graph. `None` in a handler while it is locked, perhaps by the code that it has interrupted: what it does is then not
/// recorded this time.
fn lock() -> Option<Locked> {
    if super::in_irq() {
        return GRAPH.try_lock().ok().map(|graph| Locked { graph, _interrupts: None });
    }
    let interrupts = Some(InterruptsDisabled::unrecorded());
    Some(Locked { graph: GRAPH.lock().unwrap_or_else(PoisonError::into_inner), _interrupts: interrupts })
}

struct Locked {
    graph: MutexGuard<'static, Graph>,
    // Dropped last.
    _interrupts: Option<InterruptsDisabled>,
}

impl Deref for Locked {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        &self.graph
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }
}

/// Number of `class`.
pub(super) fn class(class: Class) -> ClassId {
    let Some(mut graph) = lock() else { return 0 };
    let (id, is_first_unchecked) = graph.find_or_add(class);
    drop(graph);
    if is_first_unchecked && !super::in_irq() {
        std::eprintln!(
            "lock order: more than {CLASSES} classes of locks; those from {} on are not checked",
            class.made
        );
    }
    id
}

/// False for a class that is not checked.
fn is_checked(id: ClassId) -> bool {
    id != 0 && id != UNCHECKED
}

/// Description of a class, for reports.
pub(super) fn describe(class: ClassId) -> String {
    lock().map_or_else(String::new, |graph| graph.describe(class))
}

/// Records that a lock of class `taken` is taken while one of class `held` is held. Returns what is wrong with it.
pub(super) fn take(edge: Edge) -> Option<String> {
    let (held, taken) = (edge.held.0, edge.taken.0);
    if !is_checked(held) || !is_checked(taken) {
        return None;
    }
    let bit = (held as usize - 1) * CLASSES + (taken as usize - 1);
    // Relaxed: a bit alone; who does not see it yet looks at the graph.
    if KNOWN[bit / 64].load(Ordering::Relaxed) & (1 << (bit % 64)) != 0 {
        return None;
    }
    let mut graph = lock()?;
    let wrong = graph.wrong(&edge);
    if wrong.is_none() && !edge.nested {
        graph.edges[held as usize - 1][taken as usize - 1] = Some((edge.held.1, edge.taken.1));
        KNOWN[bit / 64].fetch_or(1 << (bit % 64), Ordering::Relaxed);
    }
    wrong
}

/// Records that a lock of `class` is held at `place`. Returns what is wrong with it: a handler that interrupts a task would
/// wait for what that task holds.
pub(super) fn used(class: ClassId, usage: Usage, place: Place) -> Option<String> {
    if !is_checked(class) || usage == Usage::Disabled {
        return None;
    }
    let index = class as usize - 1;
    let bit = if usage == Usage::InIrq { 1 } else { 2 };
    // Relaxed: a bit alone; the lock below orders the rest.
    if USED[index].load(Ordering::Relaxed) & bit != 0 {
        return None;
    }
    let mut graph = lock()?;
    // Not before the graph is locked: else a handler that cannot lock it would have used the bit up.
    if USED[index].fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return None;
    }
    match usage {
        Usage::InIrq => graph.in_irq[index] = Some(place),
        _ => graph.enabled[index] = Some(place),
    }
    let (in_irq, enabled) = (graph.in_irq[index]?, graph.enabled[index]?);
    Some(format!(
        "{} is held in hard interrupt context at {in_irq}, and with interrupts enabled at {enabled}",
        graph.describe(class)
    ))
}

impl Graph {
    #[expect(clippy::large_stack_arrays, reason = "the value of statics only")]
    const EMPTY: Self = Self {
        count: 0,
        classes: [None; CLASSES],
        edges: [[None; CLASSES]; CLASSES],
        in_irq: [None; CLASSES],
        enabled: [None; CLASSES],
        is_full: false,
    };

    /// Number of `class`, and whether it is the first one that did not fit.
    fn find_or_add(&mut self, class: Class) -> (ClassId, bool) {
        let is_it = |known: &Class| {
            let (a, b) = (known.made, class.made);
            (a.line(), a.column(), known.level, known.kind) == (b.line(), b.column(), class.level, class.kind)
                && a.file() == b.file()
                && (known.holds, known.nests) == (class.holds, class.nests)
        };
        if let Some(index) = self.classes[..self.count].iter().position(|known| known.as_ref().is_some_and(is_it)) {
            return (index as ClassId + 1, false);
        }
        if self.count == CLASSES {
            return (UNCHECKED, !core::mem::replace(&mut self.is_full, true));
        }
        self.classes[self.count] = Some(class);
        self.count += 1;
        (self.count as ClassId, false)
    }

    fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.get((id as usize).checked_sub(1)?)?.as_ref()
    }

    fn describe(&self, id: ClassId) -> String {
        self.class(id).map_or_else(String::new, |class| {
            let name = match class.kind {
                Kind::Spin => "SpinLock",
                Kind::Sleeping => "Mutex",
            };
            format!("the {name}<{}> made at {} (level {:?})", class.holds, class.made, class.level)
        })
    }

    /// Level of a class that has one.
    fn level(&self, id: ClassId) -> Option<LockLevel> {
        self.class(id).map(|class| class.level).filter(|level| *level != LockLevel::Other)
    }

    fn wrong(&self, edge: &Edge) -> Option<String> {
        let ((held, since), (taken, at)) = (edge.held, edge.taken);
        // Described only when it is wrong: a handler allocates nothing.
        let both = || {
            let (inner, outer) = (self.describe(taken), self.describe(held));
            format!("{inner} is taken at {at} while {outer} is held since {since}")
        };
        if held == taken {
            if self.class(held).is_some_and(|class| class.nests) {
                return None;
            }
            return Some(format!("{}: two locks of one class have no order", both()));
        }
        if let (Some(outer), Some(inner)) = (self.level(held), self.level(taken))
            && outer > inner
        {
            return Some(format!("{}: the levels are in the other order", both()));
        }
        if edge.nested {
            return None;
        }
        let mut path = [0; CLASSES];
        let steps = self.path(taken, held, &mut path)?;
        let mut text = format!("{}; but earlier", both());
        for pair in path[..steps].windows(2) {
            let places = self.edges[pair[0] as usize - 1][pair[1] as usize - 1];
            let (outer, inner) = (self.describe(pair[0]), self.describe(pair[1]));
            let _ = match places {
                Some((since, at)) => {
                    write!(text, " {inner} was taken at {at} while {outer} was held since {since},")
                }
                None => write!(text, " {inner} comes after {outer} by its level,"),
            };
        }
        text.pop();
        Some(text)
    }

    /// True when `inner` may be taken while `outer` is held, by what happened or by their levels.
    fn is_after(&self, outer: ClassId, inner: ClassId) -> bool {
        self.edges[outer as usize - 1][inner as usize - 1].is_some()
            || matches!((self.level(outer), self.level(inner)), (Some(a), Some(b)) if a < b)
    }

    /// Writes the classes from `from` to `to`, each of which is taken after the one before, to `path`; returns their number.
    fn path(&self, from: ClassId, to: ClassId, path: &mut [ClassId; CLASSES]) -> Option<usize> {
        // Breadth first, by the class from which each was reached.
        let mut reached_from = [0; CLASSES];
        let (mut queue, mut head, mut tail) = ([0; CLASSES], 0, 1);
        queue[0] = from;
        while head < tail {
            let class = queue[head];
            head += 1;
            if class == to {
                let mut steps = 0;
                let mut at = to;
                while at != from {
                    path[steps] = at;
                    at = reached_from[at as usize - 1];
                    steps += 1;
                }
                path[steps] = from;
                path[..=steps].reverse();
                return Some(steps + 1);
            }
            for next in 1..=self.count as ClassId {
                if next != from && reached_from[next as usize - 1] == 0 && self.is_after(class, next) {
                    reached_from[next as usize - 1] = class;
                    queue[tail] = next;
                    tail += 1;
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use core::panic::Location;

    use super::super::InIrq;
    use super::*;

    fn class_that_holds(holds: &'static str) -> Class {
        Class { made: Location::caller(), level: LockLevel::Other, kind: Kind::Sleeping, nests: false, holds }
    }

    #[test]
    fn a_usage_that_a_handler_could_not_record_is_recorded_the_next_time() {
        let id = class(class_that_holds("a usage"));
        let place = Location::caller();
        let in_irq = InIrq::begin();
        let locked = GRAPH.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(used(id, Usage::InIrq, place), None, "the graph is locked");
        drop(locked);
        // Other tests lock it, too.
        let recorded = || GRAPH.lock().unwrap_or_else(PoisonError::into_inner).in_irq[id as usize - 1].is_some();
        assert!((0..100_000).any(|_| used(id, Usage::InIrq, place).is_none() && recorded()));
        drop(in_irq);
        assert!(used(id, Usage::Enabled, place).is_some());
    }

    #[test]
    fn classes_that_do_not_fit_are_told_once_and_not_looked_for_again() {
        static FULL: Mutex<Graph> = Mutex::new(Graph::EMPTY);
        static NAMES: &str = match core::str::from_utf8(&[b'x'; CLASSES + 2]) {
            Ok(text) => text,
            Err(_) => "",
        };
        let mut graph = FULL.lock().unwrap();
        for n in 0..CLASSES {
            assert_eq!(graph.find_or_add(class_that_holds(&NAMES[..n])), (n as ClassId + 1, false));
        }
        assert_eq!(graph.find_or_add(class_that_holds(&NAMES[..CLASSES])), (UNCHECKED, true));
        assert_eq!(graph.find_or_add(class_that_holds(&NAMES[..=CLASSES])), (UNCHECKED, false));
        assert_eq!(graph.find_or_add(class_that_holds(&NAMES[..7])), (8, false));
        assert!(!is_checked(UNCHECKED) && is_checked(CLASSES as ClassId));
    }
}
