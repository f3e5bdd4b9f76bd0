//! The callbacks of one user: called on a thread that holds nothing of the host's.
//!
//! A user is outside the kernel: what it does in a callback may take for ever, panic, or give the device back. So the host
//! only notes that a callback is due, and a thread from [`Env::spawn`](bindery::env::Env::spawn) calls it, one at a time.
//! Where the env has no such thread, callbacks run where they are due and must not block.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use core::fmt;

use bindery::dma::PassThroughHost;
use bindery::env::Instant;
use bindery::sync::{Mutex, Nesting, atomic::AtomicBool, atomic::Ordering, catch_panic, relax};

/// A user's closure. Its destructor is the user's code, too, so it is dropped where that harms nobody else: not under a
/// lock, not inside the door, and not on a thread of the host's if there is another.
pub(super) type Callback = Arc<dyn Fn() + Send + Sync>;

/// What a callback is about; what comes first here is called first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Due {
    /// The host wants the device back.
    Request,
    /// An interrupt has fired, by its index.
    Interrupt(usize),
}

impl fmt::Display for Due {
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
    callbacks: BTreeMap<Due, Callback>,
    /// Set instead of, or beside, a call: interrupt index to flag.
    flags: BTreeMap<usize, Arc<AtomicBool>>,
    due: BTreeSet<Due>,
    /// A thread has been asked for, or runs, to call what is due.
    attended: bool,
    /// The one that it calls at this moment, and since when.
    calling: Option<(Due, Instant)>,
}

/// The callbacks of one session.
pub(super) struct Callbacks {
    host: PassThroughHost,
    state: Mutex<State>,
    /// Threads inside a callback of this session.
    inside: Nesting,
}

impl Callbacks {
    pub(super) fn new(host: PassThroughHost) -> Arc<Self> {
        Arc::new(Self { host, state: Mutex::default(), inside: Nesting::new() })
    }

    /// Calls `run` when the host wants the device back. The answer is to be dropped outside the door.
    pub(super) fn on_request(&self, run: &Callback) -> Option<Callback> {
        self.set(Due::Request, run)
    }

    /// Calls `run` each time interrupt `index` has fired. The answer is to be dropped outside the door.
    pub(super) fn on_interrupt(&self, index: usize, run: &Callback) -> Option<Callback> {
        self.set(Due::Interrupt(index), run)
    }

    /// Sets `flag` each time interrupt `index` has fired.
    pub(super) fn flag_interrupt(&self, index: usize, flag: Arc<AtomicBool>) {
        self.state.lock().flags.insert(index, flag);
    }

    fn set(&self, due: Due, run: &Callback) -> Option<Callback> {
        let mut s = self.state.lock();
        if s.closed { None } else { s.callbacks.insert(due, Arc::clone(run)) }
    }

    /// The host wants the device back. False when the user has named nobody to be told.
    pub(super) fn request(this: &Arc<Self>) -> bool {
        Self::is_due(this, Due::Request)
    }

    /// Interrupt `index` has fired.
    pub(super) fn interrupt(this: &Arc<Self>, index: usize) {
        let flag = this.state.lock().flags.get(&index).cloned();
        if let Some(flag) = flag {
            flag.store(true, Ordering::Release);
        }
        Self::is_due(this, Due::Interrupt(index));
    }

    fn is_due(this: &Arc<Self>, due: Due) -> bool {
        {
            let mut s = this.state.lock();
            if s.closed || !s.callbacks.contains_key(&due) {
                return false;
            }
            s.due.insert(due);
            if core::mem::replace(&mut s.attended, true) {
                return true;
            }
        }
        let callbacks = Arc::clone(this);
        let job: Box<dyn FnOnce() + Send> = Box::new(move || callbacks.attend());
        if let Err(job) = this.host.spawn(job) {
            job();
        }
        true
    }

    /// Calls what is due, until nothing is.
    fn attend(&self) {
        loop {
            let (due, callback) = {
                let mut s = self.state.lock();
                s.calling = None;
                let next = s.due.pop_first().and_then(|due| Some((due, Arc::clone(s.callbacks.get(&due)?))));
                let Some(next) = next else {
                    s.attended = false;
                    return;
                };
                s.calling = Some((next.0, self.host.now()));
                next
            };
            let outcome = {
                let _inside = self.inside.enter();
                let called = catch_panic(|| callback());
                // The last reference may be this one. Not while a panic unwinds: a second one would end the process.
                let dropped = catch_panic(|| drop(callback));
                [called, dropped]
            };
            for panic in outcome.into_iter().filter_map(Result::err) {
                self.host.report("panicked", &format!("the user's {due}: {panic}"));
            }
        }
    }

    /// Whether a callback runs, or is about to.
    pub(super) fn is_busy(&self) -> bool {
        let s = self.state.lock();
        s.calling.is_some() || !s.due.is_empty()
    }

    /// Calls nobody any more. What runs at this moment goes on.
    pub(super) fn close(&self) {
        let callbacks = {
            let mut s = self.state.lock();
            s.closed = true;
            s.due.clear();
            s.flags.clear();
            core::mem::take(&mut s.callbacks)
        };
        // Destructors of the user's closures are the user's code: not on a thread of the host's, if there is another.
        if callbacks.is_empty() {
            return;
        }
        let job: Box<dyn FnOnce() + Send> = Box::new(move || drop(catch_panic(|| drop(callbacks))));
        if let Err(job) = self.host.spawn(job) {
            job();
        }
    }

    /// The same, and returns when none runs any more, unless this is called from one of them.
    pub(super) fn close_and_wait(&self) {
        self.close();
        if self.inside.is_inside() {
            return;
        }
        let calling = || self.state.lock().calling;
        let who = || calling().into_iter().map(|(due, since)| (format!("the user's {due}"), since)).collect();
        if !self.host.wait_for_users(|| calling().is_none(), who) {
            while calling().is_some() {
                relax();
            }
        }
    }
}
