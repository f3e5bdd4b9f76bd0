//! Drivers of the tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bindery::binding::{Bound, MmioHandle};
use bindery::device::{DeviceDesc, Resource};
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{IrqLine, Trigger};
use bindery::irq::Irq;
use bindery::machine::{Handle, Machine, Policy};
use bindery::sync::Completion;

use super::cpu::in_trap;
use super::target::{SmpEnv, Target};

/// What a driver does with its interrupt.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum How {
    /// A hard handler acknowledges, and completes.
    Hard,
    /// A threaded part does.
    Threaded,
    /// A hard handler masks; the client unmasks.
    Masks,
    /// A thread in `Irq::wait` does.
    Waits,
}

/// Counts of one toy, over all its bindings.
#[derive(Default)]
pub struct Seen {
    pub hard: AtomicUsize,
    pub threaded: AtomicUsize,
    /// Handlers that ran after their line was released.
    pub late: AtomicUsize,
    /// Handlers in a context that is not theirs.
    pub misplaced: AtomicUsize,
}

pub struct Toy {
    pub how: How,
    pub seen: Arc<Seen>,
    /// Requests an interrupt in probe, and waits for it.
    pub in_probe: Option<Arc<Target>>,
}

pub struct Port<'b> {
    dev: Bound<'b>,
    pub irq: Irq<'b>,
    regs: MmioHandle,
    done: Arc<Completion>,
    how: How,
}

impl Port<'_> {
    /// Does one request, and waits for its end.
    pub fn transfer(&self, target: &Target, line: usize) -> bool {
        let long = Duration::from_mins(1);
        if self.how != How::Waits {
            target.raise(line);
            let done = self.dev.system_clock().wait_for(&self.done, long);
            if self.how == How::Masks {
                self.irq.unmask();
            }
            return done;
        }
        target.raise(line);
        // On a shared line another one's request may end a wait.
        let mut done = false;
        while !done && self.irq.wait(long).is_ok() {
            done = self.regs.read32(0) == Ok(1);
            let _ = self.regs.write32(0, 1);
            done |= !target.is_asserted(line);
        }
        self.irq.unmask();
        done
    }
}

fn acknowledge(regs: &MmioHandle, done: &Completion) -> IrqReturn {
    if regs.read32(0) != Ok(1) {
        return IrqReturn::None;
    }
    let _ = regs.write32(0, 1);
    done.complete();
    IrqReturn::Handled
}

impl Driver for Toy {
    const NAME: &'static str = "toy";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,toy")];
    type Data<'b> = Port<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Port<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        let released = Arc::new(AtomicBool::new(false));
        let after = Arc::clone(&released);
        // Acquired before the line, so released after it.
        dev.action("the line is released", move || after.store(true, Ordering::SeqCst))?;
        let regs = dev.mmio(0)?.handle();
        let done = Arc::new(Completion::new());
        let seen = Arc::clone(&self.seen);
        let count = move |threaded: bool| {
            seen.late.fetch_add(usize::from(released.load(Ordering::SeqCst)), Ordering::SeqCst);
            seen.misplaced.fetch_add(usize::from(in_trap() == threaded), Ordering::SeqCst);
            if threaded { &seen.threaded } else { &seen.hard }.fetch_add(1, Ordering::SeqCst);
        };
        let (ours, completed, how) = (regs.clone(), Arc::clone(&done), self.how);
        let irq = match how {
            How::Hard => dev.request_irq(0, move || {
                count(false);
                acknowledge(&ours, &completed)
            })?,
            How::Masks => dev.request_irq(0, move || {
                count(false);
                match acknowledge(&ours, &completed) {
                    IrqReturn::Handled => IrqReturn::HandledMasked,
                    other => other,
                }
            })?,
            How::Threaded => {
                let count = Arc::new(count);
                let (hard, polled) = (Arc::clone(&count), ours.clone());
                let edge = matches!(dev.desc().resources[1], Resource::Irq { trigger: Trigger::EdgeRising, .. });
                dev.request_threaded_irq(
                    0,
                    move || {
                        hard(false);
                        if edge || polled.read32(0) == Ok(1) { IrqReturn::WakeThread } else { IrqReturn::None }
                    },
                    move || {
                        count(true);
                        // Task context: it may allocate.
                        drop(std::hint::black_box(vec![0_u8; 64]));
                        let _ = ours.write32(0, 1);
                        completed.complete();
                    },
                )?
            }
            How::Waits => dev.irq(0)?,
        };
        let port = Port { dev, irq, regs, done, how };
        if let (Some(target), Some(Resource::Irq { line, .. })) = (&self.in_probe, dev.desc().resources.get(1))
            && !port.transfer(target, line.0 as usize)
        {
            return Err(ProbeError::Device("no interrupt in probe"));
        }
        Ok(port)
    }

    fn quiesce(_: &Port<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// The device at `line`.
pub fn device(name: &str, line: usize, trigger: Trigger) -> DeviceDesc {
    let mut desc = DeviceDesc::new(name);
    desc.compatible.push("acme,toy".into());
    desc.resources.push(Resource::Mem { base: bindery::addr::PhysAddr(line as u64 * 4096), len: 16 });
    desc.resources.push(Resource::Irq { line: IrqLine(line as u32), trigger });
    desc
}

/// A machine with one toy.
pub fn machine_with(toy: Toy, line: usize, trigger: Trigger) -> (Arc<Target>, Handle) {
    let target = Target::new();
    let machine = Machine::new(Arc::new(SmpEnv(Arc::clone(&target))), Policy::default());
    machine.register(toy);
    machine.add_device(device("toy", line, trigger)).unwrap();
    (target, machine)
}
