//! One lifecycle of the disk controller: set up, perhaps in several attempts, torn down, and passed to a guest.

use bindery::promise::Promise;

use super::breach::{Harm, Phase};
use super::kernel::{DriverOf, Iommu, Kernel, Link, Stop};
use super::model::Model;
use super::options::{Boot, Options};
use super::set_up::Went;
use super::step::{SetUp, TearDown};
use super::translation::Domain;
use crate::engine::{Chooser, Kind, Violation};

/// Attempts to bind: the first, one after the IOMMU came, one after a deferral by the driver.
const ATTEMPTS: u8 = 3;

/// Executes one lifecycle.
pub(super) fn run(model: Model, options: &Options, chooser: &Chooser) -> Result<(), Violation> {
    let procedure = model.procedure();
    let mut kernel = Kernel::new(&procedure, chooser, options.test_remove);
    match kernel.live(options) {
        Ok(()) | Err(Stop::Seen) => Ok(()),
        Err(Stop::Violation(violation)) => Err(violation),
    }
}

impl Kernel<'_> {
    fn live(&mut self, options: &Options) -> Result<(), Stop> {
        let habit = self.chooser.choose(Kind::Value, "which driver", options.habits.len() + 1);
        self.now.habit = habit.checked_sub(1).map(|index| options.habits[index]);
        if let Some(habit) = self.now.habit {
            self.tell(|| habit.text());
        }
        let first = match options.boot {
            Boot::IommuLater => false,
            Boot::IommuFirst => true,
            Boot::Either => self.chooser.choose(Kind::Value, "the IOMMU's driver comes first", 2) == 1,
        };
        if first {
            self.iommu_arrives();
        }
        self.bring_up()?;
        self.settle()?;
        if self.now.driver == DriverOf::SataRcar {
            self.rest()?;
        }
        if self.now.driver == DriverOf::SataRcar {
            self.tell(|| "unbind: echo ee300000.sata > /sys/bus/platform/drivers/sata_rcar/unbind");
            self.unbind()?;
            self.settle()?;
        }
        self.end()?;
        self.hand_over();
        Ok(())
    }

    /// Probes until bound, or until nothing more is to be waited for.
    fn bring_up(&mut self) -> Result<(), Stop> {
        for attempt in 0..ATTEMPTS {
            self.now.place.attempt = attempt;
            match self.bind()? {
                Went::Well | Went::Wrong => break,
                Went::Deferred if self.now.iommu == Iommu::Later => {
                    self.settle()?;
                    self.iommu_arrives();
                }
                Went::Deferred if self.now.iommu == Iommu::Gone => break,
                Went::Deferred => self.settle()?,
            }
        }
        Ok(())
    }

    fn bind(&mut self) -> Result<Went, Stop> {
        let steps = self.model.up;
        let mut at = 0;
        self.tell(|| "probe of ee300000.sata by sata_rcar");
        while let Some(&step) = steps.get(at) {
            self.now.place.phase = Phase::SetUp;
            self.now.place.step = at as u8;
            self.meanwhile()?;
            let went = self.set_up(step)?;
            if went != Went::Well {
                self.now.place.failed = Some((step, went));
                self.tear_down(self.model.exit(step), Phase::Failure, "failure")?;
                self.now.place.failed = None;
                return Ok(went);
            }
            if step == SetUp::Probe && self.test_remove && !self.now.test_removed {
                self.now.test_removed = true;
                self.tell(|| "test_remove: the driver is removed and probed again");
                self.tear_down(self.model.test_remove, Phase::TestRemove, "test_remove")?;
                at = steps.iter().position(|&up| up == SetUp::SetDriver).unwrap_or(0);
                continue;
            }
            at += 1;
        }
        Ok(Went::Well)
    }

    fn unbind(&mut self) -> Result<(), Stop> {
        self.tear_down(self.model.unbind, Phase::Unbind, "unbind")
    }

    fn tear_down(&mut self, steps: &[TearDown], phase: Phase, name: &str) -> Result<(), Stop> {
        if phase == Phase::Failure {
            // A probe that fails leaves its device stopped.
            self.now.quiesced = true;
        }
        for (index, &step) in steps.iter().enumerate() {
            self.now.place.phase = phase;
            self.now.place.step = index as u8;
            self.meanwhile()?;
            self.tell(|| format!("{name}: {}", step.call()));
            if phase == Phase::Unbind {
                self.chooser.cover(step.mark());
            }
            if step == TearDown::Devres {
                while self.release_newest()? {
                    self.meanwhile()?;
                }
            }
            self.tear_down_step(step)?;
        }
        Ok(())
    }

    /// The device is bound and idle.
    fn rest(&mut self) -> Result<(), Stop> {
        self.now.place.phase = Phase::Idle;
        self.now.place.step = 0;
        self.meanwhile()?;
        self.settle()
    }

    /// The device's lock is free: those that wait for it run.
    fn settle(&mut self) -> Result<(), Stop> {
        self.now.place.phase = Phase::Idle;
        self.now.place.step = 1;
        if self.now.supplier_waits {
            let stuck = self.breach(Promise::NothingLeft, Harm::Hang, "a link stays behind in `consumer probing`", "");
            self.must(self.now.link != Link::ConsumerProbe, stuck, || {
                "there is no probe, and the supplier's unbind waits for the end of one for ever".into()
            })?;
            if self.now.link == Link::Active {
                self.tell(|| "the IOMMU's unbind unbinds the disk controller first");
                self.unbind()?;
            }
            self.now.place.phase = Phase::Idle;
            self.supplier_goes();
        }
        if self.now.writer_waits
            && self.now.driver == DriverOf::SataRcar
            && self.chooser.choose(Kind::Order, "the second writer gets the lock", 2) == 0
        {
            self.now.writer_waits = false;
            self.tell(|| "the second writer gets the lock, and unbinds sata_rcar");
            self.unbind()?;
            self.now.place.phase = Phase::Idle;
        }
        Ok(())
    }

    /// P4, after tear-down.
    fn end(&mut self) -> Result<(), Stop> {
        self.now.place.phase = Phase::Idle;
        self.now.place.step = 2;
        self.point()?;
        if self.now.driver != DriverOf::Nobody {
            return Ok(());
        }
        if self.now.translation.claimed {
            // The guest ends, too.
            self.now.translation.claimed = false;
            self.now.translation.domain = Domain::Default;
        }
        let now = &self.now;
        let mapped = now.translation.mapped.iter().map(|iova| format!("a buffer mapped at IOVA {iova:#x}")).collect();
        let left = [
            ("managed resources are left", now.devres.iter().map(|entry| format!("{entry:?}")).collect()),
            ("pages are left", now.memory.left()),
            ("translation is left", mapped),
            ("the group still counts a user", (0..now.translation.users).map(|_| "a user".to_owned()).collect()),
            (
                "power is left on",
                (now.power || now.activated).then(|| "a power domain".to_owned()).into_iter().collect(),
            ),
            ("files are left", (now.files || now.groups).then(|| "files".to_owned()).into_iter().collect()),
        ];
        for (what, left) in left {
            let breach = self.breach(Promise::NothingLeft, Harm::Leak, what, "");
            let left: Vec<String> = left;
            self.check(left.is_empty(), breach, || format!("after tear-down: {}", left.join(", ")));
        }
        let breach = self.breach(Promise::NothingLeft, Harm::Leak, "a link is left in `consumer probing`", "");
        self.check(self.now.link != Link::ConsumerProbe, breach, || "no later unbind of the supplier can end".into());
        Ok(())
    }

    /// The device is bound to vfio-platform; a writer that still waits for its lock gets it now.
    fn hand_over(&mut self) {
        if self.now.driver != DriverOf::Nobody || !self.now.writer_waits {
            return;
        }
        self.now.driver = DriverOf::VfioPlatform;
        self.tell(|| "the device is bound to vfio-platform, and given to a guest");
        self.tell(|| "the second writer gets the lock");
        let wrong = self.breach(
            Promise::OneOwner,
            Harm::Theft,
            "an unbind ends another driver's binding",
            "the unlocked check",
        );
        let holds = self.model.compares_locked;
        self.check(holds, wrong, || {
            "the write named sata_rcar, and vfio-platform is unbound under its guest's feet".into()
        });
        if holds {
            self.tell(|| "the driver is not the one that was named: -ENODEV");
        }
    }
}
