//! Groups: the devices that IOMMUs cannot keep apart.

mod hold;
mod kept;
mod members;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};

use super::domain::MappingHistory;
use super::joint::Joint;
use super::owner::{Ownership, terms};
use super::regions::{Pages, Regions, Rest};
use super::{Domain, DomainKind, Geometry, GroupError, Iommu, IommuError, Owner, OwnerId, StreamId, Translation};
use crate::addr::DeviceAddr;
use crate::claim::{Claim, Claims, Conflict, Holder, Provider, Subject};
use crate::device::NodeId;
use crate::driver::DmaOwner;
use crate::sync::Mutex;

pub use hold::GroupHold;

/// One stream of one IOMMU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Stream {
    /// The IOMMU's node; that of the device itself when somebody else's IOMMU translates for it.
    pub(crate) iommu: NodeId,
    pub(crate) id: StreamId,
}

/// A device's place in its group, as it was when the group was claimed.
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
    /// Where its streams go while nobody uses them, but for those of devices with direct regions.
    pub(in crate::iommu) blocked: Arc<dyn Translation>,
    /// Where those go.
    pub(in crate::iommu) rest: Option<Rest>,
}

impl Instance {
    /// Whether streams that nobody uses go through `translation`.
    fn is_resting_in(&self, translation: &Arc<dyn Translation>) -> bool {
        let rest = self.rest.as_ref().is_some_and(|r| Arc::ptr_eq(&r.ops, translation));
        rest || Arc::ptr_eq(&self.blocked, translation)
    }
}

/// The domain of the present owner.
struct Current {
    domain: Arc<Domain>,
    joint: Arc<Joint>,
    geometry: Geometry,
    /// Direct regions that are mapped in it.
    kept: Pages,
}

struct State {
    ownership: Ownership,
    instances: Vec<Instance>,
    members: Vec<Arc<str>>,
    /// Made for the first binding, dropped with the last.
    current: Option<Current>,
    attached: u32,
    /// What earlier domains had mapped.
    past: MappingHistory,
    /// How many attachments use each stream: devices may share one.
    users: BTreeMap<Stream, u32>,
    /// What must be mapped, or must not, whoever owns the group.
    regions: Regions,
    /// What kernel drivers get.
    kind: DomainKind,
    /// Every stream is blocked: what the last pass-through owner had mapped is not confirmed to be gone, and must not be
    /// reached by the next one's devices.
    shut: bool,
}

impl State {
    /// Sends every stream in use where `place` says. False when an IOMMU did not do that.
    fn send_all(&self, place: impl Fn(&Instance) -> Option<Arc<dyn Translation>>) -> bool {
        let send = |stream: &Stream| {
            let instance = self.instance(stream.iommu)?;
            instance.iommu.attach(stream.id, &place(instance)?).ok()
        };
        // Every one of them, also after one that fails.
        self.users.keys().filter(|stream| send(stream).is_none()).count() == 0
    }

    fn instance(&self, node: NodeId) -> Option<&Instance> {
        self.instances.iter().find(|i| i.node == node)
    }

    /// Nobody owns it, and nothing of an owner is left.
    fn is_idle(&self) -> bool {
        self.ownership.is_free() && self.attached == 0
    }

    fn instance_mut(&mut self, node: NodeId) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|i| i.node == node)
    }

    /// Whether streams of `iommu` may come in. A pass-through owner's devices stay what they are; a domain in use keeps
    /// its addresses.
    fn may_take(&self, node: NodeId, iommu: &dyn Iommu) -> bool {
        let fits = |c: &Current| self.instance(node).is_some() || iommu.geometry().covers(&c.geometry);
        self.is_idle() || matches!(self.ownership.owner(), Owner::Kernel(_)) && self.current.as_ref().is_none_or(fits)
    }

    /// The translation for new bindings: made, or, for IOMMUs that it does not have yet, grown.
    fn translate(&mut self, kind: DomainKind, nodes: &[NodeId]) -> Result<Arc<Domain>, IommuError> {
        let parts = nodes.iter().filter(|n| self.current.as_ref().is_none_or(|c| c.joint.at(**n).is_none()));
        let make = |node: &NodeId| {
            let instance = self.instance(*node).ok_or(IommuError::Dead)?;
            Ok((*node, instance.iommu.domain(kind)?))
        };
        // Of one that cannot be mapped its own device hears when it is to be bound.
        let mut kept = Pages::default();
        let (direct, prot) = (self.regions.direct(kind), self.regions.prot());
        let mut parts = parts.map(make).collect::<Result<Vec<_>, IommuError>>()?.into_iter();
        if self.current.is_none() {
            let (node, ops) = parts.next().ok_or(IommuError::Dead)?;
            let geometries = self.instances.iter().map(|i| i.iommu.geometry());
            let geometry = geometries.reduce(|all, g| all.meet(&g)).ok_or(IommuError::Dead)?;
            let joint = Arc::new(Joint::new(node, ops));
            parts.by_ref().for_each(|(node, ops)| joint.add(node, ops));
            let holes = self.regions.holes(kind);
            let domain = Domain::with_regions(kind, Arc::<Joint>::clone(&joint), &geometry, &holes);
            self.current = Some(Current { domain, joint, geometry, kept: Pages::default() });
        }
        let current = self.current.as_mut().ok_or(IommuError::Dead)?;
        parts.for_each(|(node, ops)| current.joint.add(node, ops));
        // Before any stream gets there, so that what firmware has started goes on without a gap.
        for (first, end) in direct.runs() {
            let run = Pages::run(first, end);
            if run.map(prot, |iova, phys, len, prot| current.joint.map_each(iova, phys, len, prot)).is_ok() {
                kept = kept.with(&run);
            }
        }
        current.kept = kept;
        Ok(Arc::clone(&current.domain))
    }
}

/// Devices that IOMMUs cannot keep apart: with each device all its streams at all its IOMMUs, and with each stream all
/// devices that its IOMMU cannot tell from it (P7).
pub struct Group {
    id: u32,
    state: Mutex<State>,
}

/// What people may know of a group.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    /// Number, as in `/sys/kernel/iommu_groups`.
    pub id: u32,
    /// Names of its IOMMUs.
    pub iommus: Vec<String>,
    /// Names of the members.
    pub members: Vec<Arc<str>>,
    /// Who owns it.
    pub owner: Owner,
    /// The pass-through owner that has devices of it open: its name, and how many.
    pub holder: Option<(Arc<str>, u32)>,
    /// The kind of domain that kernel drivers get.
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
            past: MappingHistory::default(),
            users: BTreeMap::new(),
            regions: Regions::default(),
            kind,
            shut: false,
        };
        Arc::new(Self { id, state: Mutex::new(state) })
    }

    /// Number, as in `/sys/kernel/iommu_groups`.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The IOMMUs that translate for it.
    pub fn iommus(&self) -> Vec<Arc<dyn Iommu>> {
        self.state.lock().instances.iter().map(|i| Arc::clone(&i.iommu)).collect()
    }

    /// Names of its IOMMUs, as one word for a line.
    pub(in crate::iommu) fn iommu_names(&self) -> String {
        let names: Vec<_> = self.iommus().iter().map(|i| i.name()).collect();
        names.join(" + ")
    }

    /// The domain of the present owner.
    pub fn domain(&self) -> Option<Arc<Domain>> {
        self.state.lock().current.as_ref().map(|c| Arc::clone(&c.domain))
    }

    /// What is known of `addr`, from the present domain or from earlier ones.
    pub(in crate::iommu) fn explain(&self, addr: DeviceAddr) -> Option<String> {
        let s = self.state.lock();
        s.current.as_ref().and_then(|c| c.domain.explain(addr)).or_else(|| s.past.explain(addr))
    }

    /// Whether an access through `translation` may come from a member, and the IOMMUs that it then came through: `true`
    /// when it is of the owner's domain, `false` when members are blocked in it.
    pub(in crate::iommu) fn goes_through(&self, translation: &Arc<dyn Translation>) -> Option<(bool, Vec<NodeId>)> {
        let s = self.state.lock();
        if let Some(node) = s.current.as_ref().and_then(|c| c.joint.node_of(translation)) {
            return Some((true, Vec::from([node])));
        }
        let blocked: Vec<_> = s.instances.iter().filter(|i| i.is_resting_in(translation)).map(|i| i.node).collect();
        (!blocked.is_empty()).then_some((false, blocked))
    }

    /// A snapshot for people.
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

    /// Feeds owner, number of members, and domain to `state`.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        let s = self.state.lock();
        let open = s.ownership.holder().map(|(_, open)| open);
        (s.ownership.owner(), open, s.members.len(), s.instances.len()).hash(state);
        (s.attached, s.users.len(), s.kind, s.regions.members.len()).hash(state);
        s.current.as_ref().map(|c| (c.domain.kind(), c.domain.iova_in_use())).hash(state);
    }

    /// Changes what kernel drivers get from now on. Refused while anybody owns the group (P7): a domain that is in use
    /// is never changed under its user.
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
        // Made only to see whether it can be: a kind that no binding could ever get is refused here, where its name is.
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

    /// Claims one of its streams.
    pub(in crate::iommu) fn claim_stream(&self, stream: Stream, holder: &Holder) -> Result<Arc<Claim>, Conflict> {
        let s = self.state.lock();
        let name = s.instance(stream.iommu).map_or_else(String::new, |i| i.iommu.name()).into();
        let iommu = Provider { node: stream.iommu, name };
        s.ownership.table().take(&Subject::Stream { iommu, stream: stream.id.0 }, holder, terms(holder))
    }

    /// A binding lets go of it.
    pub(in crate::iommu) fn unclaim(&self, claim: &Arc<Claim>) -> Owner {
        let mut s = self.state.lock();
        s.ownership.unclaim(claim);
        s.ownership.owner()
    }

    /// `id` has one more device of the group open, for as long as the guard lives.
    pub(in crate::iommu) fn hold(self: &Arc<Self>, id: &OwnerId) -> Result<GroupHold, GroupError> {
        let mut s = self.state.lock();
        s.may_be_passed(self.id)?;
        let claim = s.ownership.hold(self.id, id)?;
        drop(s);
        Ok(GroupHold::new(Arc::clone(self), id.clone(), claim))
    }

    /// The domain for one more binding of `owner`, which must be able to use the IOMMUs at `nodes`. `made` is asked before
    /// one is made.
    pub(in crate::iommu) fn enter<E: From<IommuError>>(
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
        // What a pass-through owner maps, all its devices reach, whichever it opens first.
        let all: Vec<_> = s.instances.iter().map(|i| i.node).collect();
        let nodes = if owner == DmaOwner::PassThrough { &all } else { nodes };
        let domain = s.translate(kind, nodes)?;
        s.attached += 1;
        Ok(domain)
    }

    /// A binding has left its domain, which goes with the last one.
    pub(in crate::iommu) fn exit(&self, domain: &Domain) {
        let last = {
            let mut s = self.state.lock();
            s.attached -= 1;
            if s.attached == 0 {
                (s.current, s.shut) = (None, false);
                s.past.add(domain.last_words());
            }
            s.attached == 0
        };
        if last {
            domain.retire();
        }
    }

    /// Blocks streams of a device that keeps its domain, but for those that it shares with another one.
    pub(crate) fn block(&self, streams: &[Stream]) {
        let s = self.state.lock();
        for stream in streams.iter().filter(|stream| s.users.get(stream) == Some(&1)) {
            if let Some(i) = s.instance(stream.iommu) {
                // One that stays on reaches what the domain still remembers, whose memory is pinned.
                let _ = i.iommu.attach(stream.id, &i.blocked);
            }
        }
    }

    /// Ends [`block`](Self::block), when what the domain had is confirmed to be gone. False when an IOMMU did not do that.
    pub(crate) fn unblock(&self, streams: &[Stream]) -> bool {
        let mut s = self.state.lock();
        let Some(joint) = s.current.as_ref().map(|c| Arc::clone(&c.joint)) else { return false };
        if s.shut {
            s.shut = !s.send_all(|i| joint.at(i.node));
            return !s.shut;
        }
        let attach = |stream: &Stream| {
            let (instance, part) = s.instance(stream.iommu).zip(joint.at(stream.iommu))?;
            instance.iommu.attach(stream.id, &part).ok()
        };
        streams.iter().filter(|stream| s.users.contains_key(stream)).all(|stream| attach(stream).is_some())
    }

    /// Whether every stream is blocked because of what the last pass-through owner has left.
    pub(crate) fn is_shut(&self) -> bool {
        self.state.lock().shut
    }

    /// A pass-through owner closes one of the group's devices. With the last one its memory must be out of reach.
    fn let_go(&self, claim: &Arc<Claim>) {
        let mut s = self.state.lock();
        if s.ownership.is_last(claim) && s.current.as_ref().is_some_and(|c| c.domain.has_unconfirmed()) {
            s.shut = true;
            if !s.send_all(|i| Some(Arc::clone(&i.blocked))) {
                // Nobody else may have a device that still reaches it: it stays this owner's while the domain lives.
                return;
            }
        }
        s.ownership.let_go(claim);
    }

    /// Sends a stream through the owner's domain, for one more user.
    pub(in crate::iommu) fn use_stream(&self, stream: Stream) -> Result<(), IommuError> {
        let mut s = self.state.lock();
        let instance = s.instance(stream.iommu).ok_or(IommuError::Dead)?;
        let part = s.current.as_ref().and_then(|c| c.joint.at(stream.iommu)).ok_or(IommuError::Dead)?;
        instance.iommu.attach(stream.id, if s.shut { &instance.blocked } else { &part })?;
        *s.users.entry(stream).or_default() += 1;
        Ok(())
    }

    /// Ends one use of a stream; the last one blocks it. False when the IOMMU did not do that.
    pub(in crate::iommu) fn leave_stream(&self, stream: Stream) -> bool {
        let mut s = self.state.lock();
        match s.users.get_mut(&stream) {
            Some(users) if *users > 1 => {
                *users -= 1;
                true
            }
            _ => {
                s.users.remove(&stream);
                // Of an IOMMU that has left, nothing is translated any more.
                s.instance(stream.iommu).is_none_or(|i| i.iommu.attach(stream.id, s.resting(i, stream)).is_ok())
            }
        }
    }
}

/// How little a kind of domain checks.
const fn looseness(kind: DomainKind) -> u32 {
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
