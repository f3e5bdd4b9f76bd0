//! The table of claims.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::{Holder, Mode, Subject};
use crate::addr::PhysAddr;
use crate::context::Context;
use crate::rundown::{RundownGuard, TrackedGuard, TrackedRundown};
use crate::sync::SpinLock;
use crate::sync::atomic::Ordering;

/// One holder's claim to one subject.
///
/// A claim may have been released while it is still referenced. Holding the guard that [`enter`](Self::enter) returns
/// tells you: the claim is valid, and stays so until you drop the guard.
pub struct Claim {
    subject: Subject,
    holder: Holder,
    mode: Mode,
    rundown: TrackedRundown,
}

impl Claim {
    /// The claimed subject.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The holder.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The sharing mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Starts a use. `None` once the claim is released, or being released.
    pub fn enter(&self) -> Option<RundownGuard<'_>> {
        self.rundown.enter_untracked()
    }

    /// Starts the use `what`, which may last: a wait for its end reports it by this name.
    #[track_caller]
    pub(crate) fn enter_for(&self, context: &Context, what: &'static str) -> Option<TrackedGuard<'_>> {
        self.rundown.enter(context, what)
    }

    /// Refuses new uses, and waits for the active ones. A long wait is reported with the active users.
    pub(crate) fn close(&self, context: &Context) {
        self.close_naming(context, || format!("a use of {}", self.subject));
    }

    /// As [`close`](Self::close); `unnamed` describes uses without a name.
    pub(crate) fn close_naming(&self, context: &Context, unnamed: impl Fn() -> String) {
        self.rundown.drain(context, self.holder.device(), unnamed);
    }

    /// True when it is closed and no use is active.
    pub(crate) fn is_over(&self) -> bool {
        self.rundown.drained()
    }

    /// True when this claim and one by `holder` in `mode` to the same subject can coexist.
    fn is_compatible_with(&self, holder: &Holder, mode: Mode) -> bool {
        if self.holder.is_one_with(holder) {
            // A holder never conflicts with itself, but for a name, which has one meaning.
            return !matches!(self.subject, Subject::Name { .. });
        }
        match (self.mode, mode) {
            (Mode::Shared(a), Mode::Shared(b)) => a == b,
            (Mode::Peer, Mode::Peer) => true,
            // A guest cannot be notified of a peer that reaches its registers by DMA.
            (Mode::Peer, _) | (_, Mode::Peer) => !self.holder.is_pass_through() && !holder.is_pass_through(),
            _ => false,
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claim({}, {}, {})", self.subject, self.holder, self.mode)
    }
}

/// Refusal of a claim because of another holder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// Subject of the other holder's claim: for registers, its own window.
    pub subject: Subject,
    /// The other holder.
    pub holder: Holder,
    /// The sharing mode.
    pub mode: Mode,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let are = if matches!(self.subject, Subject::Registers { .. }) { "are" } else { "is" };
        write!(f, "{} {are} held by {}", self.subject, self.holder)?;
        if self.mode == Mode::Exclusive { Ok(()) } else { write!(f, ", {}", self.mode) }
    }
}

impl core::error::Error for Conflict {}

/// Snapshot of one claim, for listings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClaimInfo {
    /// The claimed subject.
    pub subject: Subject,
    /// Device and driver, as text.
    pub holder: String,
    /// The sharing mode.
    pub mode: String,
}

#[derive(Default)]
struct Inner {
    held: BTreeMap<Subject, Vec<Arc<Claim>>>,
    /// Length of the longest registers ever claimed: a window that reaches an address begins at most this far below it.
    longest: u64,
}

/// Table of all claims of a machine. Its lock is a leaf.
#[derive(Default)]
pub(crate) struct Claims(SpinLock<Inner>);

impl Claims {
    /// Claims `subject` for `holder`. One holder may claim a subject several times, but for a name; each claim is
    /// released by itself.
    ///
    /// # Errors
    ///
    /// The first conflicting claim.
    pub(crate) fn take(&self, subject: &Subject, holder: &Holder, mode: Mode) -> Result<Arc<Claim>, Conflict> {
        let mut inner = self.0.lock();
        if let Some(conflict) = inner.conflict(subject, holder, mode) {
            return Err(conflict);
        }
        if let Subject::Registers { len, .. } = subject {
            inner.longest = inner.longest.max(*len);
        }
        let claim =
            Arc::new(Claim { subject: subject.clone(), holder: holder.clone(), mode, rundown: TrackedRundown::open() });
        inner.held.entry(claim.subject.clone()).or_default().push(Arc::clone(&claim));
        holder.claim_count().fetch_add(1, Ordering::Relaxed);
        Ok(claim)
    }

    /// The conflict that [`take`](Self::take) would return at this moment.
    pub(crate) fn conflict(&self, subject: &Subject, holder: &Holder, mode: Mode) -> Option<Conflict> {
        self.0.lock().conflict(subject, holder, mode)
    }

    /// Releases a claim after its last use has ended. True when no other claim to an equal subject is left. For the
    /// release of ledger entries, not for destructors: a forgotten handle must not keep a claim (P9), and one that is
    /// dropped early must not release what the ledger still lists.
    pub(crate) fn release(&self, claim: &Arc<Claim>) -> bool {
        // Before the table is locked: the wait for active uses must not block other claims.
        claim.rundown.drain_unreported();
        let mut inner = self.0.lock();
        let Some(list) = inner.held.get_mut(&claim.subject) else { return true };
        if let Some(at) = list.iter().position(|c| Arc::ptr_eq(c, claim)) {
            list.remove(at);
            claim.holder.claim_count().fetch_sub(1, Ordering::Relaxed);
        }
        let last = list.is_empty();
        if last {
            inner.held.remove(&claim.subject);
        }
        last
    }

    /// Another holder of `subject` at this moment, in any mode: checked at each use that is reserved for a sole holder.
    pub(crate) fn other_holder(&self, subject: &Subject, holder: &Holder) -> Option<Conflict> {
        let inner = self.0.lock();
        let held = inner.overlapping(subject).find(|c| c.holder != *holder)?;
        Some(Conflict { subject: held.subject.clone(), holder: held.holder.clone(), mode: held.mode })
    }

    /// Two incompatible claims to `subject`, which must not exist (P14).
    pub(crate) fn find_conflicting(&self, subject: &Subject) -> Option<(Conflict, Holder)> {
        let inner = self.0.lock();
        let all: Vec<_> = inner.overlapping(subject).collect();
        all.iter().enumerate().find_map(|(at, a)| {
            let b = all[..at]
                .iter()
                .find(|b| a.subject.overlaps(&b.subject) && !a.is_compatible_with(&b.holder, b.mode))?;
            let conflict = Conflict { subject: a.subject.clone(), holder: a.holder.clone(), mode: a.mode };
            Some((conflict, b.holder.clone()))
        })
    }

    /// Holders that reach any of `registers` by peer-to-peer DMA.
    pub(crate) fn peers(&self, registers: &Subject) -> Vec<Holder> {
        let inner = self.0.lock();
        inner.overlapping(registers).filter(|c| c.mode == Mode::Peer).map(|c| c.holder.clone()).collect()
    }

    /// All subjects that `holder` has claimed.
    pub(crate) fn held_by(&self, holder: &Holder) -> Vec<Subject> {
        if holder.claim_count().load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let inner = self.0.lock();
        inner.held.values().flatten().filter(|c| c.holder == *holder).map(|c| c.subject.clone()).collect()
    }

    /// All claims, ordered by subject: registers by address, then interrupt lines, and so on.
    pub(crate) fn list(&self) -> Vec<ClaimInfo> {
        let info = |c: &Arc<Claim>| ClaimInfo {
            subject: c.subject.clone(),
            holder: c.holder.to_string(),
            mode: c.mode.to_string(),
        };
        self.0.lock().held.values().flatten().map(info).collect()
    }

    /// Number of claims, for leak checks.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().held.values().map(Vec::len).sum()
    }
}

impl Inner {
    /// The first claim that `holder` would conflict with.
    fn conflict(&self, subject: &Subject, holder: &Holder, mode: Mode) -> Option<Conflict> {
        let held = self.overlapping(subject).find(|c| !c.is_compatible_with(holder, mode))?;
        Some(Conflict { subject: held.subject.clone(), holder: held.holder.clone(), mode: held.mode })
    }

    /// Claims to `subject` or, for registers, to any part of them.
    fn overlapping<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = &'a Arc<Claim>> + 'a {
        let (from, to) = match subject {
            Subject::Registers { base, len } => (
                Subject::Registers { base: PhysAddr(base.0.saturating_sub(self.longest)), len: 0 },
                Subject::Registers { base: PhysAddr(base.0.saturating_add(*len)), len: u64::MAX },
            ),
            other => (other.clone(), other.clone()),
        };
        self.held.range(from..=to).flat_map(|(_, claims)| claims).filter(|claim| claim.subject.overlaps(subject))
    }
}
