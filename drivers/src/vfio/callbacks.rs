//! Callbacks of one user, called on a thread that holds no lock of the host.
//!
//! A user is outside the kernel: its callback may never return, panic, or release the device. So the host only marks a
//! callback as pending, and a thread from [`Env::spawn`](bindery::env::Env::spawn) calls them one at a time. If the env
//! cannot supply a thread, callbacks run in the context of the event and must not block.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bindery::dma::PassThroughHost;
use bindery::env::Instant;
use bindery::sync::{Nesting, SpinLock, WaitQueue, atomic::AtomicBool, atomic::Ordering, catch_panic};

/// A user's closure. Its destructor is also the user's code, so it is not dropped under a lock or inside the door, and not on
/// a thread of the host if there is another.
pub(super) type Callback = Arc<dyn Fn() + Send + Sync>;

/// Event for which a callback is called, in order of priority.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Trigger {
    /// The host requests the device's release.
    Request,
    /// An interrupt has fired, by its index.
    Interrupt(usize),
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => f.write_str("answer to the host's request"),
            Self::Interrupt(index) => write!(f, "callback of interrupt {index}"),
        }
    }
}

#[derive(Default)]
struct State {
    closed: bool,
    callbacks: BTreeMap<Trigger, Callback>,
    /// Flags set by interrupts, by interrupt index.
    flags: BTreeMap<usize, Arc<AtomicBool>>,
    pending: BTreeSet<Trigger>,
    /// Interrupts by message that nobody was told of: they do not repeat.
    missed: BTreeSet<usize>,
    /// A thread that calls pending callbacks was requested or runs.
    active: bool,
    /// The running callback, and the time at which it was called.
    calling: Option<(Trigger, Instant)>,
}

/// The callbacks of one session.
pub(super) struct Callbacks {
    host: PassThroughHost,
    state: SpinLock<State>,
    /// Woken when a callback has returned.
    returned: WaitQueue,
    /// Threads inside a callback of this session.
    inside: Nesting,
}

impl Callbacks {
    pub(super) fn new(host: PassThroughHost) -> Arc<Self> {
        Arc::new(Self { host, state: SpinLock::default(), returned: WaitQueue::new(), inside: Nesting::new() })
    }

    /// Sets the callback for release requests. Returns the previous one, which is to be dropped outside the door.
    pub(super) fn on_request(&self, run: &Callback) -> Option<Callback> {
        self.set(Trigger::Request, run)
    }

    /// Sets the callback of interrupt `index`. Returns the previous one, which is to be dropped outside the door.
    pub(super) fn on_interrupt(&self, index: usize, run: &Callback) -> Option<Callback> {
        self.set(Trigger::Interrupt(index), run)
    }

    /// Sets the flag of interrupt `index`.
    pub(super) fn flag_interrupt(&self, index: usize, flag: Arc<AtomicBool>) {
        self.state.lock().flags.insert(index, flag);
    }

    fn set(&self, due: Trigger, run: &Callback) -> Option<Callback> {
        let mut s = self.state.lock();
        if s.closed { None } else { s.callbacks.insert(due, Arc::clone(run)) }
    }

    /// Requests the device's release. Returns false when the user has no callback for that.
    pub(super) fn request(this: &Arc<Self>) -> bool {
        Self::trigger(this, Trigger::Request)
    }

    /// Signals interrupt `index`. One that does `not_repeat` is remembered if nobody is told of it.
    pub(super) fn interrupt(this: &Arc<Self>, index: usize, not_repeat: bool) {
        let flag = this.state.lock().flags.get(&index).cloned();
        if let Some(flag) = &flag {
            flag.store(true, Ordering::Release);
        }
        let called = Self::trigger(this, Trigger::Interrupt(index));
        if not_repeat && !called && flag.is_none() {
            this.state.lock().missed.insert(index);
        }
    }

    /// Signals interrupt `index` if it was missed.
    pub(super) fn unmasked(this: &Arc<Self>, index: usize) {
        let missed = this.state.lock().missed.remove(&index);
        if missed {
            Self::interrupt(this, index, true);
        }
    }

    /// Forgets what is about interrupts: other ones take their places. Returns the callbacks, which are to be dropped outside the
    /// door.
    pub(super) fn forget_interrupts(&self) -> Vec<Callback> {
        let mut s = self.state.lock();
        s.flags.clear();
        s.missed.clear();
        s.pending.retain(|due| *due == Trigger::Request);
        s.callbacks.extract_if(.., |due, _| *due != Trigger::Request).map(|(_, callback)| callback).collect()
    }

    fn trigger(this: &Arc<Self>, due: Trigger) -> bool {
        {
            let mut s = this.state.lock();
            if s.closed || !s.callbacks.contains_key(&due) {
                return false;
            }
            s.pending.insert(due);
            if core::mem::replace(&mut s.active, true) {
                return true;
            }
        }
        let callbacks = Arc::clone(this);
        let job: Box<dyn FnOnce() + Send> = Box::new(move || callbacks.run_pending());
        if let Err(job) = this.host.spawn(job) {
            job();
        }
        true
    }

    /// Calls pending callbacks until none is pending.
    fn run_pending(&self) {
        loop {
            let (due, callback) = {
                let mut s = self.state.lock();
                if s.calling.take().is_some() {
                    self.returned.wake_all();
                }
                let next = s.pending.pop_first().and_then(|due| Some((due, Arc::clone(s.callbacks.get(&due)?))));
                let Some(next) = next else {
                    s.active = false;
                    return;
                };
                s.calling = Some((next.0, self.host.now()));
                next
            };
            let outcome = {
                let _inside = self.inside.enter();
                let called = catch_panic(|| callback());
                // This may be the last reference. Its destructor may panic, too, so it runs apart: a second panic during
                // unwinding would abort the process.
                let dropped = catch_panic(|| drop(callback));
                [called, dropped]
            };
            for panic in outcome.into_iter().filter_map(Result::err) {
                self.host.report("panicked", &format!("the user's {due}: {panic}"));
            }
        }
    }

    /// Returns true while a callback is running or pending.
    pub(super) fn is_busy(&self) -> bool {
        let s = self.state.lock();
        s.calling.is_some() || !s.pending.is_empty()
    }

    /// Calls no callback from now on. A running one continues.
    pub(super) fn close(&self) {
        let callbacks = {
            let mut s = self.state.lock();
            s.closed = true;
            s.pending.clear();
            s.flags.clear();
            core::mem::take(&mut s.callbacks)
        };
        // Destructors of the user's closures are the user's code: not on a thread of the host, if there is another.
        if callbacks.is_empty() {
            return;
        }
        let job: Box<dyn FnOnce() + Send> = Box::new(move || drop(catch_panic(|| drop(callbacks))));
        if let Err(job) = self.host.spawn(job) {
            job();
        }
    }

    /// [Closes](Self::close), and waits for a running callback unless this is called from it.
    pub(super) fn close_and_wait(&self) {
        self.close();
        if self.inside.is_inside() {
            return;
        }
        let calling = || self.state.lock().calling;
        let who = || calling().into_iter().map(|(due, since)| (format!("the user's {due}"), since)).collect();
        let is_over = || calling().is_none();
        if !self.host.wait_for_users(&self.returned, is_over, who) {
            self.returned.sleep(|| is_over().then_some(()));
        }
    }
}
