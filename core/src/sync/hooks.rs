//! What a target supplies to locks and waits: interrupts that are disabled and restored, threads that park.

use super::order::Disabled;

/// State of a CPU's interrupts, as [`TargetHooks::disable_interrupts`] found it. Its meaning is the target's.
pub type InterruptState = usize;

/// Number of a thread, unique among the threads that live at the same time.
pub type ThreadNumber = u64;

/// Abilities of a target that locks and waits need, for all machines of the program. They are
/// [registered](set_target_hooks) once. Every method may be called with locks held and from an interrupt handler, and
/// must take none of Bindery's locks.
///
/// Each method has a default. Without hooks for interrupts, [`SpinLock`](super::SpinLock) leaves interrupts as they are:
/// right only where handlers never run on a CPU that runs a thread too. Without hooks for threads, those of the
/// operating system are used with the feature `std`; elsewhere a waiting thread spins, so that whoever it waits for must
/// run on another CPU.
pub trait TargetHooks: Sync {
    /// Disables interrupts on the calling CPU, and returns the state before.
    fn disable_interrupts(&self) -> InterruptState {
        0
    }

    /// Restores the state that the matching call of [`disable_interrupts`](Self::disable_interrupts) returned. Calls nest
    /// and are matched in reverse order.
    fn restore_interrupts(&self, before: InterruptState) {
        let _ = before;
    }

    /// Number of the calling thread; `None` where the target has no threads of its own. The same on each call in a
    /// program. In an interrupt handler it is the number of the interrupted thread, or of what the CPU does without one: marks of
    /// [`HardIrq`](super::HardIrq) count for that number, and without one for everybody.
    fn current_thread(&self) -> Option<ThreadNumber> {
        None
    }

    /// Lets other threads run until [`unpark`](Self::unpark) is called for the calling thread; an earlier call that ended
    /// no `park` yet ends this one at once. May return early for no reason, so switching to another thread once will do.
    fn park(&self) {
        core::hint::spin_loop();
    }

    /// Ends the current or next [`park`](Self::park) of `thread`, which may have ended meanwhile. Allocates nothing. With the
    /// feature `std` the thread of the host is unparked, too, which may be in
    /// `EventToken::park`.
    fn unpark(&self, thread: ThreadNumber) {
        let _ = thread;
    }
}

/// Error: the program has target hooks already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the program has target hooks already: register them once, before the first lock is taken")]
pub struct HooksAlreadySet;

#[cfg(not(any(loom, shuttle)))]
static HOOKS: spin::Once<&'static dyn TargetHooks> = spin::Once::new();

/// Registers what the target supplies to locks and waits. Call it before anything else of this crate, with interrupts
/// disabled: a lock that is held at this moment was taken without it.
///
/// # Errors
///
/// [`HooksAlreadySet`] after the first call.
#[cfg(not(any(loom, shuttle)))]
pub fn set_target_hooks(hooks: &'static dyn TargetHooks) -> Result<(), HooksAlreadySet> {
    let mut set = false;
    HOOKS.call_once(|| {
        set = true;
        hooks
    });
    if set { Ok(()) } else { Err(HooksAlreadySet) }
}

/// The hooks, if any are registered.
#[inline]
pub(super) fn get() -> Option<&'static dyn TargetHooks> {
    #[cfg(not(any(loom, shuttle)))]
    return HOOKS.get().copied();
    #[cfg(any(loom, shuttle))]
    return None;
}

/// Number of the calling thread, where the target gives it one.
#[cfg_attr(any(feature = "std", loom, shuttle), allow(dead_code, reason = "threads have identities of their own"))]
pub(super) fn current_thread() -> Option<ThreadNumber> {
    get()?.current_thread()
}

/// Section in which the calling CPU's interrupts are disabled.
#[must_use = "interrupts are disabled while this lives"]
pub(super) struct InterruptsDisabled {
    /// For the lock-order checker.
    recorded: Option<Disabled>,
    before: Option<(&'static dyn TargetHooks, InterruptState)>,
    /// Not `Send`: it counts for the CPU that it began on, which the thread does not leave.
    here: core::marker::PhantomData<*const ()>,
}

impl InterruptsDisabled {
    pub(super) fn begin() -> Self {
        let mut section = Self::unrecorded();
        section.recorded = Some(Disabled::begin());
        section
    }

    /// The same, for the lock-order checker itself.
    pub(super) fn unrecorded() -> Self {
        let before = get().map(|hooks| (hooks, hooks.disable_interrupts()));
        Self { recorded: None, before, here: core::marker::PhantomData }
    }
}

impl Drop for InterruptsDisabled {
    fn drop(&mut self) {
        if let Some((hooks, before)) = self.before {
            hooks.restore_interrupts(before);
        }
    }
}
