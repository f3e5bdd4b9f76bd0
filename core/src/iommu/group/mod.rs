//! IOMMU groups: sets of devices that IOMMUs cannot isolate from each other.

mod hold;
mod members;
mod reserved;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};

use super::history::MappingHistory;
use super::multi_iommu::MultiIommu;
use super::owner::{Ownership, terms};
use super::regions::{Pages, RegionDomain, Regions};
use super::{Domain, DomainKind, Geometry, GroupError, Iommu, IommuError, Owner, OwnerId, StreamId, Translation};
use crate::addr::DeviceAddr;
use crate::claim::{Claim, Claims, Conflict, Holder, Provider, Subject};
use crate::device::NodeId;
use crate::driver::DmaOwner;
use crate::sync::{LockLevel, Mutex};

pub use hold::GroupHold;

/// One stream of one IOMMU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Stream {
    /// Node of the IOMMU; that of the device itself for an IOMMU that the env supplies for this device alone.
    pub(crate) iommu: NodeId,
    pub(crate) id: StreamId,
}

/// Group and streams of a device, as they were when the group was claimed.
#[derive(Clone)]
pub(crate) struct Membership {
    pub(crate) group: Arc<Group>,
    pub(crate) streams: Vec<Stream>,
}

/// An IOMMU of a group.
#[derive(Clone)]
pub(in crate::iommu) struct Instance {
    pub(in crate::iommu) node: NodeId,
    pub(in crate::iommu) iommu: Arc<dyn Iommu>,
    /// Translation of idle streams, except those of devices with direct regions.
    pub(in crate::iommu) blocked: Arc<dyn Translation>,
    /// Domain of idle streams of devices with direct regions.
    pub(in crate::iommu) region_domain: Option<RegionDomain>,
}

impl Instance {
    /// True when idle streams are attached to `translation`.
    fn serves_idle(&self, translation: &Arc<dyn Translation>) -> bool {
        let region_domain = self.region_domain.as_ref().is_some_and(|r| Arc::ptr_eq(&r.ops, translation));
        region_domain || Arc::ptr_eq(&self.blocked, translation)
    }
}

/// Domain of the current owner.
struct Current {
    domain: Arc<Domain>,
    multi: Arc<MultiIommu>,
    geometry: Geometry,
    /// Direct regions mapped in it.
    mapped_regions: Pages,
}

struct State {
    ownership: Ownership,
    instances: Vec<Instance>,
    members: Vec<Arc<str>>,
    /// Made for the first binding, dropped with the last one.
    current: Option<Current>,
    attached: u32,
    /// Mappings of earlier domains.
    history: MappingHistory,
    /// Number of attachments of each stream: devices may share one.
    users: BTreeMap<Stream, u32>,
    /// Streams without a user that their IOMMU did not detach: they translate through the current domain.
    not_detached: BTreeSet<Stream>,
    /// Reserved regions of the members.
    regions: Regions,
    /// Kind of domain for kernel drivers.
    kind: DomainKind,
    /// Every stream is blocked: the unmaps of the previous pass-through owner are not confirmed, and the next owner's
    /// devices must not reach its memory.
    all_blocked: bool,
}

impl State {
    /// Attaches every stream in use to the translation that `target` returns. False when an IOMMU failed.
    fn attach_all(&self, target: impl Fn(&Instance) -> Option<Arc<dyn Translation>>) -> bool {
        let send = |stream: &Stream| {
            let instance = self.instance(stream.iommu)?;
            instance.iommu.attach(stream.id, &target(instance)?).ok()
        };
        // Continue after a failure, so that as many streams as possible are moved.
        self.users.keys().filter(|stream| send(stream).is_none()).count() == 0
    }

    /// Blocks every stream, also those that were not detached. False when an IOMMU failed.
    fn block_all(&mut self) -> bool {
        let blocked = self.attach_all(|i| Some(Arc::clone(&i.blocked)));
        let mut left = core::mem::take(&mut self.not_detached);
        left.retain(|stream| self.detach(*stream).is_err());
        self.not_detached = left;
        blocked && self.not_detached.is_empty()
    }

    /// Moves a stream without a user out of the domain.
    fn detach(&self, stream: Stream) -> Result<(), IommuError> {
        // An IOMMU that was removed translates nothing any more.
        let Some(i) = self.instance(stream.iommu) else { return Ok(()) };
        i.iommu.attach(stream.id, self.idle_translation(i, stream))
    }

    fn instance(&self, node: NodeId) -> Option<&Instance> {
        self.instances.iter().find(|i| i.node == node)
    }

    /// True when it has no owner and no attachment.
    fn is_idle(&self) -> bool {
        self.ownership.is_free() && self.attached == 0
    }

    fn instance_mut(&mut self, node: NodeId) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|i| i.node == node)
    }

    /// True when streams of `iommu` can be added. The device set of a pass-through owner must not change, nor the
    /// addresses of a domain in use.
    fn can_add(&self, node: NodeId, iommu: &dyn Iommu) -> bool {
        let fits = |c: &Current| self.instance(node).is_some() || iommu.geometry().covers(&c.geometry);
        self.is_idle() || matches!(self.ownership.owner(), Owner::Kernel(_)) && self.current.as_ref().is_none_or(fits)
    }

    /// Domain for a new binding: made if there is none, and extended to IOMMUs that it does not cover yet.
    fn translate(&mut self, kind: DomainKind, nodes: &[NodeId]) -> Result<Arc<Domain>, IommuError> {
        // Once for each, also when firmware lists streams of another IOMMU between two of its own.
        let mut seen = BTreeSet::new();
        let is_new = |n: &&NodeId| seen.insert(**n) && self.current.as_ref().is_none_or(|c| c.multi.at(**n).is_none());
        let parts = nodes.iter().filter(is_new);
        let make = |node: &NodeId| {
            let instance = self.instance(*node).ok_or(IommuError::Dead)?;
            Ok((*node, instance.iommu.domain(kind)?))
        };
        // A region that cannot be mapped is an error for its own device when that is bound.
        let mut mapped_regions = Pages::default();
        let (direct, prot) = (self.regions.direct(kind), self.regions.prot());
        let mut parts = parts.map(make).collect::<Result<Vec<_>, IommuError>>()?.into_iter();
        if self.current.is_none() {
            let (node, ops) = parts.next().ok_or(IommuError::Dead)?;
            let geometries = self.instances.iter().map(|i| i.iommu.geometry());
            let geometry = geometries.reduce(|all, g| all.meet(&g)).ok_or(IommuError::Dead)?;
            let multi = Arc::new(MultiIommu::new(node, ops));
            parts.by_ref().for_each(|(node, ops)| multi.add(node, ops));
            let holes = self.regions.holes(kind);
            let domain = Domain::with_regions(kind, &multi, &geometry, &holes);
            self.current = Some(Current { domain, multi, geometry, mapped_regions: Pages::default() });
        }
        let current = self.current.as_mut().ok_or(IommuError::Dead)?;
        parts.for_each(|(node, ops)| current.multi.add(node, ops));
        // Mapped before any stream is attached, so that DMA that firmware has started continues without a gap.
        for (first, end) in direct.runs() {
            let run = Pages::run(first, end);
            if run.map(prot, |iova, phys, len, prot| current.multi.map_each(iova, phys, len, prot)).is_ok() {
                mapped_regions = mapped_regions.with(&run);
            }
        }
        current.mapped_regions = mapped_regions;
        Ok(Arc::clone(&current.domain))
    }
}

/// IOMMU group: the closure over all streams of each device at all its IOMMUs, and over all devices that an IOMMU
/// cannot isolate from such a stream (P7).
pub struct Group {
    id: u32,
    state: Mutex<State>,
}

/// Snapshot of a group, for reports.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    /// Number, as in `/sys/kernel/iommu_groups`.
    pub id: u32,
    /// Names of its IOMMUs.
    pub iommus: Vec<String>,
    /// Names of the members.
    pub members: Vec<Arc<str>>,
    /// Its owner.
    pub owner: Owner,
    /// The pass-through owner that has devices of it open: its name, and the number of devices.
    pub holder: Option<(Arc<str>, u32)>,
    /// Kind of domain for kernel drivers.
    pub kind: DomainKind,
    /// The domain in use, if any: label, kind, IOVA pages in use.
    pub domain: Option<(String, DomainKind, u64)>,
}

impl Group {
    pub(in crate::iommu) fn new(id: u32, instances: Vec<Instance>, kind: DomainKind, claims: Arc<Claims>) -> Arc<Self> {
        let state = State {
            ownership: Ownership::new(claims),
            instances,
            members: Vec::new(),
            current: None,
            attached: 0,
            history: MappingHistory::default(),
            users: BTreeMap::new(),
            not_detached: BTreeSet::new(),
            regions: Regions::default(),
            kind,
            all_blocked: false,
        };
        Arc::new(Self { id, state: Mutex::new(state).at(LockLevel::Group).nesting() })
    }

    /// Number, as in `/sys/kernel/iommu_groups`.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The IOMMUs that translate for it.
    pub fn iommus(&self) -> Vec<Arc<dyn Iommu>> {
        self.state.lock().instances.iter().map(|i| Arc::clone(&i.iommu)).collect()
    }

    /// Names of its IOMMUs, joined for a report line.
    pub(in crate::iommu) fn iommu_names(&self) -> String {
        let names: Vec<_> = self.iommus().iter().map(|i| i.name()).collect();
        names.join(" + ")
    }

    /// Domain of the current owner.
    pub fn domain(&self) -> Option<Arc<Domain>> {
        self.state.lock().current.as_ref().map(|c| Arc::clone(&c.domain))
    }

    /// Explains `addr` by the mappings of the current domain or of earlier ones: those of `devices`, else of others. True when it is
    /// certain: one device, and its own mapping.
    pub(in crate::iommu) fn explain(&self, addr: DeviceAddr, devices: &[Arc<str>]) -> Option<(String, bool)> {
        let s = self.state.lock();
        let last = |of: Option<&[Arc<str>]>| {
            s.current.as_ref().and_then(|c| c.domain.explain(addr, of)).or_else(|| s.history.explain(addr, of))
        };
        let own = last(Some(devices)).map(|mapping| (mapping, devices.len() == 1));
        own.or_else(|| last(None).map(|mapping| (mapping, false)))
    }

    /// IOMMUs through which a member may have accessed `translation`, if any: `true` when it belongs to the owner's
    /// domain, `false` when idle members are attached to it.
    pub(in crate::iommu) fn match_translation(
        &self,
        translation: &Arc<dyn Translation>,
    ) -> Option<(bool, Vec<NodeId>)> {
        let s = self.state.lock();
        if let Some(node) = s.current.as_ref().and_then(|c| c.multi.node_of(translation)) {
            return Some((true, Vec::from([node])));
        }
        let blocked: Vec<_> = s.instances.iter().filter(|i| i.serves_idle(translation)).map(|i| i.node).collect();
        (!blocked.is_empty()).then_some((false, blocked))
    }

    /// A snapshot for reports.
    pub fn info(&self) -> GroupInfo {
        let s = self.state.lock();
        GroupInfo {
            id: self.id,
            iommus: s.instances.iter().map(|i| i.iommu.name()).collect(),
            members: s.members.clone(),
            owner: s.ownership.owner(),
            holder: s.ownership.holder(),
            kind: s.kind,
            domain: s.current.as_ref().map(|c| {
                let d = &c.domain;
                (d.label().to_string(), d.kind(), d.iova_in_use())
            }),
        }
    }

    /// Feeds owner, number of members and domain to `state`.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        let s = self.state.lock();
        let open = s.ownership.holder().map(|(_, open)| open);
        (s.ownership.owner(), open, s.members.len(), s.instances.len()).hash(state);
        (s.attached, s.users.len(), s.not_detached.len(), s.kind, s.regions.members.len()).hash(state);
        s.current.as_ref().map(|c| (c.domain.kind(), c.domain.iova_in_use())).hash(state);
    }

    /// Sets the kind of domain that kernel drivers get. Refused while the group has an owner (P7): a domain in use is
    /// never changed under its user.
    ///
    /// # Errors
    ///
    /// [`GroupError::BadKind`] for a kind that cannot be the default or that an IOMMU does not support,
    /// [`GroupError::Owned`], [`GroupError::Empty`].
    pub fn set_kind(&self, kind: DomainKind) -> Result<(), GroupError> {
        if matches!(kind, DomainKind::Blocked | DomainKind::Unmanaged) {
            return Err(GroupError::BadKind(kind));
        }
        let mut s = self.state.lock();
        if !s.ownership.is_free() {
            return Err(s.ownership.refusal(self.id));
        }
        if s.members.is_empty() {
            return Err(GroupError::Empty { group: self.id });
        }
        // Made only as a test: a kind that no binding could ever get is refused here, with its name.
        if s.instances.iter().any(|i| matches!(i.iommu.domain(kind), Err(IommuError::Unsupported(_)))) {
            return Err(GroupError::BadKind(kind));
        }
        s.kind = kind;
        Ok(())
    }

    /// Claims the group for one more binding.
    pub(in crate::iommu) fn claim(&self, holder: &Holder) -> Result<(Arc<Claim>, Owner), GroupError> {
        let mut s = self.state.lock();
        let claim = s.ownership.claim(self.id, holder)?;
        Ok((claim, s.ownership.owner()))
    }

    /// Claims a stream of the group.
    pub(in crate::iommu) fn claim_stream(&self, stream: Stream, holder: &Holder) -> Result<Arc<Claim>, Conflict> {
        let s = self.state.lock();
        let name = s.instance(stream.iommu).map_or_else(String::new, |i| i.iommu.name()).into();
        let iommu = Provider { node: stream.iommu, name };
        s.ownership.table().take(&Subject::Stream { iommu, stream: stream.id.0 }, holder, terms(holder))
    }

    /// Releases the claim of a binding.
    pub(in crate::iommu) fn unclaim(&self, claim: &Arc<Claim>) -> Owner {
        let mut s = self.state.lock();
        s.ownership.unclaim(claim);
        s.ownership.owner()
    }

    /// Opens one more device of the group for `id`, until the guard is dropped.
    pub(in crate::iommu) fn hold(self: &Arc<Self>, id: &OwnerId) -> Result<GroupHold, GroupError> {
        let mut s = self.state.lock();
        s.check_pass_through(self.id)?;
        let claim = s.ownership.open(self.id, id)?;
        drop(s);
        Ok(GroupHold::new(Arc::clone(self), id.clone(), claim))
    }

    /// Domain for one more binding of `owner`, over at least the IOMMUs at `nodes`. `made` can refuse that a new one is
    /// made.
    pub(in crate::iommu) fn get_domain<E: From<IommuError>>(
        &self,
        owner: DmaOwner,
        nodes: &[NodeId],
        made: impl FnOnce() -> Result<(), E>,
    ) -> Result<Arc<Domain>, E> {
        let mut s = self.state.lock();
        if s.current.is_none() {
            made()?;
        }
        let kind = match (&s.current, owner) {
            (Some(current), _) => current.domain.kind(),
            (None, DmaOwner::PassThrough) => DomainKind::Unmanaged,
            (None, DmaOwner::Kernel) => s.kind,
        };
        // Maps of a pass-through owner apply to all its devices, independent of the order in which it opens them.
        let all: Vec<_> = s.instances.iter().map(|i| i.node).collect();
        let nodes = if owner == DmaOwner::PassThrough { &all } else { nodes };
        let domain = s.translate(kind, nodes)?;
        s.attached += 1;
        Ok(domain)
    }

    /// Ends the use of the domain by a binding; the domain is dropped with the last one.
    pub(in crate::iommu) fn put_domain(&self, domain: &Domain) {
        let last = {
            let mut s = self.state.lock();
            s.attached -= 1;
            if s.attached == 0 {
                (s.current, s.all_blocked) = (None, false);
                // What was not detached is without a translation from here on, see `Domain::retire`.
                s.not_detached.clear();
                s.history.add(domain.take_history());
            }
            s.attached == 0
        };
        if last {
            domain.retire();
        }
    }

    /// Blocks streams of a device, except those that it shares with another one, without ending its use of the domain.
    pub(crate) fn block(&self, streams: &[Stream]) {
        let s = self.state.lock();
        for stream in streams.iter().filter(|stream| s.users.get(stream) == Some(&1)) {
            if let Some(i) = s.instance(stream.iommu) {
                // A stream that cannot be blocked reaches only mappings of the domain whose memory is still pinned.
                let _ = i.iommu.attach(stream.id, &i.blocked);
            }
        }
    }

    /// Undoes [`block`](Self::block), once the unmaps of the domain are confirmed. False when an IOMMU failed.
    pub(crate) fn unblock(&self, streams: &[Stream]) -> bool {
        let mut s = self.state.lock();
        let Some(multi) = s.current.as_ref().map(|c| Arc::clone(&c.multi)) else { return false };
        if s.all_blocked {
            s.all_blocked = !s.attach_all(|i| multi.at(i.node));
            return !s.all_blocked;
        }
        let attach = |stream: &Stream| {
            let (instance, part) = s.instance(stream.iommu).zip(multi.at(stream.iommu))?;
            instance.iommu.attach(stream.id, &part).ok()
        };
        streams.iter().filter(|stream| s.users.contains_key(stream)).all(|stream| attach(stream).is_some())
    }

    /// True when every stream is blocked because of unconfirmed unmaps of the previous pass-through owner.
    pub(crate) fn is_all_blocked(&self) -> bool {
        self.state.lock().all_blocked
    }

    /// Closes one of the devices of a pass-through owner. With the last one its memory must be unreachable.
    fn close(&self, claim: &Arc<Claim>) {
        let mut s = self.state.lock();
        if s.ownership.is_last(claim) && s.current.as_ref().is_some_and(|c| c.domain.has_unconfirmed()) {
            s.all_blocked = true;
            if !s.block_all() {
                // A device that still reaches its memory must not get another owner: the group stays this owner's as
                // long as the domain exists.
                return;
            }
        }
        s.ownership.close(claim);
    }

    /// Attaches a stream to the owner's domain, for one more user.
    pub(in crate::iommu) fn attach_stream(&self, stream: Stream) -> Result<(), IommuError> {
        let mut s = self.state.lock();
        let instance = s.instance(stream.iommu).ok_or(IommuError::Dead)?;
        let part = s.current.as_ref().and_then(|c| c.multi.at(stream.iommu)).ok_or(IommuError::Dead)?;
        instance.iommu.attach(stream.id, if s.all_blocked { &instance.blocked } else { &part })?;
        *s.users.entry(stream).or_default() += 1;
        s.not_detached.remove(&stream);
        Ok(())
    }

    /// Ends one use of a stream; the last one blocks it. False when the IOMMU failed.
    pub(in crate::iommu) fn detach_stream(&self, stream: Stream) -> bool {
        let mut s = self.state.lock();
        match s.users.get_mut(&stream) {
            Some(users) if *users > 1 => {
                *users -= 1;
                true
            }
            _ => {
                s.users.remove(&stream);
                let detached = s.detach(stream).is_ok();
                if !detached {
                    s.not_detached.insert(stream);
                }
                detached
            }
        }
    }
}

/// Rank of a kind of domain by the accesses that it permits.
const fn permissiveness(kind: DomainKind) -> u32 {
    match kind {
        DomainKind::Blocked => 0,
        DomainKind::Strict | DomainKind::Unmanaged => 1,
        DomainKind::Lazy => 2,
        DomainKind::Identity => 3,
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({}, {})", self.id, self.iommu_names())
    }
}
