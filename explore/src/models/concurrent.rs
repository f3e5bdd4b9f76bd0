//! Concurrent operations between two steps.

use super::breach;
use super::kernel::{Driver, Iommu, Kernel, Link, Stop};
use super::procedure::{Arch, Claim};
use super::translation::{Domain, Ops};
use crate::engine::Kind;

impl Kernel<'_> {
    /// A scheduling point: any number of concurrent operations may run here, as far as the bounds allow.
    pub(super) fn scheduling_point(&mut self) -> Result<(), Stop> {
        self.visit()?;
        let operations: [fn(&mut Self); 4] =
            [Self::supplier_unbind, Self::claim, Self::second_writer, Self::type_write];
        // arm32 forces untranslated default domains: there is nothing to change its type from.
        let writes_type = self.model.type_file && self.model.arch == Arch::Arm64;
        let possible = if writes_type { 4 } else { 3 };
        while let Some(chosen) =
            self.chooser.choose(Kind::Preemption, "concurrent operation", possible + 1).checked_sub(1)
        {
            operations[chosen](self);
        }
        Ok(())
    }

    fn reached(&self, point: &'static str, line: &str) {
        self.chooser.cover(point);
        self.log(|| format!("  meanwhile: {line}"));
    }

    /// The IOMMU's driver is unbound.
    fn supplier_unbind(&mut self) {
        if self.now.iommu != Iommu::There {
            return self.log(|| "  meanwhile: unbind of the IOMMU's driver: it is not bound, -ENODEV");
        }
        if matches!(self.now.link, Link::ConsumerProbe | Link::Active) {
            self.now.supplier_waits = true;
            return self.reached(
                "a supplier waits for its consumer",
                "unbind of the IOMMU's driver waits: the disk controller uses it",
            );
        }
        self.supplier_goes();
    }

    pub(super) fn supplier_goes(&mut self) {
        self.reached("a supplier goes", "the IOMMU's driver is unbound: it has no consumer");
        self.now.iommu = Iommu::Gone;
        self.now.supplier_waits = false;
        if self.now.link != Link::None {
            self.now.link = Link::Dormant;
        }
    }

    /// `identity` is written to the group's `type`.
    fn type_write(&mut self) {
        let translation = &self.now.translation;
        if !translation.joined || translation.users > 0 || translation.claimed {
            return self.reached(
                "a write to a group's type is refused",
                "`identity` is written to the group's type: refused, the group has users",
            );
        }
        if self.now.iommu != Iommu::There {
            return self.log(|| "  meanwhile: `identity` is written to the group's type: its IOMMU is gone, refused");
        }
        self.reached(
            "a group's type changes",
            "`identity` is written to the group's type: the default domain is replaced",
        );
        self.now.translation.domain = Domain::Identity;
        self.now.translation.mapped.clear();
        self.set_ops(Ops::Direct, "a write to the group's type");
    }

    /// The group is claimed for a guest, through another member of it.
    fn claim(&mut self) {
        let translation = &self.now.translation;
        let in_use = match self.model.claim {
            Claim::NoDriver => self.now.driver != Driver::None,
            Claim::NoUser => translation.users > 0 || !matches!(translation.domain, Domain::Default | Domain::Identity),
        };
        if in_use || translation.claimed || !translation.joined || self.now.iommu != Iommu::There {
            return self
                .reached("a claim of the group is refused", "a guest claims the group: refused, -EPERM or -EBUSY");
        }
        self.reached(
            "a group is claimed",
            "a guest claims the group through another device in it: granted, all DMA blocked",
        );
        self.check(!self.holds_translated(), breach::GROUP_CLAIMED_EARLY, || {
            "the disk controller still holds buffers in the domain that is taken away".into()
        });
        self.now.translation.claimed = true;
        self.now.translation.domain = Domain::Blocking;
    }

    /// A second writer to the driver's `unbind` file.
    fn second_writer(&mut self) {
        if self.now.driver != Driver::SataRcar {
            return self.reached(
                "a write to unbind is refused",
                "a second write to sata_rcar/unbind: not bound to it, -ENODEV",
            );
        }
        self.reached(
            "a second writer waits",
            "a second write to sata_rcar/unbind: bound to it, now waits for the device's lock",
        );
        self.now.writer_waits = true;
    }
}
