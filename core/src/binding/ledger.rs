//! The ledger: what a binding holds, in the order in which it got it.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use super::{Bound, ResourceKind};
use crate::device::Device;
use crate::event::Outcome;
use crate::lifecycle::Quiesced;
use crate::sync::Mutex;

/// Number of a ledger entry: counts up over the life of one binding and is never used twice.
pub(crate) type EntryId = u64;

/// Which release group an entry belongs to; 0 is the binding itself.
pub(crate) type GroupTag = u32;

/// What an entry may know of the way back while it is released.
pub(crate) struct UnwindCtx<'a> {
    /// The binding that ends.
    pub(crate) bound: &'a Bound,
    /// Evidence that the device is quiet, once there is some (P11).
    pub(crate) quiesced: Option<Quiesced>,
}

/// Something that a binding holds and gives back.
///
/// # Implementation safety
///
/// `release` runs once, outside all locks, and must not fail: what cannot be given back safely is moved to quarantine.
pub(crate) trait Entry: Send + Sync {
    /// The kind of thing.
    fn kind(&self) -> ResourceKind;
    /// Which one: an address, a name.
    fn what(&self) -> String;
    /// Who gave it and takes it back.
    fn backend(&self) -> String;
    /// Whether it stands for `device`, as a child of the binding's own.
    fn is_child(&self, device: &Arc<Device>) -> bool {
        let _ = device;
        false
    }
    /// Gives it back.
    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome;
}

struct Slot {
    id: EntryId,
    tag: GroupTag,
    entry: Box<dyn Entry>,
}

#[derive(Default)]
struct Inner {
    last: EntryId,
    closed: bool,
    /// The entry that goes back before all others, wherever it stands.
    release_first: Option<EntryId>,
    slots: Vec<Slot>,
    /// Parent of each release group; group `t` is at `t - 1`.
    parents: Vec<GroupTag>,
}

/// The ledger of one binding.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Inner>);

impl Ledger {
    /// Puts `entry` on top. Once the way back has begun the entry comes back: nothing may be acquired any more.
    pub(crate) fn push(&self, tag: GroupTag, entry: Box<dyn Entry>) -> Result<EntryId, Box<dyn Entry>> {
        let mut inner = self.0.lock();
        if inner.closed {
            return Err(entry);
        }
        Ok(inner.append(tag, entry))
    }

    /// A place for one more entry, to be had before the thing is acquired. `None` once the way back has begun.
    pub(crate) fn reservation(&self) -> Option<Reservation> {
        (!self.0.lock().closed).then_some(Reservation(()))
    }

    /// Puts `entry` on top, in the place that was kept for it.
    pub(crate) fn push_reserved(&self, _: Reservation, tag: GroupTag, entry: Box<dyn Entry>) -> EntryId {
        self.0.lock().append(tag, entry)
    }

    /// Marks the entry that [`pop_first`](Self::pop_first) takes: the driver's data. What the driver acquires later
    /// stands above it, but the data may borrow from that, too, so the data goes first.
    pub(crate) fn set_first_out(&self, id: EntryId) {
        self.0.lock().release_first = Some(id);
    }

    /// Takes the entry that goes back before all others, if there is one.
    pub(crate) fn pop_first(&self) -> Option<(EntryId, Box<dyn Entry>)> {
        let id = self.0.lock().release_first.take()?;
        Some((id, self.take(id)?))
    }

    /// Takes the newest entry off.
    pub(crate) fn pop(&self) -> Option<(EntryId, Box<dyn Entry>)> {
        let slot = self.0.lock().slots.pop()?;
        Some((slot.id, slot.entry))
    }

    /// Number of the newest entry.
    pub(crate) fn newest(&self) -> Option<EntryId> {
        self.0.lock().slots.last().map(|s| s.id)
    }

    /// Registers or an interrupt that were acquired after entry `data` although the ledger had the same already: a driver
    /// that brings its device up again within one binding should use what it has. Other kinds may well be there twice:
    /// DMA mappings, or an action for each of several users.
    pub(crate) fn twice_since(&self, data: EntryId) -> Option<String> {
        let inner = self.0.lock();
        let counts = |s: &&Slot| matches!(s.entry.kind(), ResourceKind::Mmio | ResourceKind::Irq);
        if !inner.slots.iter().rev().take_while(|s| s.id > data).any(|s| counts(&s)) {
            return None;
        }
        let mut known = BTreeSet::new();
        let known_before = |s: &&Slot| !known.insert((s.entry.kind(), s.entry.what())) && s.id > data;
        let again = inner.slots.iter().filter(counts).find(known_before)?;
        Some(format!("{} {}", again.entry.kind().name(), again.entry.what()))
    }

    /// Takes one entry out of the middle, for an early release.
    pub(crate) fn take(&self, id: EntryId) -> Option<Box<dyn Entry>> {
        let mut inner = self.0.lock();
        let at = inner.slots.binary_search_by_key(&id, |s| s.id).ok()?;
        Some(inner.slots.remove(at).entry)
    }

    /// Takes the newest entry of group `tag`, or of a group inside it.
    pub(crate) fn take_newest_of(&self, tag: GroupTag) -> Option<(EntryId, Box<dyn Entry>)> {
        let mut inner = self.0.lock();
        let at = inner.slots.iter().rposition(|s| inner.inside(s.tag, tag))?;
        let slot = inner.slots.remove(at);
        Some((slot.id, slot.entry))
    }

    /// Takes the newest entry for which `picks` says so.
    pub(crate) fn take_where(&self, picks: impl Fn(&dyn Entry) -> bool) -> Option<(EntryId, Box<dyn Entry>)> {
        let mut inner = self.0.lock();
        let at = inner.slots.iter().rposition(|s| picks(&*s.entry))?;
        let slot = inner.slots.remove(at);
        Some((slot.id, slot.entry))
    }

    /// Takes the newest entry of `kind`, whatever stands above it.
    pub(crate) fn take_newest_of_kind(&self, kind: ResourceKind) -> Option<(EntryId, Box<dyn Entry>)> {
        self.take_where(|entry| entry.kind() == kind)
    }

    /// Opens a release group inside `parent`.
    pub(crate) fn open_group(&self, parent: GroupTag) -> GroupTag {
        let mut inner = self.0.lock();
        inner.parents.push(parent);
        inner.parents.len() as GroupTag
    }

    /// Lets nothing on any more: the way back begins.
    pub(crate) fn close(&self) {
        self.0.lock().closed = true;
    }

    /// The way back has begun.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().slots.len()
    }

    /// Feeds the kinds of all entries to `state`, oldest first.
    pub(crate) fn hash_kinds(&self, state: &mut impl Hasher) {
        let inner = self.0.lock();
        inner.slots.len().hash(state);
        inner.slots.iter().for_each(|s| s.entry.kind().hash(state));
    }

    /// Each entry, oldest first: number, kind, what, back-end.
    pub(crate) fn list(&self) -> Vec<(EntryId, &'static str, String, String)> {
        self.0.lock().slots.iter().map(|s| (s.id, s.entry.kind().name(), s.entry.what(), s.entry.backend())).collect()
    }
}

/// Holding a `Reservation` tells you: the ledger takes one more entry from you, even if the way back begins meanwhile. Only a
/// probe, or a user inside the driver's data, has one, and the unwinder waits for both before it empties the ledger.
#[derive(Debug)]
#[must_use = "a seat is for an entry"]
pub(crate) struct Reservation(());

impl Inner {
    fn append(&mut self, tag: GroupTag, entry: Box<dyn Entry>) -> EntryId {
        self.last += 1;
        self.slots.push(Slot { id: self.last, tag, entry });
        self.last
    }

    /// Whether group `tag` is `outer` or lies inside it.
    fn inside(&self, mut tag: GroupTag, outer: GroupTag) -> bool {
        while tag != outer {
            if tag == 0 {
                return false;
            }
            tag = self.parents[tag as usize - 1];
        }
        true
    }
}
