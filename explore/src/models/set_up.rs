//! Set-up steps.

use super::breach;
use super::kernel::{Driver, Iommu, Kernel, Link, Managed, Notified};
use super::memory::SECOND_IOVA;
use super::options::DriverVariant;
use super::procedure::{Arch, OpsSet};
use super::step::SetUp;
use super::translation::{Domain, Ops};
use crate::engine::{Kind, Violation};

/// Outcome of a set-up step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Outcome {
    Done,
    Failed,
    /// With `-EPROBE_DEFER`.
    Deferred,
}

/// The ways in which the driver does not get its interrupt.
const IRQ_FAILURES: [(&str, Outcome); 2] = [
    ("devm_request_irq fails", Outcome::Failed),
    ("the interrupt controller is not there, -EPROBE_DEFER", Outcome::Deferred),
];

impl Kernel<'_> {
    /// Runs one set-up step. Only a breach that crashes the kernel is an error.
    pub(super) fn set_up(&mut self, step: SetUp) -> Result<Outcome, Violation> {
        self.chooser.cover(step.coverage_point());
        if step.is_fallible() && self.fails("", step.call()) {
            return Ok(Outcome::Failed);
        }
        match step {
            SetUp::CheckSuppliers => return Ok(self.check_suppliers()),
            SetUp::DevresEmpty => return Ok(self.check_leftovers()),
            SetUp::SetDriver => self.now.driver = Driver::SataRcar,
            SetUp::Pinctrl => self.now.devres.push(Managed::Pins),
            SetUp::DmaConfigure => return Ok(self.dma_configure()),
            SetUp::ClaimGroup => return Ok(self.use_default_domain()),
            SetUp::NotifyBind => self.now.notified = Notified::Bind,
            SetUp::Probe => return Ok(self.probe()),
            SetUp::SysfsAdd | SetUp::Activate | SetUp::PmAttach | SetUp::DevGroups => {
                self.now.done.insert(step);
            }
            SetUp::Bound => self.bound()?,
        }
        Ok(Outcome::Done)
    }

    fn fails(&self, of: &str, call: &'static str) -> bool {
        let fails = self.chooser.fault(call);
        if fails {
            self.log(|| format!("{of}{call} fails"));
        }
        fails
    }

    fn check_suppliers(&mut self) -> Outcome {
        match self.now.link {
            Link::None => Outcome::Done,
            Link::Available => {
                self.now.link = Link::ConsumerProbe;
                Outcome::Done
            }
            Link::Dormant | Link::ConsumerProbe | Link::Active => {
                self.log(|| "a supplier is not there: the probe is deferred");
                Outcome::Deferred
            }
        }
    }

    fn check_leftovers(&mut self) -> Outcome {
        if !self.chooser.fault("an earlier driver left a managed resource") {
            return Outcome::Done;
        }
        if self.model.refuses_leftovers {
            self.log(|| "managed resources are present before probing: -EBUSY, and nothing is undone");
            return Outcome::Failed;
        }
        self.log(|| "managed resources are present before probing: a warning, no more");
        self.now.devres.push(Managed::Leftover);
        Outcome::Done
    }

    fn dma_configure(&mut self) -> Outcome {
        if self.now.iommu != Iommu::There {
            if self.model.swallows_deferral {
                self.chooser.cover("the deferral is swallowed");
                self.log(|| "of_iommu_configure: -517 is turned into -19, the device stays on the direct ops");
                return Outcome::Done;
            }
            self.chooser.cover("the probe is deferred until the IOMMU is there");
            self.log(|| "the IOMMU's driver is not there: -517, the probe is deferred");
            return Outcome::Deferred;
        }
        let joining = !std::mem::replace(&mut self.now.translation.joined, true);
        match self.model.arch {
            Arch::Arm64 if self.now.translation.domain == Domain::Identity => {}
            Arch::Arm64 if joining || self.model.ops_set == OpsSet::AtBinding => {
                self.set_ops(Ops::Iommu, if joining { "joining the group" } else { "dma_configure" });
            }
            Arch::Arm64 => {}
            // Another's domain stays attached; arm32 then runs without a mapping.
            Arch::Arm32 if self.now.translation.claimed => {}
            Arch::Arm32 => {
                self.now.translation.own = true;
                self.now.translation.domain = Domain::Mapping;
                self.set_ops(Ops::ArmIommu, "arch_setup_dma_ops");
            }
            Arch::Arm32Shared => {
                self.now.translation.domain = Domain::Mapping;
                self.set_ops(Ops::ArmIommu, "the IOMMU driver");
            }
        }
        Outcome::Done
    }

    pub(super) fn set_ops(&mut self, ops: Ops, by: &'static str) {
        self.now.translation.ops = ops;
        self.now.translation.ops_set_by = by;
    }

    fn use_default_domain(&mut self) -> Outcome {
        // Where the IOMMU is a supplier, the device is in its group before anything is configured.
        self.now.translation.joined |= self.model.iommu_is_supplier;
        if self.now.translation.claimed {
            self.chooser.cover("a group with an owner is refused to a driver");
            self.log(|| "the group has another owner: -EBUSY");
            return Outcome::Failed;
        }
        self.now.translation.users += u8::from(self.now.translation.joined);
        Outcome::Done
    }

    /// The driver's own probe: each of its calls can fail, and its resources so far are left to the managed list.
    fn probe(&mut self) -> Outcome {
        let mut calls = vec![
            ("devm_kzalloc", Managed::Private),
            ("ata_host_alloc", Managed::Host),
            ("devm_ioremap_resource", Managed::Registers),
        ];
        if self.now.variant == Some(DriverVariant::ManagedRegisterWrite) {
            calls.push(("devm_add_action", Managed::RegisterWrite));
        }
        for (call, resource) in calls {
            if self.fails("probe: ", call) {
                return Outcome::Failed;
            }
            self.now.devres.push(resource);
            self.now.data |= resource == Managed::Host;
        }
        if self.fails("probe: ", "dmam_alloc_coherent") {
            return Outcome::Failed;
        }
        let at = self.now.translation.allocate(&mut self.now.memory);
        let by = self.now.translation.ops;
        self.now.devres.push(Managed::Prd { by, at });
        let space = if by.translates() { "IOVA" } else { "physical address" };
        self.log(|| format!("descriptor table, 2048 bytes: allocated by {by} at {space} {at:#x}"));
        let irq = self.chooser.choose(Kind::Fault, "devm_request_irq", 1 + IRQ_FAILURES.len());
        if let Some((why, outcome)) = irq.checked_sub(1).map(|failure| IRQ_FAILURES[failure]) {
            self.log(|| format!("probe: {why}"));
            return outcome;
        }
        self.now.devres.push(Managed::Interrupt);
        self.now.running = true;
        if self.now.variant == Some(DriverVariant::ForgottenMapping) && by.translates() {
            self.now.translation.mapped.push(SECOND_IOVA);
            self.log(|| format!("a private buffer is mapped at IOVA {SECOND_IOVA:#x}"));
        }
        Outcome::Done
    }

    fn bound(&mut self) -> Result<(), Violation> {
        let translation = &self.now.translation;
        self.require(!translation.claimed, breach::BOUND_IN_CLAIMED_GROUP, || {
            "BUG: a kernel driver is bound in a group that VFIO uses".into()
        })?;
        // Both compare with what the device tree and the administrator ask for: a device behind an IOMMU.
        let translated = translation.ops.translates() || translation.domain == Domain::Identity;
        self.check(translated, breach::UNTRANSLATED, || "the device runs untranslated, and no policy said so".into());
        self.check(translated, breach::ORDER_DECIDES, || {
            "had the IOMMU's driver come first, the device would be translated".into()
        });
        self.now.notified = Notified::Bound;
        if self.now.link == Link::ConsumerProbe {
            self.now.link = Link::Active;
        }
        self.log(|| "bound");
        Ok(())
    }
}
