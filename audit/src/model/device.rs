//! A device: what it holds, what it gave back lately, and its lives.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

use super::life::Life;
use super::task::By;
use super::{Mapping, Mark};
use crate::shape::Place;

/// Ranges that are remembered after they were given back.
const REMEMBERED: usize = 1024;
/// Mappings at one address that are searched for the one that is meant. There are many where DMA is direct and one page (of zeros,
/// say) is mapped again and again; behind the IOMMU it takes two CPUs whose events come in another order.
const AT_ONE_ADDRESS: usize = 1024;
/// Lives that are kept of a device. Further ones replace the oldest whose verdict is no worse.
const MOST_LIVES: usize = 1000;

/// Mappings by address.
#[derive(Debug, Default)]
pub(crate) struct Table {
    live: FxHashMap<u64, Mapping>,
    again: FxHashMap<u64, VecDeque<Mapping>>,
}

impl Table {
    pub(super) fn insert(&mut self, key: u64, mapping: Mapping) {
        if let Some(old) = self.live.insert(key, mapping) {
            self.again.entry(key).or_default().push_back(old);
        }
    }

    /// Takes the mapping at `key` out; of several the oldest that fits, by the first of `fits` that any does.
    pub(super) fn remove(&mut self, key: u64, fits: [&dyn Fn(&Mapping) -> bool; 2]) -> Option<Mapping> {
        if !self.again.is_empty()
            && let Some(again) = self.again.get_mut(&key)
        {
            let mut found = None;
            for fits in fits {
                let at = again.iter().take(AT_ONE_ADDRESS).position(fits);
                let current = self.live.get(&key).is_some_and(fits);
                if at.is_some() || current {
                    found = Some(at);
                    break;
                }
            }
            let taken = match found {
                Some(Some(at)) => again.remove(at),
                Some(None) => self.live.insert(key, again.pop_back()?),
                None => again.pop_front(),
            };
            if again.is_empty() {
                self.again.remove(&key);
            }
            return taken;
        }
        self.live.remove(&key)
    }

    pub(super) fn get(&self, key: u64) -> Option<&Mapping> {
        self.live.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut Mapping> {
        self.live.get_mut(&key)
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len() + self.again.values().map(VecDeque::len).sum::<usize>()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.live.values().chain(self.again.values().flatten())
    }

    pub(super) fn drain(&mut self) -> Vec<Mapping> {
        let again = std::mem::take(&mut self.again);
        self.live.drain().map(|(_, mapping)| mapping).chain(again.into_values().flatten()).collect()
    }
}

/// A managed resource.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(super) mark: Mark,
    pub(super) name: Box<str>,
    /// The DMA address of managed memory.
    pub(super) addr: Option<u64>,
    pub(super) by: Option<By>,
    pub(super) key: u64,
    pub(super) hidden: bool,
}

/// Managed resources in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    by_order: BTreeMap<u64, Node>,
    by_key: FxHashMap<u64, Vec<u64>>,
    /// Those that were made larger: their addresses of now are not printed.
    moved: Vec<u64>,
    next: u64,
}

impl Nodes {
    /// The key of a node: its address, or where that is hidden what else is known of it.
    pub(super) fn key(node: Option<u64>, name: &str, size: u64) -> u64 {
        node.unwrap_or_else(|| {
            let mut hasher = FxHasher::default();
            (name, size, "hidden").hash(&mut hasher);
            hasher.finish()
        })
    }

    pub(super) fn add(&mut self, node: Node) {
        self.by_key.entry(node.key).or_default().push(self.next);
        self.by_order.insert(self.next, node);
        self.next += 1;
    }

    /// Takes the newest node with `key` out, with its place in the order. One that is not known may be one that was made larger: the
    /// newest of its name.
    pub(super) fn remove(&mut self, key: u64, name: &str) -> Option<(u64, Node)> {
        let order = self.take_key(key).or_else(|| {
            let named = |order: &u64| self.by_order.get(order).is_some_and(|node| *node.name == *name);
            let at = self.moved.iter().rposition(named)?;
            Some(self.moved.remove(at))
        })?;
        self.by_order.remove(&order).map(|node| (order, node))
    }

    fn take_key(&mut self, key: u64) -> Option<u64> {
        let orders = self.by_key.get_mut(&key)?;
        let order = orders.pop()?;
        if orders.is_empty() {
            self.by_key.remove(&key);
        }
        Some(order)
    }

    /// The node with `key` is replaced by a larger one, which takes its place in the order. The event names the old one only.
    pub(super) fn replace(&mut self, key: u64) {
        if let Some(order) = self.take_key(key) {
            let at = self.moved.partition_point(|other| *other < order);
            self.moved.insert(at, order);
        }
    }

    /// True where the addresses of several of this name are not known.
    pub(super) fn has_moved(&self, name: &str) -> bool {
        self.moved.iter().filter_map(|order| self.by_order.get(order)).any(|node| *node.name == *name)
    }

    pub(super) fn has(&self, key: u64) -> bool {
        self.by_key.contains_key(&key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_order.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.by_order.values()
    }

    pub(super) fn clear(&mut self) {
        self.by_order.clear();
        self.by_key.clear();
        self.moved.clear();
    }
}

/// Memory that was given back.
#[derive(Clone, Debug)]
pub(crate) struct Gone {
    pub(super) mapping: Mapping,
    pub(super) mark: Mark,
    /// The life that held it.
    pub(super) life: u32,
    pub(super) in_release: bool,
    /// Losses that had been seen when it was given back.
    pub(super) epoch: u32,
}

/// Managed resources at the beginning of an unbind.
#[derive(Debug)]
pub(crate) struct Growth {
    /// Numbers by name.
    pub(super) kinds: BTreeMap<Box<str>, u64>,
    /// The beginning of the unbind.
    pub(super) mark: Mark,
}

impl Growth {
    pub(super) fn count(&self) -> u64 {
        self.kinds.values().sum()
    }

    /// True where every kind of `self` is there again in `next`, none is new, none went down, and some grew.
    pub(super) fn grows_into(&self, next: &Self) -> bool {
        self.kinds.len() == next.kinds.len()
            && self.kinds.iter().zip(&next.kinds).all(|(old, new)| old.0 == new.0 && old.1 <= new.1)
            && self.count() < next.count()
    }
}

/// A device.
#[derive(Debug)]
pub struct Device {
    /// Name.
    pub name: Arc<str>,
    /// The machine, if it is not the first whose lines were read.
    pub(super) machine: Option<Arc<str>>,
    pub(crate) live: Table,
    pub(crate) scatter: Table,
    pub(super) nodes: Nodes,
    pub(super) gone: VecDeque<Gone>,
    pub(crate) life: Option<Life>,
    /// Lives that are over.
    pub past: Vec<Life>,
    pub(super) lives: u32,
    pub(super) group: Option<u64>,
    pub(super) backend: Option<(By, Mark, u32)>,
    /// True when the domain may have changed since the last probe.
    pub(super) domain_changed: bool,
    pub(super) deferred: Option<Mark>,
    /// The type of its own domain, as the log says it.
    pub(super) domain_type: Option<(crate::event::DomainType, Mark)>,
    /// Changes of its domain outside of a probe; the type may have been another one between them.
    pub(super) retyped: Vec<Place>,
    /// True after it joined its group, until it is attached to its first domain.
    pub(super) joined: bool,
    /// True once an event showed that coherent memory of it was freed: memory of a pool of its own would leave none.
    pub(super) frees_coherent: bool,
    /// Callbacks of its power management.
    pub(super) slept: u64,
    /// Managed resources at the beginning of each unbind.
    pub(super) growth: Vec<Growth>,
    pub(crate) log: super::log::DeviceLog,
    pub(super) sub_pages: FxHashMap<u64, (u32, u64)>,
    pub(super) shared_pages: u64,
    /// Bounced mappings of the life of now, and the first.
    pub(super) bounced: Option<(u64, Mark)>,
    /// Flushes of cached translations, the newest last: first and last address.
    pub(super) flushes: VecDeque<(u64, u64, Mark)>,
}

impl Device {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            machine: None,
            live: Table::default(),
            scatter: Table::default(),
            nodes: Nodes::default(),
            gone: VecDeque::new(),
            life: None,
            past: Vec::new(),
            lives: 0,
            group: None,
            backend: None,
            domain_changed: false,
            deferred: None,
            domain_type: None,
            retyped: Vec::new(),
            joined: false,
            frees_coherent: false,
            slept: 0,
            growth: Vec::new(),
            log: super::log::DeviceLog::default(),
            sub_pages: FxHashMap::default(),
            shared_pages: 0,
            bounced: None,
            flushes: VecDeque::new(),
        }
    }

    /// The life that `mark` belongs to; one begins with it where there is none.
    pub(super) fn life_at(&mut self, mark: &Mark) -> &mut Life {
        if self.life.is_none() {
            self.lives += 1;
        }
        let number = self.lives;
        let life = self.life.get_or_insert_with(|| Life::new(number, mark.clone()));
        if mark.place > life.last.0 {
            life.last = (mark.place, mark.stamp);
        }
        life
    }

    /// True where its coherent memory may come from a pool of its own, as drivers of platform devices declare: none of it leaves an
    /// event when it is freed.
    pub(super) fn may_have_pool(&self) -> bool {
        !self.frees_coherent && !crate::event::is_bdf(&self.name)
    }

    /// Notes a change of the domain at `place`.
    pub(super) fn retype(&mut self, place: Place) {
        if self.retyped.len() >= REMEMBERED {
            self.retyped.remove(0);
        }
        self.retyped.push(place);
    }

    /// True where the domain was changed between two lines.
    pub(super) fn is_retyped(&self, one: Place, other: Place) -> bool {
        let (from, to) = (one.min(other), one.max(other));
        // Those that were forgotten may lie between.
        self.retyped.iter().any(|place| *place > from && *place < to)
            || self.retyped.len() >= REMEMBERED && self.retyped.first().is_some_and(|first| from < *first)
    }

    /// The life now, or the last one.
    pub(super) fn newest(&mut self) -> Option<&mut Life> {
        self.life.as_mut().or(self.past.last_mut())
    }

    pub(super) fn remember(&mut self, gone: Gone) {
        if self.gone.len() >= REMEMBERED {
            self.gone.pop_front();
        }
        self.gone.push_back(gone);
    }

    pub(super) fn flush(&mut self, start: u64, last: u64, mark: Mark) {
        if self.flushes.len() >= REMEMBERED {
            self.flushes.pop_front();
        }
        self.flushes.push_back((start, last, mark));
    }

    /// Keeps a life that is judged. Where too many are, one that is no worse than another is dropped: the verdict on all stays.
    pub(super) fn keep(&mut self, life: Life) {
        if self.past.len() >= MOST_LIVES {
            let verdict = life.verdict();
            let Some(at) = self.past.iter().position(|past| past.verdict() <= verdict) else { return };
            self.past.remove(at);
        }
        self.past.push(life);
    }
}
