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
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;

/// One holder's claim to one thing.
///
/// Having a claim tells you nothing by itself: it may have gone back. Holding the guard that [`enter`](Self::enter) gives
/// tells you: the claim stands, and stays until you drop the guard.
pub struct Claim {
    subject: Subject,
    holder: Holder,
    mode: Mode,
    rundown: TrackedRundown,
}

impl Claim {
    /// What is claimed.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// By whom.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// On which terms.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Begins one use. `None` once the claim has gone back, or is going back.
    pub fn enter(&self) -> Option<RundownGuard<'_>> {
        self.rundown.enter_untracked()
    }

    /// Begins `what`, a use that may last: who waits for its end names it.
    #[track_caller]
    pub(crate) fn enter_for(&self, context: &Context, what: &'static str) -> Option<TrackedGuard<'_>> {
        self.rundown.enter(context, what)
    }

    /// Lets nobody in any more, and waits for those inside. A wait that lasts is told, with who is inside.
    pub(crate) fn close(&self, context: &Context) {
        self.close_naming(context, || format!("a use of {}", self.subject));
    }

    /// The same; those who are inside without a name are `unnamed`.
    pub(crate) fn close_naming(&self, context: &Context, unnamed: impl Fn() -> String) {
        self.rundown.drain(context, self.holder.device(), unnamed);
    }

    /// True when the door is closed and everybody has left.
    pub(crate) fn is_over(&self) -> bool {
        self.rundown.drained()
    }

    /// Whether both can stand at once although they are for the same thing.
    fn is_compatible_with(&self, holder: &Holder, mode: Mode) -> bool {
        if self.holder == *holder {
            // Nobody stands in his own way; but a name means one thing.
            return !matches!(self.subject, Subject::Name { .. });
        }
        match (self.mode, mode) {
            (Mode::Shared(a), Mode::Shared(b)) => a == b,
            (Mode::Peer, Mode::Peer) => true,
            // Who passes a thing on to a guest cannot tell the guest about a peer.
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

/// Somebody else has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// What the holder has: for registers, its own window.
    pub subject: Subject,
    /// Who has it.
    pub holder: Holder,
    /// On which terms.
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

/// One claim at a glance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClaimInfo {
    /// What is claimed.
    pub subject: Subject,
    /// By whom: device and driver.
    pub holder: String,
    /// On which terms.
    pub mode: String,
}

#[derive(Default)]
struct Inner {
    held: BTreeMap<Subject, Vec<Arc<Claim>>>,
    /// Length of the longest registers that were claimed: those that reach an address begin no further below it.
    longest: u64,
}

/// All claims of a machine. The lock is a leaf.
#[derive(Default)]
pub(crate) struct Claims(Mutex<Inner>);

impl Claims {
    /// Claims `subject` for `holder`, or names who has it on terms that leave no room. One holder may claim a thing several
    /// times, but for a name; each claim goes back by itself.
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

    /// The refusal that [`take`](Self::take) would give at this moment.
    pub(crate) fn conflict(&self, subject: &Subject, holder: &Holder, mode: Mode) -> Option<Conflict> {
        self.0.lock().conflict(subject, holder, mode)
    }

    /// Takes a claim back: waits until its last use is over, then forgets it. True when nobody else has a claim to just the
    /// same. For the release of ledger entries, not for destructors: a handle that is forgotten must not keep a thing, and
    /// one that is dropped early must not give away what the ledger still lists.
    pub(crate) fn release(&self, claim: &Arc<Claim>) -> bool {
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

    /// Somebody else than `holder` who has `subject` at this moment, on whatever terms: to be asked at each use that only
    /// a sole holder may make.
    pub(crate) fn other_holder(&self, subject: &Subject, holder: &Holder) -> Option<Conflict> {
        let inner = self.0.lock();
        let held = inner.overlapping(subject).find(|c| c.holder != *holder)?;
        Some(Conflict { subject: held.subject.clone(), holder: held.holder.clone(), mode: held.mode })
    }

    /// Two holders of `subject` that do not agree: there are none (P14).
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

    /// Who reaches any of `registers` by DMA, from another device than theirs.
    pub(crate) fn peers(&self, registers: &Subject) -> Vec<Holder> {
        let inner = self.0.lock();
        inner.overlapping(registers).filter(|c| c.mode == Mode::Peer).map(|c| c.holder.clone()).collect()
    }

    /// Each thing that `holder` has.
    pub(crate) fn held_by(&self, holder: &Holder) -> Vec<Subject> {
        if holder.claim_count().load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let inner = self.0.lock();
        inner.held.values().flatten().filter(|c| c.holder == *holder).map(|c| c.subject.clone()).collect()
    }

    /// Each claim: registers by address, then lines, and so on.
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
    /// Who has `subject`, or some of it, on terms that leave `holder` no room.
    fn conflict(&self, subject: &Subject, holder: &Holder, mode: Mode) -> Option<Conflict> {
        let held = self.overlapping(subject).find(|c| !c.is_compatible_with(holder, mode))?;
        Some(Conflict { subject: held.subject.clone(), holder: held.holder.clone(), mode: held.mode })
    }

    /// The claims to `subject` or, for registers, to any of them.
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
