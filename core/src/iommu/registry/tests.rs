//! Devices with streams at several IOMMUs, of which each comes, goes and is bound in any order, beside plain sets; and for each stream
//! what it reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::DefaultHasher;

use proptest::prelude::*;

use super::*;
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::device::RegionKind;
use crate::driver::DmaOwner;
use crate::env::fake::FakeEnv;
use crate::iommu::{Gather, Prot};
use board::{IOMMUS, Mmu, REGIONS, STREAMS, device, device_name, node, table};
use model::Model;

mod board;
mod late;
mod model;

#[derive(Clone, Copy, Debug)]
enum Step {
    Register(usize),
    Unregister(usize),
    Add(usize),
    Remove(usize),
    Bind(usize, bool),
    Unbind(usize),
    SetKind(usize, DomainKind),
}

struct Binding {
    member: Membership,
    claim: Arc<Claim>,
    streams: Vec<Arc<Claim>>,
}

struct World {
    env: Arc<FakeEnv>,
    claims: Arc<Claims>,
    iommus: Iommus,
    mmus: [Option<Arc<Mmu>>; 3],
    /// Each IOMMU that has left.
    gone: Vec<Arc<Mmu>>,
    devices: BTreeMap<usize, Arc<Device>>,
    bindings: BTreeMap<usize, Binding>,
    model: Model,
    /// What the registry and each group have fed to a hasher, and the state that it was in.
    hashes: BTreeMap<u64, String>,
}

/// Pages of direct regions that a domain of this kind maps, of a device.
fn direct(d: usize, kind: DomainKind) -> BTreeSet<u64> {
    let maps = |region: RegionKind| match kind {
        DomainKind::Unmanaged => region == RegionKind::Direct,
        DomainKind::Identity | DomainKind::Blocked => false,
        DomainKind::Strict | DomainKind::Lazy => region.is_direct(),
    };
    REGIONS[d].iter().filter(|(.., kind)| maps(*kind)).flat_map(|(first, last, _)| *first..=*last).collect()
}

fn names(devices: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    devices.into_iter().map(device_name).collect()
}

fn told(devices: &[Arc<str>]) -> BTreeSet<String> {
    devices.iter().map(|name| (**name).into()).collect()
}

impl World {
    fn new() -> Self {
        let claims = Arc::<Claims>::default();
        let iommus = Iommus::new(Arc::clone(&claims));
        let (devices, bindings, hashes) = Default::default();
        let (mmus, gone, model) = Default::default();
        Self { env: FakeEnv::new(), claims, iommus, mmus, gone, devices, bindings, model, hashes }
    }

    fn join(&mut self, d: usize) {
        let device = Arc::clone(&self.devices[&d]);
        let before = self.model.streams.get(&d).cloned().unwrap_or_default();
        self.model.join(d);
        self.mmus.iter().flatten().for_each(|mmu| mmu.cut_off.lock().unwrap().clear());
        let (joined, result) = self.iommus.join(&device, &*self.env);
        assert_eq!(result.is_err(), self.model.apart.contains(&d), "{result:?}");
        let after = self.model.streams.get(&d).into_iter().flatten();
        // What firmware has started goes on without a gap, where nobody else has had the stream.
        let is_others = |s: &(usize, u32)| self.model.streams.iter().any(|(n, own)| *n != d && own.contains(s));
        for stream in after.clone().filter(|s| !direct(d, DomainKind::Strict).is_empty() && !is_others(s)) {
            let cut_off = self.mmus[stream.0].as_ref().unwrap().cut_off.lock().unwrap().contains(&stream.1);
            assert!(!cut_off, "{d} was blocked");
        }
        // Told once of each IOMMU.
        let mut seen = BTreeSet::new();
        let new = after.filter(|s| !before.contains(s) && seen.insert(s.0));
        let new: Vec<(String, u32)> = new.map(|s| (IOMMUS[s.0].into(), s.1)).collect();
        let told: Vec<_> = joined.iter().map(|j| (j.iommu.clone(), j.stream.0)).collect();
        assert_eq!(told, new);
        if let Some(id) = self.model.group_of(d) {
            assert!(joined.iter().all(|j| j.group == id));
        }
    }

    fn bind(&mut self, d: usize, pass_through: bool) {
        let Some(device) = self.devices.get(&d).cloned() else { return };
        if self.bindings.contains_key(&d) {
            return;
        }
        self.join(d);
        let name: Arc<str> = device.name().into();
        let holder = if pass_through { Holder::owner(&name) } else { Holder::new(&name, "driver") };
        let may = self.model.may_bind(d, pass_through);
        let missing = STREAMS[d].iter().map(|s| s.0).find(|i| !self.model.present.contains(i));
        let (member, claim) = match self.iommus.claim(&device, &holder) {
            Ok((member, claim, _)) => (member, claim),
            Err(e) => {
                assert_eq!(may, None);
                // One without any stream has no group to speak of.
                match e {
                    ClaimError::Missing(at) => assert_eq!(Some(at), missing.map(node)),
                    ClaimError::Refused(_) => assert!(missing.is_none() || !self.model.streams.contains_key(&d)),
                }
                return;
            }
        };
        assert_eq!(Some(member.group.id()), may);
        self.model.bind(d, member.group.id(), pass_through);
        let nodes: Vec<_> = member.streams.iter().map(|s| s.iommu).collect();
        let owner = if pass_through { DmaOwner::PassThrough } else { DmaOwner::Kernel };
        let domain = member.group.get_domain(owner, &nodes, || Ok::<(), IommuError>(())).unwrap();
        assert_eq!(domain.kind() == DomainKind::Unmanaged, pass_through);
        let take = |stream: &Stream| {
            member.group.attach_stream(*stream).unwrap();
            member.group.claim_stream(*stream, &holder).unwrap()
        };
        let streams = member.streams.iter().map(take).collect();
        self.bindings.insert(d, Binding { member, claim, streams });
    }

    fn unbind(&mut self, d: usize) {
        let Some(Binding { member, claim, streams }) = self.bindings.remove(&d) else { return };
        let domain = member.group.domain().unwrap();
        for stream in &member.streams {
            assert!(member.group.detach_stream(*stream));
        }
        member.group.put_domain(&domain);
        for claim in &streams {
            self.claims.release(claim);
        }
        let (_, joined) = self.iommus.unclaim(&member.group, &claim);
        let expected = self.model.unbind(d);
        let joined: BTreeSet<_> = joined.iter().map(|device| device.name().into()).collect();
        assert_eq!(joined, names(expected));
    }

    /// P6: its consumers are unbound first.
    fn unregister(&mut self, iommu: usize) {
        let Some(mmu) = self.mmus[iommu].take() else { return };
        for d in (0..STREAMS.len()).filter(|d| STREAMS[*d].iter().any(|s| s.0 == iommu)) {
            self.unbind(d);
        }
        let joined = self.iommus.unregister(node(iommu));
        let joined: BTreeSet<_> = joined.iter().map(|device| device.name().into()).collect();
        assert_eq!(joined, names(self.model.unregister(iommu)));
        for (d, device) in &self.devices {
            if STREAMS[*d].iter().any(|s| s.0 == iommu) {
                *device.not_joined.lock() = None;
                self.model.apart.remove(d);
            }
        }
        mmu.attached.lock().unwrap().clear();
        self.gone.push(mmu);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Register(iommu) if self.mmus[iommu].is_none() => {
                let mmu = Mmu::new(iommu);
                self.mmus[iommu] = Some(Arc::clone(&mmu));
                self.model.present.insert(iommu);
                self.iommus.register(node(iommu), mmu);
                let consumers = (0..STREAMS.len()).filter(|d| STREAMS[*d].iter().any(|s| s.0 == iommu));
                for d in consumers.filter(|d| self.devices.contains_key(d)).collect::<Vec<_>>() {
                    self.join(d);
                }
            }
            Step::Unregister(iommu) => self.unregister(iommu),
            Step::Add(d) if !self.devices.contains_key(&d) => {
                self.devices.insert(d, device(d));
                self.join(d);
            }
            Step::Remove(d) => {
                self.unbind(d);
                if let Some(device) = self.devices.remove(&d) {
                    let joined = self.iommus.leave(&device);
                    let joined: BTreeSet<_> = joined.iter().map(|device| device.name().into()).collect();
                    assert_eq!(joined, names(self.model.leave(d)), "whoever could not join is told");
                    assert!(device.not_joined.lock().is_none());
                }
            }
            Step::Bind(d, pass_through) => self.bind(d, pass_through),
            Step::Unbind(d) => self.unbind(d),
            Step::SetKind(n, kind) => {
                let groups = self.iommus.groups();
                if let Some(group) = groups.get(n % groups.len().max(1)) {
                    let own = self.model.groups.get_mut(&group.id()).unwrap();
                    let set = group.set_kind(kind);
                    assert_eq!(set.is_ok(), !own.is_used(), "{set:?}");
                    if set.is_ok() {
                        own.kind = kind;
                    }
                }
            }
            Step::Register(_) | Step::Add(_) => {}
        }
    }

    fn check(&mut self) {
        self.check_sets();
        self.check_devices();
        self.check_reach();
        self.check_hashes();
    }

    fn check_sets(&self) {
        let groups = self.iommus.groups();
        let ids: Vec<u32> = groups.iter().map(|g| g.id()).collect();
        assert_eq!(ids, self.model.groups.keys().copied().collect::<Vec<_>>());
        for group in &groups {
            let (info, own) = (group.info(), &self.model.groups[&group.id()]);
            assert_eq!((info.id, info.members.len()), (own.id, self.model.members(own.id).len()));
            assert_eq!(told(&info.members), names(self.model.members(own.id)));
            let iommus: BTreeSet<_> = info.iommus.iter().map(|name| &**name).collect();
            assert_eq!(iommus, own.iommus.iter().map(|i| IOMMUS[*i]).collect());
            assert_eq!((info.iommus.len(), info.kind), (own.iommus.len(), own.kind));
            let n = u32::try_from(own.bindings.len()).unwrap();
            let owner = match (n, own.pass_through) {
                (0, _) => Owner::None,
                (_, true) => Owner::PassThrough(n),
                (_, false) => Owner::Kernel(n),
            };
            assert_eq!((info.owner, info.domain.is_some()), (owner, own.is_used()));
            let strict = |d: usize| REGIONS[d].iter().any(|(.., kind)| *kind == RegionKind::Direct);
            if own.pass_through && own.is_used() {
                let opened = group.hold(&crate::iommu::OwnerId::new("guest"));
                assert_eq!(opened.is_err(), self.model.members(own.id).into_iter().any(strict), "P10");
            }
        }
    }

    fn check_devices(&self) {
        for (iommu, name) in IOMMUS.into_iter().enumerate() {
            assert_eq!(self.iommus.is_instance(node(iommu)), self.mmus[iommu].is_some());
            let there: BTreeSet<_> = self.iommus.devices_at(name).iter().map(|d| d.name().into()).collect();
            let at_it = self.model.streams.iter().filter(|(_, own)| own.iter().any(|s| s.0 == iommu));
            assert_eq!(there, names(at_it.map(|(d, _)| *d)));
        }
        for (d, device) in &self.devices {
            assert_eq!(device.not_joined.lock().is_some(), self.model.apart.contains(d), "{d}");
            let own = self.model.streams.get(d);
            let member = self.iommus.membership(device);
            let streams = member.map(|m| m.streams.iter().map(|s| (s.iommu.0 as usize, s.id.0)).collect());
            assert_eq!(streams.as_ref(), own, "{d}");
            let mut seen = BTreeSet::new();
            let at = own.into_iter().flatten().filter(|s| seen.insert(s.0));
            let at: Vec<String> = at.map(|s| IOMMUS[s.0].into()).collect();
            assert_eq!(self.iommus.instances_of(device).iter().map(|i| i.name()).collect::<Vec<String>>(), at);
        }
    }

    /// What each owner maps is reached by all streams of its bindings and by nobody else, and an idle device reaches
    /// what is reserved for it and its neighbours.
    fn check_reach(&self) {
        let page = |id: u32| 0x40 + u64::from(id);
        let groups: Vec<_> = self.iommus.groups().into_iter().filter(|g| g.domain().is_some()).collect();
        for group in &groups {
            let (at, domain) = (page(group.id()) * PAGE_SIZE, group.domain().unwrap());
            domain.translation().map(DeviceAddr(at), PhysAddr(at), PAGE_SIZE, Prot::READ).unwrap();
            for (iommu, mmu) in self.mmus.iter().enumerate().filter_map(|(n, m)| Some((n, m.as_ref()?))) {
                let has = |t: &Arc<board::Table>| t.pages.lock().unwrap().contains(&page(group.id()));
                let own = &self.model.groups[&group.id()];
                let uses = own.bindings.iter().any(|d| STREAMS[*d].iter().any(|s| s.0 == iommu));
                let held = mmu.tables().iter().filter(|t| has(t)).count();
                let most = usize::from(own.iommus.contains(&iommu));
                // Of a pass-through owner all have it, whichever device it has opened first.
                let least = if own.pass_through { most } else { usize::from(uses) };
                assert!((least..=most).contains(&held), "{held} tables of {} have it", IOMMUS[iommu]);
            }
        }
        for mmu in &self.gone {
            let left: usize = mmu.tables().len();
            assert_eq!(left, 0, "P4: an IOMMU that left has tables");
        }
        for (d, own) in &self.model.streams {
            for stream in own {
                self.check_stream(*d, *stream, &page);
            }
        }
        for group in &groups {
            let (at, domain) = (DeviceAddr(page(group.id()) * PAGE_SIZE), group.domain().unwrap());
            let mut gather = Gather::new();
            domain.translation().unmap(at, PAGE_SIZE, &mut gather).unwrap();
            domain.translation().flush(&mut gather).unwrap();
            gather.free_tables();
        }
    }

    fn check_stream(&self, d: usize, stream: (usize, u32), page: &impl Fn(u32) -> u64) {
        let (iommu, id) = stream;
        let mmu = self.mmus[iommu].as_ref().unwrap();
        let translation = Arc::clone(&mmu.attached.lock().unwrap()[&id]);
        let pages = table(&translation).pages.lock().unwrap().clone();
        let sharing: BTreeSet<usize> =
            self.model.streams.iter().filter(|(_, own)| own.contains(&stream)).map(|(d, _)| *d).collect();
        let group = self.model.keys[&model::key(stream)];
        let members = self.model.members(group);
        let at_it = |d: &usize| self.model.streams[d].iter().any(|s| s.0 == iommu);
        let in_it = |s: &(usize, u32)| s.0 == iommu && self.model.keys[&model::key(*s)] == group;
        let here: BTreeSet<usize> =
            members.iter().copied().filter(|d| self.model.streams[d].iter().any(in_it)).collect();
        let report = self.iommus.explain(&translation, DeviceAddr(0));
        let of_stream = Stream { iommu: node(iommu), id: StreamId(id) };
        assert_eq!(told(&self.iommus.explain_stream(of_stream, DeviceAddr(0)).devices), names(sharing.iter().copied()));
        let kind = table(&translation).kind;
        if sharing.iter().any(|d| self.bindings.contains_key(d)) {
            let whole: BTreeSet<u64> = members.iter().flat_map(|d| direct(*d, kind)).chain([page(group)]).collect();
            assert!(pages.is_superset(&whole), "{d} at {}: {pages:?}, not {whole:?}", IOMMUS[iommu]);
            let others = pages.iter().filter(|p| **p >= page(0) && **p != page(group)).count();
            assert_eq!((others, told(&report.devices)), (0, names(here)));
            return;
        }
        if sharing.iter().all(|d| direct(*d, DomainKind::Strict).is_empty()) {
            assert_eq!((kind, pages), (DomainKind::Blocked, BTreeSet::new()), "{d} at {}", IOMMUS[iommu]);
            let all = self.model.streams.keys().copied().filter(at_it);
            assert_eq!(told(&report.devices), names(all), "one blocked domain for all");
            return;
        }
        let expected: BTreeSet<u64> = here.iter().flat_map(|d| direct(*d, DomainKind::Strict)).collect();
        assert_eq!((kind, pages), (DomainKind::Strict, expected), "{d} at {}", IOMMUS[iommu]);
        assert_eq!(told(&report.devices), names(here));
    }

    /// States that differ are hashed as different ones.
    fn check_hashes(&mut self) {
        let mut note = |hash: u64, state: String| {
            let known = self.hashes.entry(hash).or_insert_with(|| state.clone());
            assert_eq!(*known, state);
        };
        let streams: usize = self.model.streams.values().map(Vec::len).sum();
        let mut hasher = DefaultHasher::new();
        self.iommus.hash_state(&mut hasher);
        note(hasher.finish(), format!("{} {} {streams}", self.model.present.len(), self.model.groups.len()));
        for group in self.iommus.groups() {
            let own = &self.model.groups[&group.id()];
            let mut hasher = DefaultHasher::new();
            group.hash_state(&mut hasher);
            let (bound, kind) = (own.bindings.len(), own.kind);
            let members = self.model.members(own.id).len();
            let pass_through = own.is_used() && own.pass_through;
            note(hasher.finish(), format!("{bound} {pass_through} {kind} {members} {}", own.iommus.len()));
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (iommu, device) = (0..IOMMUS.len(), || 0..STREAMS.len());
    let kinds = [DomainKind::Strict, DomainKind::Lazy, DomainKind::Identity];
    prop_oneof![
        3 => iommu.clone().prop_map(Step::Register),
        1 => iommu.prop_map(Step::Unregister),
        4 => device().prop_map(Step::Add),
        1 => device().prop_map(Step::Remove),
        4 => (device(), any::<bool>()).prop_map(|(d, pass_through)| Step::Bind(d, pass_through)),
        2 => device().prop_map(Step::Unbind),
        1 => (0..4_usize, 0..3_usize).prop_map(move |(n, kind)| Step::SetKind(n, kinds[kind])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 2048 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn groups_are_closures_and_each_stream_reaches_what_its_owner_maps(steps in prop::collection::vec(step(), 1..50)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check();
        }
        (0..STREAMS.len()).for_each(|d| world.unbind(d));
        world.check();
        assert!(world.model.apart.is_empty(), "with no owner, all that is connected is one group");
        // In either order: the devices first, or the IOMMUs.
        let devices_first = world.devices.len().is_multiple_of(2);
        let devices = (0..STREAMS.len()).map(Step::Remove);
        let iommus = (0..IOMMUS.len()).map(Step::Unregister);
        let all: Vec<Step> =
            if devices_first { devices.chain(iommus).collect() } else { iommus.chain(devices).collect() };
        for step in all {
            world.take(step);
            world.check();
        }
        assert!(world.iommus.groups().is_empty() && world.iommus.instances().is_empty());
    }
}

/// P6: the group keeps an IOMMU that it does not need any more until it is idle. When that IOMMU goes, too, and comes back, nothing of its
/// life before may be left.
#[test]
fn an_iommu_that_a_group_in_use_has_kept_without_a_stream_leaves_it_all_the_same() {
    for pass_through in [true, false] {
        // Device 3 is at both IOMMUs, device 4 at the one that stays.
        let begin = [Step::Register(1), Step::Register(2), Step::Add(4), Step::Add(3), Step::Bind(3, pass_through)];
        let use_it = [Step::Bind(4, pass_through), Step::Remove(3), Step::Unregister(1)];
        let back = [Step::Register(1), Step::Add(3), Step::Bind(3, pass_through), Step::Unbind(4), Step::Remove(3)];
        let mut world = World::new();
        for step in begin.into_iter().chain(use_it).chain(back) {
            world.take(step);
            world.check();
        }
    }
}

/// P8: an idle device keeps two groups apart, because it has an IOMMU that the domain in use cannot take. When it goes, whoever waits for
/// that is told.
#[test]
fn a_device_that_could_not_join_is_told_when_what_kept_its_groups_apart_has_left() {
    let mut world = World::new();
    // Device 5 connects what device 8 uses with what device 7 connects to the narrow IOMMU.
    let begin = [Step::Register(0), Step::Register(1), Step::Register(2), Step::Add(8), Step::Bind(8, false)];
    for step in begin.into_iter().chain([Step::Add(7), Step::Add(5)]) {
        world.take(step);
        world.check();
    }
    assert_eq!(world.model.apart, BTreeSet::from([5]));
    world.take(Step::Remove(7));
    world.check();
    assert_eq!((world.model.apart.len(), world.model.group_of(5)), (0, world.model.group_of(8)));
}
