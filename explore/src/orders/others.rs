//! Whoever else may come in between two steps.

use bindery::promise::Promise;

use super::breach::Harm;
use super::table::{Claim, Procedure};
use super::translation::{Domain, Ops};
use super::world::{DriverOf, Iommu, Link, Stop, World};
use crate::engine::Kind;

/// Somebody else.
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
    /// Who there is.
    pub(super) fn of(order: &Procedure) -> Vec<Self> {
        let mut others = vec![Self::SupplierUnbind, Self::Claim, Self::SecondWriter];
        // arm32 forces untranslated default domains: there is nothing to change its type from.
        if order.type_file && !order.arch.is_arm32() {
            others.push(Self::TypeWrite);
        }
        others
    }
}

impl World<'_> {
    /// Lets others come in, as many as there are interrupts left.
    pub(super) fn meanwhile(&mut self) -> Result<(), Stop> {
        self.point()?;
        let others = Other::of(self.order);
        loop {
            let answer = self.chooser.choose(Kind::Interrupt, "somebody else", others.len() + 1);
            match answer.checked_sub(1).map(|index| others[index]) {
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
            self.chooser.mark("a supplier waits for its consumer");
            self.tell(|| "  meanwhile: unbind of the IOMMU's driver waits: the disk controller uses it");
            self.now.supplier_waits = true;
            return;
        }
        self.supplier_goes();
    }

    pub(super) fn supplier_goes(&mut self) {
        self.chooser.mark("a supplier goes");
        self.tell(|| "  meanwhile: the IOMMU's driver is unbound: nobody is linked to it");
        self.now.iommu = Iommu::Gone;
        self.now.supplier_waits = false;
        if self.now.link != Link::None {
            self.now.link = Link::Dormant;
        }
    }

    fn type_write(&mut self) {
        let translation = &self.now.translation;
        if !translation.joined || translation.users > 0 || translation.claimed {
            self.chooser.mark("a write to a group's type is refused");
            self.tell(|| "  meanwhile: `identity` is written to the group's type: refused, the group has users");
            return;
        }
        if self.now.iommu != Iommu::There {
            self.tell(|| "  meanwhile: `identity` is written to the group's type: its IOMMU is gone, refused");
            return;
        }
        self.chooser.mark("a group's type changes");
        self.tell(|| "  meanwhile: `identity` is written to the group's type: the default domain is replaced");
        self.now.translation.domain = Domain::Identity;
        self.now.translation.mapped.clear();
        self.set_ops(Ops::Direct, "a write to the group's type");
    }

    fn claim(&mut self) {
        let translation = &self.now.translation;
        let refused = match self.order.claim {
            Claim::NoDriver => self.now.driver != DriverOf::Nobody,
            Claim::NoUser => translation.users > 0 || !matches!(translation.domain, Domain::Default | Domain::Identity),
        };
        if refused || translation.claimed || !translation.joined || self.now.iommu != Iommu::There {
            self.chooser.mark("a claim of the group is refused");
            self.tell(|| "  meanwhile: a guest claims the group: refused, -EPERM or -EBUSY");
            return;
        }
        self.chooser.mark("a group is claimed");
        self.tell(|| "  meanwhile: a guest claims the group through another device in it: granted, all DMA blocked");
        let held = self.dma_held();
        let early = self.breach(Promise::OneOwner, Harm::Theft, "the group is claimed while DMA memory is held", "");
        self.check(!held, early, || "the disk controller still holds buffers in the domain that is taken away".into());
        self.now.translation.claimed = true;
        self.now.translation.domain = Domain::Blocking;
    }

    fn second_writer(&mut self) {
        if self.now.driver != DriverOf::SataRcar {
            self.chooser.mark("a write to unbind is refused");
            self.tell(|| "  meanwhile: a second write to sata_rcar/unbind: not bound to it, -ENODEV");
            return;
        }
        self.chooser.mark("a second writer waits");
        self.tell(|| "  meanwhile: a second write to sata_rcar/unbind: bound to it, now waits for the device's lock");
        self.now.writer_waits = true;
    }
}
