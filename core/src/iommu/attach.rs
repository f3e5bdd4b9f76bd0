//! Steps 3 and 4 of a binding: claim of the group, and attachment of the device's streams to the owner's domain.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::group::{Membership, Stream};
use super::{Domain, DomainKind, Group, GroupError, GroupHold, OwnerId, joined_late};
use crate::binding::{BindingState, Entry, ResourceError, ResourceKind, UnwindCtx};
use crate::claim::Claim;
use crate::device::Supplier;
use crate::dma::check::Op;
use crate::driver::DmaOwner;
use crate::event::{EventKind, Outcome};
use crate::instrument::FaultPoint;
use crate::promise::Promise;
use crate::system::System;

/// True when the firmware describes the device as behind an IOMMU. The raw properties count, too: a disabled or
/// dangling IOMMU makes no supplier link, which must not make the device untranslated (P10).
pub(crate) fn is_behind_iommu(bound: &BindingState) -> bool {
    bound.desc().suppliers.iter().any(Supplier::translates) || bound.desc().property("iommus").is_some()
}

/// Step 3: claims the group for the binding's owner. A device without an IOMMU has no group, which is an error for a
/// pass-through owner.
pub(crate) fn claim(bound: &BindingState) -> Result<(), ResourceError> {
    let machine = bound.system();
    // Joining may have failed when the device was added, for lack of memory or of a translation context: try again.
    machine.join(bound.device())?;
    if machine.iommus().membership(bound.device()).is_none() {
        if bound.owner() == DmaOwner::PassThrough {
            return Err(GroupError::NoGroup.into());
        }
        let refused = is_behind_iommu(bound) && !machine.policy().untranslated_dma;
        return if refused { Err(GroupError::NotTranslated.into()) } else { Ok(()) };
    }
    bound.check(FaultPoint::GroupClaim)?;
    let (member, claim, owner) = match machine.iommus().claim(bound.device(), bound.holder()) {
        Ok(claimed) => claimed,
        Err(super::ClaimError::Refused(e)) => return Err(e.into()),
        Err(super::ClaimError::Missing(node)) => {
            return Err(GroupError::Incomplete { iommu: machine.node_name(node).into() }.into());
        }
    };
    machine.check_claim(&claim);
    bound.emit(|| EventKind::GroupOwner { group: member.group.id(), owner: owner.to_string() });
    bound.slots.put(Arc::new(member.clone()));
    let iommus = member.group.iommu_names();
    bound.push(0, ClaimEntry { member, claim, iommus }).map(|_| ())
}

struct ClaimEntry {
    member: Membership,
    claim: Arc<Claim>,
    /// Names of the group's IOMMUs. Kept, because the ledger's lock, under which an entry is described, comes after the
    /// group's.
    iommus: String,
}

impl Entry for ClaimEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Group
    }

    fn what(&self) -> String {
        format!("{}", self.member.group.id())
    }

    fn backend(&self) -> String {
        self.iommus.clone()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let machine = ctx.bound.system();
        let group = &self.member.group;
        let detached = ctx.bound.slots.get::<Domain>().is_none();
        machine.promises.check(Promise::OneOwner, detached, || {
            format!("{}: group {} is released while its translation is still set up", ctx.bound.name(), group.id())
        });
        drop(ctx.bound.slots.take::<Membership>());
        let (owner, joined) = machine.iommus().unclaim(group, &self.claim);
        ctx.bound.emit(|| EventKind::GroupOwner { group: group.id(), owner: owner.to_string() });
        joined_late(machine, &**ctx.bound.registry(), joined);
        Outcome::Returned
    }
}

/// Opens the bound device for `owner`: all open devices of a group have the same owner (P7).
pub(crate) fn hold(bound: &BindingState, owner: &OwnerId) -> Result<GroupHold, GroupError> {
    let member = bound.slots.get::<Membership>().ok_or(GroupError::NoGroup)?;
    let held = member.group.hold(owner);
    if let Err(e) = &held {
        let what = format!("opening {} for {}", bound.name(), owner.name());
        bound.emit(|| EventKind::Refused { what, reason: e.to_string() });
    }
    held
}

/// Step 4 with an IOMMU: attaches the device to the owner's domain, which is made for the first binding. `on_detach` is called before it
/// is detached.
pub(crate) fn attach(
    bound: &BindingState,
    member: &Membership,
    on_detach: fn(&BindingState),
) -> Result<Arc<Domain>, ResourceError> {
    let group = &member.group;
    let nodes: Vec<_> = member.streams.iter().map(|s| s.iommu).collect();
    let domain = group.get_domain(bound.owner(), &nodes, || bound.check(FaultPoint::DomainAlloc))?;
    let own = (bound.owner() == DmaOwner::PassThrough) == (domain.kind() == DomainKind::Unmanaged);
    bound.system().promises.check(Promise::OneOwner, own, || {
        format!(
            "{}: is attached to the {} domain of another owner of group {}",
            bound.name(),
            domain.kind(),
            group.id()
        )
    });
    let mut entry = AttachEntry {
        group: Arc::clone(group),
        domain: Arc::clone(&domain),
        streams: Vec::new(),
        claims: Vec::new(),
        iommus: group.iommu_names(),
        on_detach,
    };
    let attached = bound.check(FaultPoint::DomainAttach).and_then(|()| {
        for stream in &member.streams {
            let claim = group.claim_stream(*stream, bound.holder()).map_err(|conflict| {
                bound.refuse(&conflict, "for DMA");
                ResourceError::Held(Box::new(conflict))
            })?;
            bound.system().check_claim(&claim);
            entry.claims.push(claim);
            group.attach_stream(*stream)?;
            entry.streams.push(*stream);
        }
        Ok(())
    });
    if let Err(e) = attached {
        entry.detach(bound.system());
        return Err(e);
    }
    bound.emit(|| EventKind::DomainAttached {
        group: group.id(),
        domain: domain.label().into(),
        kind: domain.kind().to_string(),
    });
    bound.slots.put(Arc::clone(&domain));
    bound.push(0, entry)?;
    Ok(domain)
}

struct AttachEntry {
    group: Arc<Group>,
    domain: Arc<Domain>,
    /// Attached streams.
    streams: Vec<Stream>,
    /// Claim of each attached stream.
    claims: Vec<Arc<Claim>>,
    /// Names of the group's IOMMUs.
    iommus: String,
    /// Ends what works through the domain.
    on_detach: fn(&BindingState),
}

impl AttachEntry {
    /// Attaches the streams to the blocked domain; the owner's domain is dropped with its last user. True when every
    /// stream was blocked.
    fn detach(&self, machine: &System) -> bool {
        let Self { group, domain, streams, claims, .. } = self;
        // Continue after a failure, so that as many streams as possible are blocked.
        let failed = streams.iter().filter(|s| !group.detach_stream(**s)).count();
        if failed > 0 {
            domain.detach_failed();
        }
        group.put_domain(domain);
        for claim in claims {
            machine.release_claim(claim);
        }
        // A stream that could not be detached is handled when the translation is dropped (see `Translation`).
        failed == 0
    }
}

impl Entry for AttachEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Translation
    }

    fn what(&self) -> String {
        self.domain.label().into()
    }

    fn backend(&self) -> String {
        self.iommus.clone()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        (self.on_detach)(ctx.bound);
        let device = &ctx.bound.desc().name;
        ctx.bound.system().check_dma(|| Op::TranslationGone { device: Arc::clone(device) });
        // Flush while the translation still exists: queued and unconfirmed unmaps need its confirmation.
        self.domain.confirm_all_queued(ctx.bound.system());
        self.domain.retry(ctx.bound.system());
        drop(ctx.bound.slots.take::<Domain>());
        let detached = self.detach(ctx.bound.system());
        if self.group.domain().is_none() {
            // The context is disabled and flushed: no unmap waits for it any more.
            let backend = format!("iommu {}", self.domain.label());
            ctx.bound.system().check_dma(|| Op::Confirmed { backend: backend.into(), range: None });
        }
        if detached {
            return Outcome::Returned;
        }
        ctx.bound
            .emit(|| EventKind::Log { text: format!("{}: the IOMMU did not detach the device", self.domain.label()) });
        Outcome::Quarantined
    }
}
