//! The ledger: the resources of a binding, in order of acquisition.

mod list;
#[cfg(all(test, not(loom)))]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::hash::{Hash, Hasher};

use self::list::EntryList;
use super::{BindingState, ResourceKind};
use crate::device::Device;
use crate::event::Outcome;
use crate::lifecycle::Quiesced;
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Identity of a ledger entry, ordered as entries were acquired.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct EntryId {
    /// Increases over the lifetime of a binding from 1 on, and is never reused.
    number: u64,
    slot: u32,
}

impl EntryId {
    /// Number in events.
    pub(crate) const fn number(self) -> u64 {
        self.number
    }
}

/// Devres group of an entry, never reused within a binding; 0 is the binding itself.
pub(crate) type GroupTag = u64;

/// Context of unwinding, as entries see it while they are released.
pub(crate) struct UnwindCtx<'a> {
    /// The binding that is unwound.
    pub(crate) bound: &'a BindingState,
    /// Proof that the device is quiesced, once there is one (P11).
    pub(crate) quiesced: Option<Quiesced>,
}

/// Resource on a ledger.
///
/// # Implementation safety
///
/// `release` runs once, outside all locks, and must not fail: memory that cannot be freed safely is moved to quarantine.
pub(crate) trait Entry: Any + Send + Sync {
    /// Kind of the resource.
    fn kind(&self) -> ResourceKind;
    /// Description of the resource: an address, a name.
    fn what(&self) -> String;
    /// Back-end that the resource came from and is returned to.
    fn backend(&self) -> String;
    /// Returns true for the entry of the child `device`.
    fn is_child(&self, device: &Arc<Device>) -> bool {
        let _ = device;
        false
    }
    /// Returns true when the entry may be released with its devres group, while the binding continues and handles of the
    /// resource may exist. `quiesced`: the device does not use the resource any more; it is asked after everything else that
    /// decides, since a handle could still publish the resource to the device.
    fn ends_with_group(&self, quiesced: &dyn Fn() -> bool) -> bool {
        let _ = quiesced;
        true
    }
    /// Releases the resource.
    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome;
}

#[derive(Default)]
struct Inner {
    closed: bool,
    /// Entry that is released before all others, whatever its position.
    release_first: Option<EntryId>,
    entries: EntryList,
    /// The open devres groups, each with its parent.
    groups: BTreeMap<GroupTag, GroupTag>,
    last_group: GroupTag,
}

/// The ledger of one binding.
#[derive(Default)]
pub(crate) struct Ledger {
    inner: SpinLock<Inner>,
    /// True once it is closed, to be read without the lock.
    closed: AtomicBool,
}

impl Ledger {
    /// Appends `entry`.
    ///
    /// # Errors
    ///
    /// The entry itself once the ledger is closed, or the group was released: nothing may be acquired any more.
    pub(crate) fn push(&self, tag: GroupTag, entry: Box<dyn Entry>) -> Result<EntryId, Box<dyn Entry>> {
        let mut inner = self.inner.lock();
        if inner.closed || !inner.is_open(tag) {
            return Err(entry);
        }
        Ok(inner.append(tag, entry))
    }

    /// Reserves one more entry, before its resource is acquired. `None` once the ledger is closed.
    pub(crate) fn reservation(&self) -> Option<Reservation> {
        (!self.inner.lock().closed).then_some(Reservation(()))
    }

    /// Appends `entry` under its reservation, even if the ledger was closed meanwhile. The entry of a group that was
    /// released belongs to the binding.
    pub(crate) fn push_reserved(&self, _: Reservation, tag: GroupTag, entry: Box<dyn Entry>) -> EntryId {
        let mut inner = self.inner.lock();
        let tag = if inner.is_open(tag) { tag } else { 0 };
        inner.append(tag, entry)
    }

    /// Marks the entry that [`pop_first`](Self::pop_first) takes: the driver data. It may borrow from resources acquired
    /// after it, so it is released before them.
    pub(crate) fn set_release_first(&self, id: EntryId) {
        self.inner.lock().release_first = Some(id);
    }

    /// Removes the entry that is released before all others, if there is one.
    pub(crate) fn pop_first(&self) -> Option<(EntryId, Box<dyn Entry>)> {
        let id = self.inner.lock().release_first.take()?;
        Some((id, self.take(id)?))
    }

    /// Removes the newest entry.
    pub(crate) fn pop(&self) -> Option<(EntryId, Box<dyn Entry>)> {
        let mut inner = self.inner.lock();
        let newest = inner.entries.newest()?;
        Some((newest, inner.entries.remove(newest)?))
    }

    /// Number of the newest entry.
    pub(crate) fn newest(&self) -> Option<EntryId> {
        self.inner.lock().entries.newest()
    }

    /// Describes registers or an interrupt acquired after entry `data` although the ledger already held them: a driver
    /// that re-initialises its device within one binding should reuse them. Other kinds may legitimately occur twice: DMA
    /// mappings, or an action for each of several users.
    pub(crate) fn twice_since(&self, data: EntryId) -> Option<String> {
        let inner = self.inner.lock();
        let counts = |entry: &dyn Entry| matches!(entry.kind(), ResourceKind::Mmio | ResourceKind::Irq);
        if !inner.entries.newest_first().take_while(|(id, ..)| *id > data).any(|(.., entry)| counts(entry)) {
            return None;
        }
        let mut known = BTreeSet::new();
        let counted = inner.entries.oldest_first().filter(|(.., entry)| counts(*entry));
        let mut keyed = counted.map(|(id, _, entry)| (id, entry.kind(), entry.what()));
        let (_, kind, what) = keyed.find(|(id, kind, what)| !known.insert((*kind, what.clone())) && *id > data)?;
        Some(format!("{} {what}", kind.name()))
    }

    /// Removes the entry `id`, for an early release.
    pub(crate) fn take(&self, id: EntryId) -> Option<Box<dyn Entry>> {
        self.inner.lock().entries.remove(id)
    }

    /// Removes the newest entry of group `tag` or of a group nested in it that `picks` selects.
    pub(crate) fn take_newest_of(
        &self,
        tag: GroupTag,
        picks: impl Fn(&dyn Entry) -> bool,
    ) -> Option<(EntryId, Box<dyn Entry>)> {
        let mut inner = self.inner.lock();
        let picked = |(_, of, entry): &(EntryId, GroupTag, &dyn Entry)| inner.inside(*of, tag) && picks(*entry);
        let (id, ..) = inner.entries.newest_first().find(picked)?;
        Some((id, inner.entries.remove(id)?))
    }

    /// Removes the newest entry that `picks` selects.
    pub(crate) fn take_where(&self, picks: impl Fn(&dyn Entry) -> bool) -> Option<(EntryId, Box<dyn Entry>)> {
        let mut inner = self.inner.lock();
        let (id, ..) = inner.entries.newest_first().find(|(.., entry)| picks(*entry))?;
        Some((id, inner.entries.remove(id)?))
    }

    /// Removes the newest entry of `kind`, even if it is not the newest of all.
    pub(crate) fn take_newest_of_kind(&self, kind: ResourceKind) -> Option<(EntryId, Box<dyn Entry>)> {
        self.take_where(|entry| entry.kind() == kind)
    }

    /// Opens a devres group nested in `parent`.
    pub(crate) fn open_group(&self, parent: GroupTag) -> GroupTag {
        let mut inner = self.inner.lock();
        inner.last_group += 1;
        let tag = inner.last_group;
        inner.groups.insert(tag, parent);
        tag
    }

    /// True when group `tag` is `outer`, or nested in it.
    pub(crate) fn is_inside(&self, tag: GroupTag, outer: GroupTag) -> bool {
        self.inner.lock().inside(tag, outer)
    }

    /// Closes group `tag` and the groups nested in it. Entries that are left belong to its parent.
    pub(crate) fn close_group(&self, tag: GroupTag) {
        let mut inner = self.inner.lock();
        let Some(&parent) = inner.groups.get(&tag) else { return };
        let nested: Vec<_> = inner.groups.keys().copied().filter(|group| inner.inside(*group, tag)).collect();
        inner.entries.move_to_group(&nested, parent);
        for group in nested {
            inner.groups.remove(&group);
        }
    }

    /// Closes the ledger at the start of unwinding: later pushes are refused.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        self.closed.store(true, Ordering::Release);
    }

    /// Returns true once unwinding has begun.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }

    /// Feeds the kinds of all entries to `state`, oldest first.
    pub(crate) fn hash_kinds(&self, state: &mut impl Hasher) {
        let inner = self.inner.lock();
        inner.entries.len().hash(state);
        inner.entries.oldest_first().for_each(|(.., entry)| entry.kind().hash(state));
    }

    /// All entries, oldest first: number, kind, description, back-end.
    pub(crate) fn list(&self) -> Vec<(u64, &'static str, String, String)> {
        let inner = self.inner.lock();
        let shown = |(id, _, entry): (EntryId, GroupTag, &dyn Entry)| {
            (id.number, entry.kind().name(), entry.what(), entry.backend())
        };
        inner.entries.oldest_first().map(shown).collect()
    }
}

/// Proof that the ledger accepts one more entry, even if unwinding begins meanwhile. Only a probe or an active user of the
/// driver data holds one, and the unwinder waits for both before it empties the ledger.
#[derive(Debug)]
#[must_use = "a reservation is for one entry"]
pub(crate) struct Reservation(());

impl Inner {
    fn append(&mut self, tag: GroupTag, entry: Box<dyn Entry>) -> EntryId {
        self.entries.append(tag, entry)
    }

    /// Returns true when group `tag` is `outer` or nested in it.
    fn inside(&self, mut tag: GroupTag, outer: GroupTag) -> bool {
        while tag != outer {
            let Some(parent) = self.groups.get(&tag) else { return false };
            tag = *parent;
        }
        true
    }

    /// Returns true for the binding itself, and for a group that was not released.
    fn is_open(&self, tag: GroupTag) -> bool {
        tag == 0 || self.groups.contains_key(&tag)
    }
}
