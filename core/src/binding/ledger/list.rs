//! The entries of a ledger, in slots that are linked in order of acquisition.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Entry, EntryId, GroupTag};

/// Marks the end of a list of slots.
const NONE: u32 = u32::MAX;

/// One entry. A free slot has no entry; `newer` is the next free slot then.
struct Slot {
    number: u64,
    tag: GroupTag,
    older: u32,
    newer: u32,
    entry: Option<Box<dyn Entry>>,
}

/// Entries in order of acquisition. Appending, and removing any entry, cost the same however many there are.
///
/// # Invariants
///
/// From `newest` along `older`, and from `oldest` along `newer`, the same slots with an entry follow each other, by number.
/// Every other slot is in the list of free slots. A number is given once, so an [`EntryId`] whose entry is gone finds nothing,
/// also when its slot has another entry by now.
pub(super) struct EntryList {
    slots: Vec<Slot>,
    last: u64,
    len: usize,
    oldest: u32,
    newest: u32,
    free: u32,
}

impl Default for EntryList {
    fn default() -> Self {
        Self { slots: Vec::new(), last: 0, len: 0, oldest: NONE, newest: NONE, free: NONE }
    }
}

impl EntryList {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends `entry` as the newest.
    ///
    /// # Panics
    ///
    /// At 2^32 - 1 entries.
    pub(super) fn append(&mut self, tag: GroupTag, entry: Box<dyn Entry>) -> EntryId {
        self.last += 1;
        let number = self.last;
        let new = Slot { number, tag, older: self.newest, newer: NONE, entry: Some(entry) };
        let index = if self.free == NONE {
            assert!(self.slots.len() < NONE as usize, "a ledger of 2^32 entries");
            self.slots.push(new);
            (self.slots.len() - 1) as u32
        } else {
            let index = self.free;
            let slot = &mut self.slots[index as usize];
            self.free = slot.newer;
            *slot = new;
            index
        };
        match self.newest {
            NONE => self.oldest = index,
            newest => self.slots[newest as usize].newer = index,
        }
        self.newest = index;
        self.len += 1;
        EntryId { number, slot: index }
    }

    /// Removes the entry `id`, if it is still there.
    pub(super) fn remove(&mut self, id: EntryId) -> Option<Box<dyn Entry>> {
        // The number is checked first: the slot may have another entry by now.
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.number == id.number)?;
        let entry = slot.entry.take()?;
        let (older, newer) = (slot.older, slot.newer);
        slot.newer = self.free;
        self.free = id.slot;
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        self.len -= 1;
        Some(entry)
    }

    /// Moves the entries of `groups` to another group.
    pub(super) fn move_to_group(&mut self, groups: &[GroupTag], to: GroupTag) {
        for slot in self.slots.iter_mut().filter(|slot| groups.contains(&slot.tag)) {
            slot.tag = to;
        }
    }

    pub(super) fn newest(&self) -> Option<EntryId> {
        self.newest_first().next().map(|(id, ..)| id)
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = (EntryId, GroupTag, &dyn Entry)> {
        self.walk(self.newest, |slot| slot.older)
    }

    pub(super) fn oldest_first(&self) -> impl Iterator<Item = (EntryId, GroupTag, &dyn Entry)> {
        self.walk(self.oldest, |slot| slot.newer)
    }

    fn walk(&self, mut at: u32, next: fn(&Slot) -> u32) -> impl Iterator<Item = (EntryId, GroupTag, &dyn Entry)> {
        core::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            let id = EntryId { number: slot.number, slot: at };
            at = next(slot);
            Some((id, slot.tag, slot.entry.as_deref()?))
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::string::{String, ToString};
    use proptest::prelude::*;

    use super::super::UnwindCtx;
    use super::*;
    use crate::binding::ResourceKind;
    use crate::event::Outcome;

    struct Numbered(u64);

    impl Entry for Numbered {
        fn kind(&self) -> ResourceKind {
            ResourceKind::Action
        }
        fn what(&self) -> String {
            self.0.to_string()
        }
        fn backend(&self) -> String {
            String::new()
        }
        fn release(self: Box<Self>, _: &mut UnwindCtx<'_>) -> Outcome {
            Outcome::Returned
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { ProptestConfig::default().cases }, failure_persistence: None, ..ProptestConfig::default()
        })]
        /// P3: the order is that of acquisition, and an id finds its own entry or none, whatever was removed in between.
        #[test]
        fn the_order_agrees_with_a_plain_list(ops in proptest::collection::vec((any::<bool>(), any::<usize>()), 1..200)) {
            let mut slots = EntryList::default();
            let mut oracle: Vec<(EntryId, u64)> = Vec::new();
            let mut gone = Vec::new();
            for (n, (append, at)) in ops.into_iter().enumerate() {
                if append || oracle.is_empty() {
                    oracle.push((slots.append(0, Box::new(Numbered(n as u64))), n as u64));
                } else {
                    let (id, value) = oracle.remove(at % oracle.len());
                    prop_assert_eq!(slots.remove(id).map(|e| e.what()), Some(value.to_string()));
                    gone.push(id);
                }
                prop_assert!(gone.iter().all(|id| slots.remove(*id).is_none()), "an id finds another entry");
                let ids: Vec<_> = oracle.iter().map(|(id, _)| *id).collect();
                prop_assert!(ids.is_sorted());
                prop_assert_eq!(slots.oldest_first().map(|(id, ..)| id).collect::<Vec<_>>(), ids.clone());
                prop_assert_eq!(slots.newest_first().map(|(id, ..)| id).collect::<Vec<_>>(), ids.into_iter().rev().collect::<Vec<_>>());
                prop_assert_eq!(slots.len(), oracle.len());
                prop_assert_eq!(slots.newest(), oracle.last().map(|(id, _)| *id));
            }
        }
    }

    /// A ring needs as many slots as it has entries at once.
    #[test]
    fn slots_are_reused() {
        let mut slots = EntryList::default();
        let mut ids: Vec<_> = (0..64).map(|n| slots.append(0, Box::new(Numbered(n)))).collect();
        for n in 0..1000 {
            assert!(slots.remove(ids.remove(0)).is_some());
            ids.push(slots.append(0, Box::new(Numbered(n))));
        }
        assert_eq!((slots.slots.len(), slots.len()), (64, 64));
    }
}
