//! One lifecycle of the disk controller: set up, perhaps in several attempts, torn down, and passed to a guest.

use super::breach::{self, Phase};
use super::kernel::{Driver, Iommu, Kernel, Link, Stop};
use super::options::{Boot, Options};
use super::procedure::Procedure;
use super::set_up::Outcome;
use super::step::{SetUp, TearDown};
use super::translation::Domain;
use crate::engine::{Chooser, Kind, Violation};

/// Attempts to bind: the first, one after the IOMMU came, one after a deferral by the driver.
const ATTEMPTS: u8 = 3;

/// Executes one lifecycle.
pub(super) fn run(model: &Procedure, options: &Options, chooser: &Chooser) -> Result<(), Violation> {
    match Kernel::new(model, chooser, options.test_remove).run(options) {
        Ok(()) | Err(Stop::Seen) => Ok(()),
        Err(Stop::Violation(violation)) => Err(violation),
    }
}

impl Kernel<'_> {
    fn run(&mut self, options: &Options) -> Result<(), Stop> {
        let variant = self.chooser.choose(Kind::Value, "which driver", options.variants.len() + 1);
        self.now.variant = variant.checked_sub(1).map(|index| options.variants[index]);
        if let Some(variant) = self.now.variant {
            self.log(|| variant.text());
        }
        let iommu_first = match options.boot {
            Boot::IommuLater => false,
            Boot::IommuFirst => true,
            Boot::Either => self.chooser.choose(Kind::Value, "the IOMMU's driver comes first", 2) == 1,
        };
        if iommu_first {
            self.iommu_arrives();
        }
        self.bring_up()?;
        self.lock_is_free()?;
        if self.now.driver == Driver::SataRcar {
            self.idle()?;
        }
        if self.now.driver == Driver::SataRcar {
            self.log(|| "unbind: echo ee300000.sata > /sys/bus/platform/drivers/sata_rcar/unbind");
            self.unbind()?;
            self.lock_is_free()?;
        }
        self.check_nothing_left()?;
        self.hand_over();
        Ok(())
    }

    fn enter(&mut self, phase: Phase, step: usize) {
        self.now.position.phase = phase;
        self.now.position.step = step as u8;
    }

    fn iommu_arrives(&mut self) {
        self.now.iommu = Iommu::There;
        self.now.link = Link::Available;
        self.log(|| "the IOMMU's driver binds");
    }

    /// Probes until bound, or until no further probe can succeed.
    fn bring_up(&mut self) -> Result<(), Stop> {
        for attempt in 0..ATTEMPTS {
            self.now.position.attempt = attempt;
            match self.bind()? {
                Outcome::Done | Outcome::Failed => break,
                Outcome::Deferred if self.now.iommu == Iommu::Later => {
                    self.lock_is_free()?;
                    self.iommu_arrives();
                }
                Outcome::Deferred if self.now.iommu == Iommu::Gone => break,
                Outcome::Deferred => self.lock_is_free()?,
            }
        }
        Ok(())
    }

    fn bind(&mut self) -> Result<Outcome, Stop> {
        let model = self.model;
        let mut at = 0;
        self.log(|| "probe of ee300000.sata by sata_rcar");
        while let Some(&step) = model.up.get(at) {
            self.enter(Phase::SetUp, at);
            self.scheduling_point()?;
            let outcome = self.set_up(step)?;
            if outcome != Outcome::Done {
                self.now.position.failed = Some((step, outcome));
                // A probe that fails leaves its device stopped.
                self.now.running = false;
                self.tear_down(model.exit(step), Phase::Failure, "failure")?;
                self.now.position.failed = None;
                return Ok(outcome);
            }
            if step == SetUp::Probe && self.test_remove && !self.now.test_removed {
                self.now.test_removed = true;
                self.log(|| "test_remove: the driver is removed and probed again");
                self.tear_down(model.test_remove.iter().copied(), Phase::TestRemove, "test_remove")?;
                at = model.up.iter().position(|&up| up == SetUp::SetDriver).unwrap_or(0);
                continue;
            }
            at += 1;
        }
        Ok(Outcome::Done)
    }

    fn unbind(&mut self) -> Result<(), Stop> {
        self.tear_down(self.model.unbind.iter().copied(), Phase::Unbind, "unbind")
    }

    fn tear_down(&mut self, steps: impl Iterator<Item = TearDown>, phase: Phase, name: &str) -> Result<(), Stop> {
        for (index, step) in steps.enumerate() {
            self.enter(phase, index);
            self.scheduling_point()?;
            self.log(|| format!("{name}: {}", step.call()));
            if phase == Phase::Unbind {
                self.chooser.cover(step.coverage_point());
            }
            if step == TearDown::Devres {
                while self.release_newest()? {
                    self.scheduling_point()?;
                }
            }
            self.tear_down_step(step)?;
        }
        Ok(())
    }

    /// The device is bound and idle.
    fn idle(&mut self) -> Result<(), Stop> {
        self.enter(Phase::Idle, 0);
        self.scheduling_point()?;
        self.lock_is_free()
    }

    /// Those that wait for the device's lock run.
    fn lock_is_free(&mut self) -> Result<(), Stop> {
        self.enter(Phase::Idle, 1);
        if self.now.supplier_waits {
            self.require(self.now.link != Link::ConsumerProbe, breach::STUCK_LINK, || {
                "there is no probe, and the supplier's unbind waits for the end of one for ever".into()
            })?;
            if self.now.link == Link::Active {
                self.log(|| "the IOMMU's unbind unbinds the disk controller first");
                self.unbind()?;
            }
            self.now.position.phase = Phase::Idle;
            self.supplier_goes();
        }
        if self.now.writer_waits
            && self.now.driver == Driver::SataRcar
            && self.chooser.choose(Kind::Order, "the second writer gets the lock", 2) == 0
        {
            self.now.writer_waits = false;
            self.log(|| "the second writer gets the lock, and unbinds sata_rcar");
            self.unbind()?;
            self.now.position.phase = Phase::Idle;
        }
        Ok(())
    }

    /// P4, after tear-down.
    fn check_nothing_left(&mut self) -> Result<(), Stop> {
        self.enter(Phase::Idle, 2);
        self.visit()?;
        if self.now.driver != Driver::None {
            return Ok(());
        }
        if self.now.translation.claimed {
            // The guest ends, too.
            self.now.translation.claimed = false;
            self.now.translation.domain = Domain::Default;
        }
        let now = &self.now;
        let one = |steps: &[SetUp], what: &str| {
            steps.iter().any(|step| now.done.contains(step)).then(|| what.to_owned()).into_iter().collect()
        };
        let mapped = now.translation.mapped.iter().map(|iova| format!("a buffer mapped at IOVA {iova:#x}"));
        let left: [(_, Vec<String>); 6] = [
            (breach::LEFT_RESOURCES, now.devres.iter().map(|entry| format!("{entry:?}")).collect()),
            (breach::LEFT_PAGES, now.memory.left()),
            (breach::LEFT_TRANSLATION, mapped.collect()),
            (breach::LEFT_USER, vec!["a user".to_owned(); now.translation.users.into()]),
            (breach::LEFT_POWER, one(&[SetUp::PmAttach, SetUp::Activate], "a power domain")),
            (breach::LEFT_FILES, one(&[SetUp::SysfsAdd, SetUp::DevGroups], "files")),
        ];
        for (breach, left) in left {
            self.check(left.is_empty(), breach, || format!("after tear-down: {}", left.join(", ")));
        }
        let stuck = self.now.link == Link::ConsumerProbe;
        self.check(!stuck, breach::LEFT_LINK, || "no later unbind of the supplier can end".into());
        Ok(())
    }

    /// The device is bound to vfio-platform; a writer that still waits for its lock gets it now.
    fn hand_over(&mut self) {
        if self.now.driver != Driver::None || !self.now.writer_waits {
            return;
        }
        self.now.driver = Driver::VfioPlatform;
        self.log(|| "the device is bound to vfio-platform, and given to a guest");
        self.log(|| "the second writer gets the lock");
        let holds = self.model.compares_locked;
        self.check(holds, breach::WRONG_BINDING_ENDED, || {
            "the write named sata_rcar, and vfio-platform is unbound under its guest's feet".into()
        });
        if holds {
            self.log(|| "the driver is not the one that was named: -ENODEV");
        }
    }
}
