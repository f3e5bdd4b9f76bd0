//! Tear-down steps.

use bindery::promise::Promise;

use super::breach::{Breach, Harm, Phase};
use super::kernel::{DriverOf, Iommu, Kernel, Link, Managed, Notified, Stop};
use super::memory::{FIRST_IOVA, SECOND_IOVA};
use super::options::Habit;
use super::step::TearDown;
use super::table::{Arch, Chosen};
use super::translation::{Domain, Ops, plain};
use crate::engine::Violation;

impl Kernel<'_> {
    /// Runs one tear-down step, except [`TearDown::Devres`], between whose entries there are scheduling points.
    pub(super) fn tear_down_step(&mut self, step: TearDown) -> Result<(), Violation> {
        match step {
            TearDown::SysfsRemove => self.now.files = false,
            TearDown::NotifyUnbind => self.now.notified = Notified::Unbind,
            TearDown::NotifyNotBound | TearDown::NotifyUnbound => self.notify_over(step),
            TearDown::RemoveGroups => self.now.groups = false,
            TearDown::Remove => self.remove(),
            TearDown::PmDetach => self.now.power = false,
            TearDown::DevresGroup => self.devres_group(),
            TearDown::Devres => {}
            TearDown::Teardown => self.teardown()?,
            TearDown::ClearDriver => self.now.driver = DriverOf::Nobody,
            TearDown::ClearData => self.now.data = false,
            TearDown::Dismiss => self.now.activated = false,
            TearDown::ReleaseLinks => {
                if matches!(self.now.link, Link::ConsumerProbe | Link::Active) {
                    self.now.link = if self.now.iommu == Iommu::There { Link::Available } else { Link::Dormant };
                }
            }
        }
        Ok(())
    }

    fn notify_over(&mut self, step: TearDown) {
        let held = self.now.devres.len();
        let early =
            self.breach(Promise::SingleUnwindPath, Harm::Untruth, "the end is announced before it", step.call());
        self.check(held == 0, early, || {
            format!("whoever listens hears {}, and {held} managed resources are still held", step.call())
        });
        let unheard = self.breach(Promise::SingleUnwindPath, Harm::Untruth, "an end without a beginning", step.call());
        self.check(self.now.notified != Notified::Nothing, unheard, || {
            format!("whoever listens hears {} and never heard BIND_DRIVER", step.call())
        });
        self.now.notified = Notified::Nothing;
    }

    fn remove(&mut self) {
        self.now.quiesced = true;
        if !self.model.data_outlives {
            self.now.data = false;
        }
        if self.now.habit == Some(Habit::DetachesItself) && self.now.translation.own {
            self.tell(|| "remove(): the driver detaches the device from its mapping");
            self.leave_mapping("the driver's own detach");
        }
    }

    fn devres_group(&mut self) {
        self.now.translation.users = self.now.translation.users.saturating_sub(1);
        let held = self.dma_held();
        let early = self.breach(Promise::OneOwner, Harm::Window, "the group is let go while DMA memory is held", "");
        self.check(!held, early, || {
            "the group counts no user any more, and the managed descriptor table is still to be freed".into()
        });
    }

    /// Whether managed DMA memory of a translated device is still to be given back.
    pub(super) fn dma_held(&self) -> bool {
        self.now.devres.iter().any(|entry| matches!(entry, Managed::Prd { by, .. } if by.translates()))
    }

    fn teardown(&mut self) -> Result<(), Violation> {
        match (self.model.arch, self.model.chosen) {
            (Arch::Arm64, Chosen::AtBinding) => {
                if self.now.translation.ops != Ops::Direct {
                    self.set_ops(Ops::Direct, TearDown::Teardown.call());
                    self.tell(|| "arch_teardown_dma_ops: the device's ops are reset, it is on the direct ops");
                }
            }
            (Arch::Arm32, _) if self.now.translation.own => {
                let gone = self.breach(
                    Promise::SuppliersOutlast,
                    Harm::Crash,
                    "an IOMMU is used that is gone",
                    "the link's release",
                );
                self.must(self.now.iommu == Iommu::There, gone, || {
                    "the device is detached from a mapping whose IOMMU has no driver any more".into()
                })?;
                let mapped = self.now.translation.mapped.contains(&FIRST_IOVA);
                let early = self.breach(
                    Promise::SingleUnwindPath,
                    Harm::Window,
                    "translation is torn down under a live buffer",
                    "",
                );
                self.check(!mapped, early, || {
                    "the domain and its IOVA bitmaps are freed while the descriptor table is mapped".into()
                });
                self.leave_mapping(TearDown::Teardown.call());
            }
            // Since 6.10 the back-end belongs to the group, and arm64's call is empty; arm32 returns when the mapping is
            // not the binding's own.
            (Arch::Arm64, Chosen::AtJoining) | (Arch::Arm32 | Arch::Arm32Shared, _) => {}
        }
        Ok(())
    }

    /// Detaches from arm32's mapping and drops its last reference: the domain goes with all that is mapped in it.
    fn leave_mapping(&mut self, by: &'static str) {
        self.tell(|| format!("{by}: detached, the last reference to the mapping dropped, the domain freed"));
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
                let off = self.breach(
                    Promise::SuppliersOutlast,
                    Harm::Crash,
                    "a managed action writes registers without power",
                    "dev_pm_domain_detach",
                );
                self.must(self.now.power, off, || {
                    "the power domain is off: the write to the registers is an external abort".into()
                })?;
            }
            Managed::Host => {
                let lost = self.breach(
                    Promise::NoUseAfterRevoke,
                    Harm::Crash,
                    "a release reaches driver data that is gone",
                    "drvdata = NULL",
                );
                self.must(self.now.data || !self.model.data_outlives, lost, || "libata's host is looked up".into())?;
            }
            Managed::Private => {
                let mapped = self.now.translation.mapped.contains(&SECOND_IOVA);
                let reached = self.breach(
                    Promise::UnreachableBeforeFree,
                    Harm::Window,
                    "memory is freed that the device can reach",
                    "",
                );
                self.check(!mapped, reached, || {
                    format!("the private buffer goes back to its allocator, mapped at IOVA {SECOND_IOVA:#x}")
                });
            }
            Managed::Leftover | Managed::Pins | Managed::Registers | Managed::Interrupt => {}
        }
        Ok(true)
    }

    /// Frees the descriptor table the way Linux does: by the back-end that the device has now.
    fn free_table(&mut self, by: Ops, at: u64) -> Result<(), Violation> {
        let now = self.now.translation.ops;
        let culprit = self.now.translation.ops_by;
        let busy = self.breach(Promise::QuiescedFirst, Harm::Window, "memory of a running device is freed", "");
        self.check(self.now.quiesced, busy, || "the device still fetches its descriptor table".into());
        self.tell(|| format!("descriptor table at {at:#x}: given back through {}", now.name()));
        let phase = self.phase();
        let foreign = |harm| Breach {
            promise: Promise::MatchingBackend,
            harm,
            phase,
            what: "freed by another back-end",
            after: culprit,
        };
        if now == Ops::ArmDirect && by != now {
            // The table of buffers does not list it; nothing else is touched.
            self.check(false, foreign(Harm::Leak), || {
                format!(
                    "allocated by {} at IOVA {at:#x}, freed by {}: WARNING, the buffer is unknown to it and \
                         its pages are never freed",
                    by.name(),
                    now.name()
                )
            });
            return Ok(());
        }
        if now == Ops::Direct {
            let given = self.now.memory.free_direct(at);
            if !given {
                self.tell(|| format!("CMA: {at:#x} is not in its area, it refuses the page (cma_release failed)"));
                self.tell(|| "page allocator: gets a page that it never gave: paging request fault");
            }
            return self.must(by == now && given, foreign(Harm::Crash), || {
                format!(
                    "allocated by {} at IOVA {at:#x}, freed by {}: CMA refuses the page, the page allocator gets a \
                         wrong one",
                    by.name(),
                    now.name()
                )
            });
        }
        self.must(by == now, foreign(Harm::Leak), || format!("allocated by {}, freed by {}", by.name(), now.name()))?;
        if now.translates() {
            let after = if self.phase() == Phase::Idle { "" } else { "the link's release" };
            let gone = self.breach(Promise::SuppliersOutlast, Harm::Crash, "an IOMMU is used that is gone", after);
            self.must(self.now.iommu == Iommu::There, gone, || {
                "the descriptor table is unmapped through an IOMMU whose driver is gone".into()
            })?;
            self.now.translation.unmap(at);
        }
        let mapped = self.now.translation.mapped.contains(&at);
        let reached =
            self.breach(Promise::UnreachableBeforeFree, Harm::Window, "memory is freed that the device can reach", "");
        self.check(!mapped, reached, || format!("the descriptor table is still mapped at {at:#x}"));
        self.now.memory.pages -= 1;
        Ok(())
    }
}
