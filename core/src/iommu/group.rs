//! Groups: the devices that an IOMMU cannot keep apart, and who owns them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};

use super::domain::Past;
use super::{Domain, DomainKind, Iommu, IommuError, StreamId, Translation};
use crate::addr::DeviceAddr;
use crate::binding::{Bound, Entry, HoldingKind, ResourceError, WayBack};
use crate::device::SupplierKind;
use crate::dma::check::Op;
use crate::driver::DmaOwner;
use crate::env::Site;
use crate::event::{EventKind, Outcome};
use crate::mutant::Mutant;
use crate::promise::Promise;
use crate::sync::Mutex;

/// Who may use the devices of a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Owner {
    /// Nobody: every member is blocked.
    #[default]
    None,
    /// Kernel drivers, this many bindings.
    Kernel(u32),
    /// One pass-through owner, this many bindings.
    PassThrough(u32),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nobody"),
            Self::Kernel(n) => write!(f, "kernel drivers ({n})"),
            Self::PassThrough(n) => write!(f, "pass-through ({n})"),
        }
    }
}

/// Why a group could not be claimed or changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    /// Somebody else owns it.
    #[error("group {group} is owned by {owner}")]
    Owned {
        /// The group's number.
        group: u32,
        /// Who owns it.
        owner: Owner,
    },
    /// The firmware puts the device behind an IOMMU, but it could not join a group there.
    #[error("the device's IOMMU could not take it in; the policy does not allow untranslated DMA")]
    NotTranslated,
    /// A pass-through owner needs an IOMMU group, and the device has none.
    #[error("the device is in no IOMMU group")]
    NoGroup,
    /// This kind of domain cannot be a default, or the IOMMU cannot make one.
    #[error("a {0} domain cannot be the group's default")]
    BadKind(DomainKind),
    /// The group has no members any more.
    #[error("group {group} has no members")]
    Empty {
        /// The group's number.
        group: u32,
    },
}

/// A device's place in its group.
#[derive(Clone)]
pub(crate) struct Membership {
    pub(crate) group: Arc<Group>,
    pub(crate) streams: Vec<StreamId>,
}

struct State {
    owner: Owner,
    members: Vec<Arc<str>>,
    /// Made for the first binding, dropped with the last.
    domain: Option<Arc<Domain>>,
    attached: u32,
    /// What earlier domains had mapped.
    past: Past,
    /// How many attachments use each stream: devices may share one.
    users: BTreeMap<StreamId, u32>,
    /// What kernel drivers get.
    kind: DomainKind,
}

/// Devices that one IOMMU cannot keep apart.
pub struct Group {
    id: u32,
    iommu: Arc<dyn Iommu>,
    blocked: Arc<dyn Translation>,
    state: Mutex<State>,
}

/// What people may know of a group.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    /// Number, as in `/sys/kernel/iommu_groups`.
    pub id: u32,
    /// The IOMMU instance.
    pub iommu: String,
    /// Names of the members.
    pub members: Vec<Arc<str>>,
    /// Who owns it.
    pub owner: Owner,
    /// The kind of domain that kernel drivers get.
    pub kind: DomainKind,
    /// The domain in use, if any: label, kind, IOVA pages in use.
    pub domain: Option<(String, DomainKind, u64)>,
}

impl Group {
    pub(crate) fn new(id: u32, iommu: Arc<dyn Iommu>, blocked: Arc<dyn Translation>) -> Arc<Self> {
        let state = State {
            owner: Owner::None,
            members: Vec::new(),
            domain: None,
            attached: 0,
            past: Past::default(),
            users: BTreeMap::new(),
            kind: DomainKind::Strict,
        };
        Arc::new(Self { id, iommu, blocked, state: Mutex::new(state) })
    }

    /// Number, as in `/sys/kernel/iommu_groups`.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The instance that translates for it.
    pub fn iommu(&self) -> &Arc<dyn Iommu> {
        &self.iommu
    }

    /// The domain of the present owner.
    pub fn domain(&self) -> Option<Arc<Domain>> {
        self.state.lock().domain.clone()
    }

    /// What is known of `addr`, from the present domain or from earlier ones.
    pub(crate) fn explain(&self, addr: DeviceAddr) -> Option<String> {
        let s = self.state.lock();
        s.domain.as_ref().and_then(|d| d.explain(addr)).or_else(|| s.past.explain(addr))
    }

    /// Whether an access through `translation` may come from a member: `Some(true)` when it is the owner's domain,
    /// `Some(false)` when it is the one in which members are blocked.
    pub(crate) fn goes_through(&self, translation: &Arc<dyn Translation>) -> Option<bool> {
        let s = self.state.lock();
        let owned = s.domain.as_ref().is_some_and(|d| Arc::ptr_eq(d.translation(), translation));
        (owned || Arc::ptr_eq(&self.blocked, translation)).then_some(owned)
    }

    /// A snapshot for people.
    pub fn info(&self) -> GroupInfo {
        let s = self.state.lock();
        GroupInfo {
            id: self.id,
            iommu: self.iommu.name(),
            members: s.members.clone(),
            owner: s.owner,
            kind: s.kind,
            domain: s.domain.as_ref().map(|d| (d.label().to_string(), d.kind(), d.iova_in_use())),
        }
    }

    /// Feeds owner, number of members, and domain to `state`.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        let s = self.state.lock();
        (s.owner, s.members.len(), s.attached, s.users.len(), s.kind).hash(state);
        s.domain.as_ref().map(|d| (d.kind(), d.iova_in_use())).hash(state);
    }

    /// Changes what kernel drivers get from now on. Refused while anybody owns the group (P7): a domain that is in use
    /// is never changed under its user.
    pub fn set_kind(&self, kind: DomainKind) -> Result<(), GroupError> {
        if matches!(kind, DomainKind::Blocked | DomainKind::Unmanaged) {
            return Err(GroupError::BadKind(kind));
        }
        let mut s = self.state.lock();
        if s.owner != Owner::None {
            return Err(GroupError::Owned { group: self.id, owner: s.owner });
        }
        if s.members.is_empty() {
            return Err(GroupError::Empty { group: self.id });
        }
        // Made only to see whether it can be: a kind that no binding could ever get is refused here, where its name is.
        if let Err(IommuError::Unsupported(_)) = self.iommu.domain(kind) {
            return Err(GroupError::BadKind(kind));
        }
        s.kind = kind;
        Ok(())
    }

    /// Takes a device in, blocked. A stream that it shares with a bound device stays with that one's domain.
    pub(crate) fn add(&self, device: &Arc<str>, streams: &[StreamId]) -> Result<(), IommuError> {
        let mut s = self.state.lock();
        for stream in streams.iter().filter(|stream| !s.users.contains_key(stream)) {
            self.iommu.attach(*stream, &self.blocked)?;
        }
        s.members.push(Arc::clone(device));
        Ok(())
    }

    /// Sends a stream through `domain`, for one more user.
    fn use_stream(&self, stream: StreamId, domain: &Domain) -> Result<(), IommuError> {
        let mut s = self.state.lock();
        self.iommu.attach(stream, domain.translation())?;
        *s.users.entry(stream).or_default() += 1;
        Ok(())
    }

    /// Ends one use of a stream; the last one blocks it. False when the IOMMU did not do that.
    fn leave_stream(&self, stream: StreamId) -> bool {
        let mut s = self.state.lock();
        match s.users.get_mut(&stream) {
            Some(users) if *users > 1 => {
                *users -= 1;
                true
            }
            _ => {
                s.users.remove(&stream);
                self.iommu.attach(stream, &self.blocked).is_ok()
            }
        }
    }

    /// Blocks streams of a device that keeps its domain, but for those that it shares with another one.
    pub(crate) fn block(&self, streams: &[StreamId]) {
        let s = self.state.lock();
        for stream in streams.iter().filter(|stream| s.users.get(stream) == Some(&1)) {
            // One that stays on reaches what the domain still remembers, whose memory is pinned.
            let _ = self.iommu.attach(*stream, &self.blocked);
        }
    }

    /// Ends [`block`](Self::block). False when the IOMMU did not do that.
    pub(crate) fn unblock(&self, streams: &[StreamId], domain: &Domain) -> bool {
        let s = self.state.lock();
        let used = |stream: &&StreamId| s.users.contains_key(stream);
        streams.iter().filter(used).all(|stream| self.iommu.attach(*stream, domain.translation()).is_ok())
    }

    pub(crate) fn remove(&self, device: &str) -> bool {
        let mut s = self.state.lock();
        s.members.retain(|m| &**m != device);
        s.members.is_empty()
    }

    /// Counts one more owner. With `shares` an owner of the other kind is no hindrance, which it must be (P7).
    fn claim(&self, owner: DmaOwner, shares: bool) -> Result<Owner, GroupError> {
        let mut s = self.state.lock();
        s.owner = match (s.owner, owner) {
            (Owner::None, DmaOwner::Kernel) => Owner::Kernel(1),
            (Owner::None, DmaOwner::PassThrough) => Owner::PassThrough(1),
            (Owner::Kernel(n), DmaOwner::Kernel) => Owner::Kernel(n + 1),
            (Owner::PassThrough(n), DmaOwner::PassThrough) => Owner::PassThrough(n + 1),
            (_, DmaOwner::PassThrough) if shares => Owner::PassThrough(1),
            (held, _) => return Err(GroupError::Owned { group: self.id, owner: held }),
        };
        Ok(s.owner)
    }

    fn unclaim(&self) -> Owner {
        let mut s = self.state.lock();
        s.owner = match s.owner {
            Owner::Kernel(n) if n > 1 => Owner::Kernel(n - 1),
            Owner::PassThrough(n) if n > 1 => Owner::PassThrough(n - 1),
            _ => Owner::None,
        };
        s.owner
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({}, {})", self.id, self.iommu.name())
    }
}

/// Whether the firmware puts the device behind an IOMMU. The raw properties count, too: an IOMMU that the firmware names
/// but that is disabled or dangling makes no supplier link, and must not make the device untranslated by that (P10).
pub(crate) fn is_behind_iommu(bound: &Bound) -> bool {
    bound.desc().suppliers.iter().any(|s| s.kind == SupplierKind::Iommu)
        || ["iommus", "iommu-map"].iter().any(|p| bound.property(p).is_some())
}

/// Step 3: claims the group for the binding's owner. A device without an IOMMU has no group, which only a kernel driver
/// can live with.
pub(crate) fn claim(bound: &Bound) -> Result<(), ResourceError> {
    // It may have been refused when it came, for want of memory or of a context.
    bound.machine().join(bound.device())?;
    let Some(member) = bound.device().group.lock().clone() else {
        let machine = bound.machine();
        if bound.owner() == DmaOwner::PassThrough {
            return Err(GroupError::NoGroup.into());
        }
        let refused = is_behind_iommu(bound) && !machine.policy().untranslated_dma;
        return if refused { Err(GroupError::NotTranslated.into()) } else { Ok(()) };
    };
    bound.check(Site::GroupClaim)?;
    let shares = bound.machine().is_mutant(Mutant::ClaimNotExclusive);
    let owner = member.group.claim(bound.owner(), shares)?;
    if bound.machine().is_mutant(Mutant::OwnershipLeaked) {
        bound.check(Site::LedgerEntry)?;
    }
    bound.emit(|| EventKind::GroupOwner { group: member.group.id, owner: owner.to_string() });
    bound.push(0, ClaimEntry(member)).map(|_| ())
}

struct ClaimEntry(Membership);

impl Entry for ClaimEntry {
    fn kind(&self) -> HoldingKind {
        HoldingKind::Group
    }

    fn what(&self) -> String {
        format!("{}", self.0.group.id)
    }

    fn backend(&self) -> String {
        self.0.group.iommu.name()
    }

    fn release(self: Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        let group = &self.0.group;
        let detached = way.bound.dma.lock().is_none();
        way.bound.machine().promises.check(Promise::OneOwner, detached, || {
            format!("{}: group {} is let go while its translation is still set up", way.bound.name(), group.id)
        });
        let owner = group.unclaim();
        way.bound.emit(|| EventKind::GroupOwner { group: group.id, owner: owner.to_string() });
        Outcome::Returned
    }
}

/// Step 4, translated: attaches the device to the owner's domain, made for the first binding.
pub(crate) fn attach(bound: &Bound, member: &Membership) -> Result<Arc<Domain>, ResourceError> {
    let group = &member.group;
    let domain = {
        let mut s = group.state.lock();
        let domain = if let Some(d) = &s.domain {
            Arc::clone(d)
        } else {
            bound.check(Site::DomainAlloc)?;
            let kind = if bound.owner() == DmaOwner::PassThrough { DomainKind::Unmanaged } else { s.kind };
            let d = Domain::new(kind, group.iommu.domain(kind)?, &group.iommu.geometry());
            s.domain = Some(Arc::clone(&d));
            d
        };
        s.attached += 1;
        domain
    };
    let own = (bound.owner() == DmaOwner::PassThrough) == (domain.kind() == DomainKind::Unmanaged);
    bound.machine().promises.check(Promise::OneOwner, own, || {
        format!("{}: gets into the {} domain of group {}'s other owner", bound.name(), domain.kind(), group.id)
    });
    let mut entry = AttachEntry { group: Arc::clone(group), domain: Arc::clone(&domain), streams: Vec::new() };
    let attached = bound.check(Site::DomainAttach).and_then(|()| {
        for stream in &member.streams {
            group.use_stream(*stream, &domain)?;
            entry.streams.push(*stream);
        }
        Ok(())
    });
    if let Err(e) = attached {
        entry.detach();
        return Err(e);
    }
    bound.emit(|| EventKind::DomainAttached {
        group: group.id,
        domain: domain.label().into(),
        kind: domain.kind().to_string(),
    });
    *bound.domain.lock() = Some(Arc::clone(&domain));
    bound.push(0, entry)?;
    Ok(domain)
}

struct AttachEntry {
    group: Arc<Group>,
    domain: Arc<Domain>,
    /// Those that are attached.
    streams: Vec<StreamId>,
}

impl AttachEntry {
    /// Back to the blocked domain; the owner's domain goes with its last user. True when every stream was blocked.
    fn detach(&self) -> bool {
        let Self { group, domain, streams } = self;
        // Every one of them, also after one that fails.
        let stuck = streams.iter().filter(|s| !group.leave_stream(**s)).count();
        if stuck > 0 {
            domain.keeps_stream();
        }
        let last = {
            let mut s = group.state.lock();
            s.attached -= 1;
            if s.attached == 0 {
                s.domain = None;
                s.past.add(domain.last_words());
            }
            s.attached == 0
        };
        if last {
            domain.retire();
        }
        // A stream that could not be taken off is the translation's concern when it is dropped (see `Translation`).
        stuck == 0
    }
}

impl Entry for AttachEntry {
    fn kind(&self) -> HoldingKind {
        HoldingKind::Translation
    }

    fn what(&self) -> String {
        self.domain.label().into()
    }

    fn backend(&self) -> String {
        self.group.iommu.name()
    }

    fn release(self: Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        *way.bound.dma.lock() = None;
        let device = &way.bound.desc().name;
        way.bound.machine().check_dma(|| Op::TranslationGone { device: Arc::clone(device) });
        // Whatever waits for confirmation gets it while there is a translation to confirm.
        self.domain.confirm_queue(way.bound.machine());
        self.domain.retry(way.bound.machine());
        *way.bound.domain.lock() = None;
        let detached = self.detach();
        if self.group.domain().is_none() {
            // Its context is off, and what it remembered is flushed: nothing waits for that any more.
            let backend = format!("iommu {}", self.domain.label());
            way.bound.machine().check_dma(|| Op::Confirmed { backend: backend.into() });
        }
        if detached {
            return Outcome::Returned;
        }
        way.bound.emit(|| EventKind::Log {
            text: format!("{}: the IOMMU did not take the device off", self.domain.label()),
        });
        Outcome::Quarantined
    }
}
