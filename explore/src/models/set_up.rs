//! Set-up steps.

use bindery::promise::Promise;

use super::breach::Harm;
use super::kernel::{DriverOf, Iommu, Kernel, Link, Managed, Notified};
use super::memory::SECOND_IOVA;
use super::options::Habit;
use super::step::SetUp;
use super::table::{Arch, Chosen};
use super::translation::{Domain, Ops};
use crate::engine::{Kind, Violation};

/// Outcome of a set-up step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Went {
    Well,
    Wrong,
    /// With `-EPROBE_DEFER`.
    Deferred,
}

impl Kernel<'_> {
    /// Runs one set-up step. Only a breach that crashes the kernel is an error.
    pub(super) fn set_up(&mut self, step: SetUp) -> Result<Went, Violation> {
        self.chooser.cover(step.mark());
        match step {
            SetUp::CheckSuppliers => return Ok(self.check_suppliers()),
            SetUp::DevresEmpty => return Ok(self.devres_empty()),
            SetUp::SetDriver => self.now.driver = DriverOf::SataRcar,
            SetUp::Pinctrl => {
                if self.fails(step) {
                    return Ok(Went::Wrong);
                }
                self.now.devres.push(Managed::Pins);
            }
            SetUp::DmaConfigure => return Ok(self.dma_configure()),
            SetUp::ClaimGroup => {
                // Where the IOMMU is a supplier, the device is in its group before anything is configured.
                self.now.translation.joined |= self.model.iommu_is_supplier;
                if self.now.translation.claimed {
                    self.chooser.cover("a group with an owner is refused to a driver");
                    self.tell(|| "the group has another owner: -EBUSY");
                    return Ok(Went::Wrong);
                }
                self.now.translation.users += u8::from(self.now.translation.joined);
            }
            SetUp::NotifyBind => self.now.notified = Notified::Bind,
            SetUp::SysfsAdd => {
                if self.fails(step) {
                    return Ok(Went::Wrong);
                }
                self.now.files = true;
            }
            SetUp::Activate => {
                if self.fails(step) {
                    return Ok(Went::Wrong);
                }
                self.now.activated = true;
            }
            SetUp::PmAttach => {
                if self.fails(step) {
                    return Ok(Went::Wrong);
                }
                self.now.power = true;
            }
            SetUp::Probe => return Ok(self.probe()),
            SetUp::DevGroups => {
                if self.fails(step) {
                    return Ok(Went::Wrong);
                }
                self.now.groups = true;
            }
            SetUp::Bound => self.bound()?,
        }
        Ok(Went::Well)
    }

    fn fails(&self, step: SetUp) -> bool {
        let fails = self.chooser.fault(step.call());
        if fails {
            self.tell(|| format!("{} fails", step.call()));
        }
        fails
    }

    fn check_suppliers(&mut self) -> Went {
        match self.now.link {
            Link::None => Went::Well,
            Link::Available => {
                self.now.link = Link::ConsumerProbe;
                Went::Well
            }
            Link::Dormant | Link::ConsumerProbe | Link::Active => {
                self.tell(|| "a supplier is not there: the probe is deferred");
                Went::Deferred
            }
        }
    }

    fn devres_empty(&mut self) -> Went {
        if self.chooser.fault("an earlier driver left a managed resource") {
            if self.model.refuses_leftovers {
                self.tell(|| "managed resources are present before probing: -EBUSY, and nothing is undone");
                return Went::Wrong;
            }
            self.tell(|| "managed resources are present before probing: a warning, no more");
            self.now.devres.push(Managed::Leftover);
        }
        Went::Well
    }

    fn dma_configure(&mut self) -> Went {
        if self.fails(SetUp::DmaConfigure) {
            return Went::Wrong;
        }
        if self.now.iommu != Iommu::There {
            if self.model.swallows_deferral {
                self.chooser.cover("the deferral is swallowed");
                self.tell(|| "of_iommu_configure: -517 is turned into -19, the device stays on the direct ops");
                return Went::Well;
            }
            self.chooser.cover("the probe is deferred until the IOMMU is there");
            self.tell(|| "the IOMMU's driver is not there: -517, the probe is deferred");
            return Went::Deferred;
        }
        let joining = !self.now.translation.joined;
        self.now.translation.joined = true;
        match self.model.arch {
            Arch::Arm64 if self.now.translation.domain == Domain::Identity => {}
            Arch::Arm64 if joining || self.model.chosen == Chosen::AtBinding => {
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
        Went::Well
    }

    pub(super) fn set_ops(&mut self, ops: Ops, by: &'static str) {
        self.now.translation.ops = ops;
        self.now.translation.ops_by = by;
    }

    /// The driver's own probe: each of its calls can fail, and what it got so far is left to the managed list.
    fn probe(&mut self) -> Went {
        let mut calls = vec![
            ("devm_kzalloc", Managed::Private),
            ("ata_host_alloc", Managed::Host),
            ("devm_ioremap_resource", Managed::Registers),
        ];
        if self.now.habit == Some(Habit::ManagedRegisterWrite) {
            calls.push(("devm_add_action", Managed::RegisterWrite));
        }
        for (call, resource) in calls {
            if self.chooser.fault(call) {
                self.tell(|| format!("probe: {call} fails"));
                return Went::Wrong;
            }
            self.now.devres.push(resource);
            self.now.data |= resource == Managed::Host;
        }
        if self.chooser.fault("dmam_alloc_coherent") {
            self.tell(|| "probe: dmam_alloc_coherent fails");
            return Went::Wrong;
        }
        let at = self.now.translation.allocate(&mut self.now.memory);
        let by = self.now.translation.ops;
        self.now.devres.push(Managed::Prd { by, at });
        let space = if by.translates() { "IOVA" } else { "physical address" };
        self.tell(|| format!("descriptor table, 2048 bytes: allocated by {} at {space} {at:#x}", by.name()));
        match self.chooser.choose(Kind::Fault, "devm_request_irq", 3) {
            0 => {}
            1 => {
                self.tell(|| "probe: devm_request_irq fails");
                return Went::Wrong;
            }
            _ => {
                self.tell(|| "probe: the interrupt controller is not there, -EPROBE_DEFER");
                return Went::Deferred;
            }
        }
        self.now.devres.push(Managed::Interrupt);
        self.now.quiesced = false;
        if self.now.habit == Some(Habit::ForgottenMapping) && by.translates() {
            self.now.translation.mapped.push(SECOND_IOVA);
            self.tell(|| format!("a private buffer is mapped at IOVA {SECOND_IOVA:#x}"));
        }
        Went::Well
    }

    fn bound(&mut self) -> Result<(), Violation> {
        let translation = &self.now.translation;
        let outcome =
            self.breach(Promise::OneOwner, Harm::Crash, "bound inside a group that a guest owns", "the claim");
        self.must(!translation.claimed, outcome, || "BUG: a kernel driver is bound in a group that VFIO uses".into())?;
        // Both compare with what the device tree and the administrator ask for: a device behind an IOMMU.
        let translated = translation.ops.translates() || translation.domain == Domain::Identity;
        let silent =
            self.breach(Promise::NoSilentDowngrade, Harm::Exposure, "bound without its IOMMU", "dma_configure");
        self.check(translated, silent, || "the device runs untranslated, and no policy said so".into());
        let model = self.breach(
            Promise::OrderIndependent,
            Harm::Exposure,
            "the back-end depends on who came first",
            "dma_configure",
        );
        self.check(translated, model, || "had the IOMMU's driver come first, the device would be translated".into());
        self.now.notified = Notified::Bound;
        if self.now.link == Link::ConsumerProbe {
            self.now.link = Link::Active;
        }
        self.tell(|| "bound");
        Ok(())
    }
}
