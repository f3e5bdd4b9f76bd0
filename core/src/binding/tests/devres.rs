//! Devres groups that are stored in driver data beside what they hold.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::*;
use crate::binding::{Devres, ResourceError};
use crate::dma::{Coherent, Mapped, Pool, PoolItem};
use crate::env::{EnvError, IoError, IrqControl};
use crate::irq::InterruptController;

struct Queue<'b> {
    ring: Coherent<'b>,
    calls: CallLog,
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        // What the value is made of is there until it is dropped.
        self.ring.write(0, &1_u32);
        self.calls.lock().unwrap().push("queue dropped");
    }
}

/// Driver of a device with queues, each of which can be torn down by itself.
struct Queues {
    calls: CallLog,
    /// The device is known to be quiesced until the address of a ring is read.
    publish: bool,
}

struct Data<'b> {
    dev: Bound<'b>,
    queues: Mutex<Vec<Devres<'b, Queue<'b>>>>,
    calls: CallLog,
}

fn queue<'b>(dev: Bound<'b>, calls: &CallLog) -> Result<Devres<'b, Queue<'b>>, ProbeError> {
    dev.devres(|dev| {
        let actions = Arc::clone(calls);
        dev.action("the queue's", move || actions.lock().unwrap().push("queue released"))?;
        Ok(Queue { ring: dev.dma().coherent(4096)?, calls: Arc::clone(calls) })
    })
}

impl Driver for Queues {
    const NAME: &'static str = "queues";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = Data<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Data<'b>, ProbeError> {
        let queues = (0..3).map(|_| queue(dev, &self.calls)).collect::<Result<Vec<_>, _>>()?;
        if self.publish {
            assert!(queues.iter().all(|queue| queue.ring.device_addr().0 != 0));
        }
        Ok(Data { dev, queues: Mutex::new(queues), calls: Arc::clone(&self.calls) })
    }

    fn quiesce(_: &Data<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

struct Rig {
    env: Arc<FakeEnv>,
    machine: Handle,
    calls: CallLog,
}

impl Rig {
    fn new(publish: bool) -> Self {
        let (env, machine, calls) = machine();
        machine.register(Queues { calls: Arc::clone(&calls), publish });
        machine.add_device(widget()).unwrap();
        assert_eq!(machine.settle().bound, 1);
        Self { env, machine, calls }
    }

    fn call<R>(&self, act: impl for<'x> FnOnce(&Data<'x>) -> R) -> R {
        self.machine.client::<Queues>("1000.widget").unwrap().call(act).unwrap()
    }

    fn calls(&self) -> Vec<&'static str> {
        core::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn pages(&self) -> u64 {
        self.machine.memory().frames().in_use()
    }

    fn unbind(&self) {
        self.machine.unbind("1000.widget", "queues").unwrap();
        assert_eq!((self.machine.quarantine().len(), self.machine.resource_usage().mappings), (0, 0));
        promises_hold(&self.machine);
    }
}

#[test]
fn a_queue_in_driver_data_releases_exactly_its_resources_and_the_others_go_with_the_binding() {
    let rig = Rig::new(true);
    let held = rig.call(|data| data.dev.resources().len());
    assert_eq!(rig.pages(), 3);
    rig.call(|data| data.queues.lock().unwrap().remove(1).release());
    assert_eq!(rig.calls(), ["queue dropped", "queue released"]);
    assert_eq!((rig.call(|data| data.dev.resources().len()), rig.pages()), (held - 2, 2));
    // Another one takes its place, at run time.
    rig.call(|data| data.queues.lock().unwrap().push(queue(data.dev, &data.calls).unwrap()));
    assert_eq!(rig.call(|data| data.dev.resources().len()), held);
    rig.unbind();
    assert_eq!(rig.pages(), 0);
    let ends =
        ["queue dropped", "queue dropped", "queue dropped", "queue released", "queue released", "queue released"];
    assert_eq!(rig.calls(), ends, "P3: the data goes first, and then the unwinder releases");
}

#[test]
fn a_dropped_queue_of_a_device_that_may_run_keeps_its_memory_until_the_binding_ends() {
    let rig = Rig::new(true);
    rig.call(|data| drop(data.queues.lock().unwrap().remove(0)));
    assert_eq!(rig.calls(), ["queue dropped", "queue released"]);
    assert_eq!(rig.pages(), 3, "P11: the device was not shown to be quiesced");
    // Once it is, the next one is released at once.
    rig.call(|data| data.dev.mark_quiesced(Quiesced::stopped()));
    rig.call(|data| drop(data.queues.lock().unwrap().remove(0)));
    assert_eq!(rig.pages(), 2);
    rig.unbind();
    assert_eq!(rig.pages(), 0);

    let quiet = Rig::new(false);
    quiet.call(|data| drop(data.queues.lock().unwrap().remove(0)));
    assert_eq!(quiet.pages(), 2, "no address was published");
    quiet.unbind();
}

#[test]
fn a_forgotten_queue_is_released_by_the_unwinder() {
    let rig = Rig::new(true);
    rig.call(|data| core::mem::forget(data.queues.lock().unwrap().remove(1)));
    rig.unbind();
    assert_eq!(rig.calls().iter().filter(|call| **call == "queue released").count(), 3, "P9");
    assert_eq!(rig.pages(), 1, "P9: its memory is leaked");
}

#[test]
fn memory_of_queues_that_were_exchanged_outlives_the_device_that_may_reach_it() {
    let rig = Rig::new(false);
    rig.call(|data| {
        let mut queues = data.queues.lock().unwrap();
        let (mut two, mut one) = (queues.pop().unwrap(), queues.pop().unwrap());
        // Both values have the same type: safe code may exchange them.
        core::mem::swap(&mut *one, &mut *two);
        drop(one);
        assert_eq!(rig.pages(), 3, "P2: the first group's ring is in the other value");
        // The device starts with it.
        assert_ne!(two.ring.device_addr().0, 0);
        two.ring.write(0, &1_u32);
        drop(two);
        assert_eq!(rig.pages(), 3, "P11: the device may write to it");
    });
    rig.unbind();
    assert_eq!(rig.pages(), 0);
}

/// Driver whose pool belongs to a group, and a clone and an item of it to the driver data.
struct Pooled;

impl Driver for Pooled {
    const NAME: &'static str = "pooled";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = (Pool<'b>, PoolItem<'b>);

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
        let group = dev.devres(|dev| dev.dma().pool("commands", 64, 64, 0))?;
        let (pool, item) = (group.clone(), group.alloc()?);
        drop(group);
        Ok((pool, item))
    }

    fn quiesce(_: &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[test]
fn a_pool_of_a_group_keeps_its_blocks_while_a_clone_or_an_item_of_it_exists() {
    let (_, machine, _) = machine();
    machine.register(Pooled);
    machine.add_device(widget()).unwrap();
    assert_eq!(machine.settle().bound, 1, "{:?}", machine.waiting());
    machine.client::<Pooled>("1000.widget").unwrap().call(|(_, item)| item.write(0, &item.device_addr().0)).unwrap();
    assert_eq!((machine.resource_usage().mappings, machine.memory().frames().in_use()), (1, 1), "P2");
    machine.unbind("1000.widget", "pooled").unwrap();
    assert_eq!((machine.resource_usage().mappings, machine.memory().frames().in_use()), (0, 0));
    promises_hold(&machine);
}

/// Interrupt controller that has registered its lines from within a group.
struct Expander;

struct Pins;

impl InterruptController for Pins {
    fn translate(&self, specifier: &[u32]) -> Option<(u32, Trigger)> {
        Some((*specifier.first()?, Trigger::LevelHigh))
    }

    fn control(&self, _: u32, _: IrqControl) -> Result<(), EnvError> {
        Ok(())
    }
}

impl Driver for Expander {
    const NAME: &'static str = "expander";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        drop(dev.devres(|dev| dev.provide_interrupts(Arc::new(Pins)))?);
        let services = dev.resources().iter().filter(|r| r.1 == "service").count();
        assert_eq!(services, 2, "P6: the service and its lines, both until the binding ends");
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn the_lines_of_an_interrupt_controller_last_as_long_as_its_service() {
    let (_, machine, _) = machine();
    machine.register(Expander);
    machine.add_device(widget()).unwrap();
    assert_eq!(machine.settle().bound, 1, "{:?}", machine.waiting());
    machine.unbind("1000.widget", "expander").unwrap();
    promises_hold(&machine);
}

#[test]
fn a_queue_that_cannot_be_completed_leaves_nothing() {
    let rig = Rig::new(false);
    let before = rig.call(|data| data.dev.resources());
    let points = {
        rig.env.calls.lock().unwrap().clear();
        rig.call(|data| drop(queue(data.dev, &data.calls).unwrap()));
        rig.env.calls.lock().unwrap().len()
    };
    assert!(points >= 3, "{points}");
    for n in 0..points {
        rig.env.calls.lock().unwrap().clear();
        *rig.env.fail_at.lock().unwrap() = Some(n);
        assert!(rig.call(|data| queue(data.dev, &data.calls).is_err()), "fault {n}");
        *rig.env.fail_at.lock().unwrap() = None;
        assert_eq!(rig.call(|data| data.dev.resources()), before, "P4, fault {n}");
    }
    rig.unbind();
}

/// Handles that were moved out of a group. Their lifetime allows that; using them gets errors.
struct Strays;

impl Driver for Strays {
    const NAME: &'static str = "strays";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = Option<Mapped<'b>>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
        let stray = Mutex::new(None);
        let group = dev.devres(|dev| {
            let (regs, irq) = (dev.mmio(0)?, dev.irq(0)?);
            let (ring, buffer) = (dev.dma().coherent(4096)?, dev.dma().buffer(64)?);
            regs.write32(0, 7)?;
            let mapped = dev.dma().map(buffer, crate::dma::Direction::ToDevice).map_err(|refused| refused.error)?;
            *stray.lock().unwrap() = Some((regs, irq, ring, mapped, dev));
            Ok::<_, ProbeError>(())
        })?;
        let (regs, irq, ring, mut mapped, inner) = stray.into_inner().unwrap().unwrap();
        assert_eq!(regs.read32(0), Ok(7));
        group.release();
        assert_eq!(regs.read32(0), Err(IoError::Gone), "P14: they may have another user by now");
        assert_eq!(regs.window::<8>(0)?.read(crate::binding::Register::<u32, 0>::new()), Err(IoError::Gone));
        assert_eq!(irq.wait(Duration::from_millis(1)), Err(TimedOut(Duration::from_millis(1))));
        assert_eq!(inner.action("late", || ()).unwrap_err(), ResourceError::GroupReleased);
        assert!(dev.mmio(0).is_ok() && dev.irq(0).is_ok(), "the claims are released");
        ring.write(0, &3_u32);
        assert_eq!(ring.read::<u32>(0), 3, "the CPU still reads and writes the memory");
        let dma = || dev.resources().iter().filter(|r| r.1.starts_with("dma")).count();
        // The ring's address can still be given to the device, and a streaming mapping lends slices: both are kept.
        assert_eq!(dma(), 2, "P2: their handles exist");
        ring.release();
        assert_eq!(dma(), 1);
        mapped.sync_for_cpu()[0] = 1;
        Ok(Some(mapped))
    }

    fn quiesce(_: &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[test]
fn a_handle_that_left_its_group_gets_errors_after_the_release() {
    let (_, machine, _) = machine();
    machine.register(Strays);
    machine.add_device(widget()).unwrap();
    assert_eq!(machine.settle().bound, 1, "{:?}", machine.waiting());
    assert_eq!(machine.resource_usage().mappings, 1);
    machine.unbind("1000.widget", "strays").unwrap();
    assert_eq!((machine.resource_usage().mappings, machine.memory().frames().in_use()), (0, 0));
    promises_hold(&machine);
}
