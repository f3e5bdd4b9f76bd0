//! Groups of a ledger beside a plain list.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{Entry, EntryId, GroupTag, Ledger, ResourceKind, UnwindCtx};
use crate::event::Outcome;

/// Entry with a number.
struct Numbered(usize);

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

/// What the ledger should hold.
#[derive(Default)]
struct Plain {
    /// Number and group of each entry, oldest first.
    entries: Vec<(usize, GroupTag)>,
    /// The parent of each open group.
    parents: BTreeMap<GroupTag, GroupTag>,
}

impl Plain {
    fn is_inside(&self, mut tag: GroupTag, outer: GroupTag) -> bool {
        while tag != outer {
            match self.parents.get(&tag) {
                Some(parent) => tag = *parent,
                None => return false,
            }
        }
        true
    }

    fn close(&mut self, tag: GroupTag) {
        let Some(&parent) = self.parents.get(&tag) else { return };
        let nested: Vec<_> = self.parents.keys().copied().filter(|group| self.is_inside(*group, tag)).collect();
        for (_, group) in &mut self.entries {
            if nested.contains(group) {
                *group = parent;
            }
        }
        self.parents.retain(|group, _| !nested.contains(group));
    }
}

proptest! {
    /// P3 and P4: what is released with a group, and what is left of it to which other.
    #[test]
    fn groups_are_as_in_a_plain_list(steps in prop::collection::vec((0..6_u8, any::<prop::sample::Index>()), 0..60)) {
        let (ledger, mut plain) = (Ledger::default(), Plain::default());
        // Closed groups as well.
        let mut groups: Vec<GroupTag> = [0].into();
        for (number, (step, index)) in steps.into_iter().enumerate() {
            let group = groups[index.index(groups.len())];
            let is_open = group == 0 || plain.parents.contains_key(&group);
            match step {
                0 if is_open => {
                    let tag = ledger.open_group(group);
                    plain.parents.insert(tag, group);
                    groups.push(tag);
                }
                1 if group != 0 => {
                    ledger.close_group(group);
                    plain.close(group);
                }
                2 => {
                    let taken = ledger.take_newest_of(group, |_| true).map(|(_, entry)| entry.what());
                    let at = plain.entries.iter().rposition(|(_, of)| plain.is_inside(*of, group));
                    prop_assert_eq!(taken, at.map(|at| plain.entries.remove(at).0.to_string()));
                }
                _ => {
                    let pushed: Option<EntryId> = ledger.push(group, Box::new(Numbered(number))).ok();
                    prop_assert_eq!(pushed.is_some(), is_open);
                    plain.entries.extend(is_open.then_some((number, group)));
                }
            }
            for inner in &groups {
                prop_assert_eq!(ledger.is_inside(*inner, group), plain.is_inside(*inner, group));
            }
        }
        while let Some((_, entry)) = ledger.pop() {
            prop_assert_eq!(Some(entry.what()), plain.entries.pop().map(|(number, _)| number.to_string()));
        }
        prop_assert!(plain.entries.is_empty());
    }
}
