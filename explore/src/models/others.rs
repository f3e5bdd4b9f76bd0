//! Concurrent operations between two steps.

use bindery::promise::Promise;

use super::breach::Harm;
use super::kernel::{DriverOf, Iommu, Kernel, Link, Stop};
use super::table::{Claim, Procedure};
use super::translation::{Domain, Ops};
use crate::engine::Kind;

/// A concurrent operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Other {
    /// The IOMMU's driver is unbound.
    SupplierUnbind,
    /// `identity` is written to the group's `type`.
    TypeWrite,
    /// The group is claimed for a guest, through another member of it.
    Claim,
    /// A second writer to the driver's `unbind` file.
    SecondWriter,
}

impl Other {
    /// Those of a model.
    pub(super) fn of(model: &Procedure) -> Vec<Self> {
        let mut others = vec![Self::SupplierUnbind, Self::Claim, Self::SecondWriter];
        // arm32 forces untranslated default domains: there is nothing to change its type from.
        if model.type_file && !model.arch.is_arm32() {
            others.push(Self::TypeWrite);
        }
        others
    }
}

impl Kernel<'_> {
    /// A scheduling point: any number of concurrent operations may run here, as far as the bounds allow.
    pub(super) fn meanwhile(&mut self) -> Result<(), Stop> {
        self.point()?;
        let others = Other::of(self.model);
        loop {
            let choice = self.chooser.choose(Kind::Preemption, "concurrent operation", others.len() + 1);
            match choice.checked_sub(1).map(|index| others[index]) {
                None => return Ok(()),
                Some(Other::SupplierUnbind) => self.supplier_unbind(),
                Some(Other::TypeWrite) => self.type_write(),
                Some(Other::Claim) => self.claim(),
                Some(Other::SecondWriter) => self.second_writer(),
            }
        }
    }

    fn supplier_unbind(&mut self) {
        if self.now.iommu != Iommu::There {
            self.tell(|| "  meanwhile: unbind of the IOMMU's driver: it is not bound, -ENODEV");
            return;
        }
        if matches!(self.now.link, Link::ConsumerProbe | Link::Active) {
            self.chooser.cover("a supplier waits for its consumer");
            self.tell(|| "  meanwhile: unbind of the IOMMU's driver waits: the disk controller uses it");
            self.now.supplier_waits = true;
            return;
        }
        self.supplier_goes();
    }

    pub(super) fn supplier_goes(&mut self) {
        self.chooser.cover("a supplier goes");
        self.tell(|| "  meanwhile: the IOMMU's driver is unbound: it has no consumer");
        self.now.iommu = Iommu::Gone;
        self.now.supplier_waits = false;
        if self.now.link != Link::None {
            self.now.link = Link::Dormant;
        }
    }

    fn type_write(&mut self) {
        let translation = &self.now.translation;
        if !translation.joined || translation.users > 0 || translation.claimed {
            self.chooser.cover("a write to a group's type is refused");
            self.tell(|| "  meanwhile: `identity` is written to the group's type: refused, the group has users");
            return;
        }
        if self.now.iommu != Iommu::There {
            self.tell(|| "  meanwhile: `identity` is written to the group's type: its IOMMU is gone, refused");
            return;
        }
        self.chooser.cover("a group's type changes");
        self.tell(|| "  meanwhile: `identity` is written to the group's type: the default domain is replaced");
        self.now.translation.domain = Domain::Identity;
        self.now.translation.mapped.clear();
        self.set_ops(Ops::Direct, "a write to the group's type");
    }

    fn claim(&mut self) {
        let translation = &self.now.translation;
        let refused = match self.model.claim {
            Claim::NoDriver => self.now.driver != DriverOf::Nobody,
            Claim::NoUser => translation.users > 0 || !matches!(translation.domain, Domain::Default | Domain::Identity),
        };
        if refused || translation.claimed || !translation.joined || self.now.iommu != Iommu::There {
            self.chooser.cover("a claim of the group is refused");
            self.tell(|| "  meanwhile: a guest claims the group: refused, -EPERM or -EBUSY");
            return;
        }
        self.chooser.cover("a group is claimed");
        self.tell(|| "  meanwhile: a guest claims the group through another device in it: granted, all DMA blocked");
        let held = self.dma_held();
        let early = self.breach(Promise::OneOwner, Harm::Theft, "the group is claimed while DMA memory is held", "");
        self.check(!held, early, || "the disk controller still holds buffers in the domain that is taken away".into());
        self.now.translation.claimed = true;
        self.now.translation.domain = Domain::Blocking;
    }

    fn second_writer(&mut self) {
        if self.now.driver != DriverOf::SataRcar {
            self.chooser.cover("a write to unbind is refused");
            self.tell(|| "  meanwhile: a second write to sata_rcar/unbind: not bound to it, -ENODEV");
            return;
        }
        self.chooser.cover("a second writer waits");
        self.tell(|| "  meanwhile: a second write to sata_rcar/unbind: bound to it, now waits for the device's lock");
        self.now.writer_waits = true;
    }
}
