//! Tear-down steps.

use super::breach::{self, Harm};
use super::kernel::{Driver, Iommu, Kernel, Link, Managed, Notified, Stop};
use super::memory::{FIRST_IOVA, SECOND_IOVA};
use super::options::DriverVariant;
use super::procedure::{Arch, OpsSet};
use super::step::{SetUp, TearDown};
use super::translation::{Domain, Ops, plain};
use crate::engine::Violation;

impl Kernel<'_> {
    /// Runs one tear-down step, except [`TearDown::Devres`], between whose entries there are scheduling points.
    pub(super) fn tear_down_step(&mut self, step: TearDown) -> Result<(), Violation> {
        match step {
            TearDown::SysfsRemove | TearDown::RemoveGroups | TearDown::PmDetach | TearDown::Dismiss => {
                self.now.done.retain(|done| done.undone_by() != Some(step));
            }
            TearDown::NotifyUnbind => self.now.notified = Notified::Unbind,
            TearDown::NotifyNotBound | TearDown::NotifyUnbound => self.notify_end(step),
            TearDown::Remove => self.remove(),
            TearDown::DevresGroup => self.devres_group(),
            TearDown::Devres => {}
            TearDown::Teardown => self.tear_translation_down()?,
            TearDown::ClearDriver => self.now.driver = Driver::None,
            TearDown::ClearData => self.now.data = false,
            TearDown::ReleaseLinks => {
                if matches!(self.now.link, Link::ConsumerProbe | Link::Active) {
                    self.now.link = if self.now.iommu == Iommu::There { Link::Available } else { Link::Dormant };
                }
            }
        }
        Ok(())
    }

    fn notify_end(&mut self, step: TearDown) {
        let (call, held) = (step.call(), self.now.devres.len());
        self.check(held == 0, breach::ANNOUNCED_EARLY.after(call), || {
            format!("whoever listens hears {call}, and {held} managed resources are still held")
        });
        let begun = self.now.notified != Notified::Nothing;
        self.check(begun, breach::ANNOUNCED_UNBEGUN.after(call), || {
            format!("whoever listens hears {call} and never heard BIND_DRIVER")
        });
        self.now.notified = Notified::Nothing;
    }

    fn remove(&mut self) {
        self.now.running = false;
        if !self.model.data_outlives {
            self.now.data = false;
        }
        if self.now.variant == Some(DriverVariant::DetachesItself) && self.now.translation.own {
            self.log(|| "remove(): the driver detaches the device from its mapping");
            self.detach_from_mapping("the driver's own detach");
        }
    }

    fn devres_group(&mut self) {
        self.now.translation.users = self.now.translation.users.saturating_sub(1);
        self.check(!self.holds_translated(), breach::GROUP_RELEASED_EARLY, || {
            "the group counts no user any more, and the managed descriptor table is still to be freed".into()
        });
    }

    /// Returns true while managed DMA memory of a translated device is still to be given back.
    pub(super) fn holds_translated(&self) -> bool {
        self.now.devres.iter().any(|entry| matches!(entry, Managed::Prd { by, .. } if by.translates()))
    }

    fn tear_translation_down(&mut self) -> Result<(), Violation> {
        let translation = &self.now.translation;
        match (self.model.arch, self.model.ops_set) {
            (Arch::Arm64, OpsSet::AtBinding) if translation.ops != Ops::Direct => {
                self.set_ops(Ops::Direct, TearDown::Teardown.call());
                self.log(|| "arch_teardown_dma_ops: the device's ops are reset, it is on the direct ops");
            }
            (Arch::Arm32, _) if translation.own => {
                self.require(self.now.iommu == Iommu::There, breach::IOMMU_GONE, || {
                    "the device is detached from a mapping whose IOMMU has no driver any more".into()
                })?;
                self.check(!translation.mapped.contains(&FIRST_IOVA), breach::TRANSLATION_FIRST, || {
                    "the domain and its IOVA bitmaps are freed while the descriptor table is mapped".into()
                });
                self.detach_from_mapping(TearDown::Teardown.call());
            }
            // Since 6.10 the back-end belongs to the group, and arm64's call is empty; arm32 returns when the mapping is
            // not the binding's own.
            (Arch::Arm64 | Arch::Arm32 | Arch::Arm32Shared, _) => {}
        }
        Ok(())
    }

    /// Detaches from arm32's mapping and drops its last reference: the domain goes with all that is mapped in it.
    fn detach_from_mapping(&mut self, by: &'static str) {
        self.log(|| format!("{by}: detached, the last reference to the mapping dropped, the domain freed"));
        self.now.translation.own = false;
        self.now.translation.domain = Domain::Default;
        self.now.translation.mapped.clear();
        self.set_ops(plain(self.model.arch), by);
    }

    /// Gives the newest managed resource back. False: there is none.
    pub(super) fn release_newest(&mut self) -> Result<bool, Stop> {
        let Some(entry) = self.now.devres.pop() else { return Ok(false) };
        match entry {
            Managed::Prd { by, at } => self.free_table(by, at)?,
            Managed::RegisterWrite => {
                self.require(self.now.done.contains(&SetUp::PmAttach), breach::POWER_OFF, || {
                    "the power domain is off: the write to the registers is an external abort".into()
                })?;
            }
            Managed::Host => self.require(self.now.data || !self.model.data_outlives, breach::DATA_GONE, || {
                "libata's host is looked up".into()
            })?,
            Managed::Private => {
                let mapped = self.now.translation.mapped.contains(&SECOND_IOVA);
                self.check(!mapped, breach::FREED_WHILE_MAPPED, || {
                    format!("the private buffer goes back to its allocator, mapped at IOVA {SECOND_IOVA:#x}")
                });
            }
            Managed::Leftover | Managed::Pins | Managed::Registers | Managed::Interrupt => {}
        }
        Ok(true)
    }

    /// Frees the descriptor table as Linux does: through the back-end that the device has now.
    fn free_table(&mut self, by: Ops, at: u64) -> Result<(), Violation> {
        let now = self.now.translation.ops;
        let foreign = breach::FREED_ELSEWHERE.after(self.now.translation.ops_set_by);
        self.check(!self.now.running, breach::FREED_WHILE_RUNNING, || {
            "the device still fetches its descriptor table".into()
        });
        self.log(|| format!("descriptor table at {at:#x}: given back through {now}"));
        let both = || format!("allocated by {by} at IOVA {at:#x}, freed by {now}");
        if now == Ops::ArmDirect && by != now {
            // The table of buffers does not list it; nothing else is touched.
            self.check(false, foreign.with(Harm::Leak), || {
                format!("{}: WARNING, the buffer is unknown to it and its pages are never freed", both())
            });
            return Ok(());
        }
        if now == Ops::Direct {
            let given = self.now.memory.free_direct(at);
            if !given {
                self.log(|| format!("CMA: {at:#x} is not in its area, it refuses the page (cma_release failed)"));
                self.log(|| "page allocator: gets a page that it never gave: paging request fault");
            }
            return self.require(by == now && given, foreign, || {
                format!("{}: CMA refuses the page, the page allocator gets a wrong one", both())
            });
        }
        self.require(by == now, foreign.with(Harm::Leak), || format!("allocated by {by}, freed by {now}"))?;
        if now.translates() {
            self.require(self.now.iommu == Iommu::There, breach::IOMMU_GONE, || {
                "the descriptor table is unmapped through an IOMMU whose driver is gone".into()
            })?;
            self.now.translation.mapped.retain(|&mapped| mapped != at);
        }
        let mapped = self.now.translation.mapped.contains(&at);
        self.check(!mapped, breach::FREED_WHILE_MAPPED, || format!("the descriptor table is still mapped at {at:#x}"));
        self.now.memory.pages -= 1;
        Ok(())
    }
}
