//! The queues of an `SMMUv3`: commands with a producer index, events with a consumer index, and what the barriers between
//! entry and index are for.
//!
//! Registers and formats are those of Arm IHI 0070: 3.5 (queues), 4.1 (commands), 6.3 (registers).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bindery::binding::{Bound, Mmio, Register, RegisterWindow};
use bindery::dma::CoherentSlice;
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Barrier, IoError};
use bindery::field;
use bindery::sync::SpinLock;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::board::{self, Bus, Model};

const CR0: Register<u32, 0x20> = Register::new();
const CMDQ_BASE: Register<u64, 0x90> = Register::new();
const CMDQ_PROD: Register<u32, 0x98> = Register::new();
const CMDQ_CONS: Register<u32, 0x9c> = Register::new();
const EVENTQ_BASE: Register<u64, 0xa0> = Register::new();
/// On the second page.
const EVENTQ_PROD: Register<u32, 0xa8> = Register::new();
const EVENTQ_CONS: Register<u32, 0xac> = Register::new();

const CMDQ_ENABLE: u32 = 1 << 3;
const EVENTQ_ENABLE: u32 = 1 << 2;
const INVALIDATE_ALL: u64 = 0x30;
const SYNC: u64 = 0x46;

/// log2 of the entries of both queues.
const SHIFT: u32 = 3;
const ENTRIES: usize = 1 << SHIFT;
/// Index and wrap bit.
const INDEX: u32 = 2 * ENTRIES as u32 - 1;

type Command = [u64; 2];

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Event {
    kind: u32,
    stream: u32,
    reason: [u32; 2],
    address: u64,
    physical: u64,
}

struct Smmu;

struct Queues<'b> {
    dev: Bound<'b>,
    page0: RegisterWindow<Mmio<'b>, 0xe0>,
    page1: RegisterWindow<Mmio<'b>, 0xb0>,
    commands: CoherentSlice<'b, Command>,
    events: CoherentSlice<'b, Event>,
    producer: Mutex<u32>,
    /// The latest ones, and their number.
    faults: SpinLock<([(u32, u64); 32], usize)>,
}

impl Queues<'_> {
    /// Writes commands, and waits until the SMMU has consumed them.
    fn issue(&self, commands: &[Command]) -> Result<bool, IoError> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        for command in commands {
            let full = |consumer: u32| (*producer ^ consumer) & INDEX == ENTRIES as u32;
            while full(self.page0.read(CMDQ_CONS)?) {}
            self.commands.write(*producer as usize % ENTRIES, command);
            *producer = (*producer + 1) & INDEX;
        }
        // The entries before the index that hands them over: the SMMU reads them as soon as it sees it.
        self.commands.publish();
        self.page0.write(CMDQ_PROD, *producer)?;
        let mut consumed = Ok(false);
        self.dev.wait_until(Duration::from_millis(100), Duration::from_micros(10), || {
            consumed = self.page0.read(CMDQ_CONS).map(|consumer| consumer & INDEX == *producer);
            consumed != Ok(false)
        });
        consumed
    }

    /// Takes the events that have arrived.
    fn drain(&self) -> Result<usize, IoError> {
        let (mut consumer, producer) = (self.page1.read(EVENTQ_CONS)?, self.page1.read(EVENTQ_PROD)?);
        // The index before the entries that it covers.
        self.events.barrier(Barrier::Read);
        let mut count = 0;
        while consumer & INDEX != producer & INDEX {
            let index = consumer as usize % ENTRIES;
            let stream = self.events.read_field(index, field!(Event, stream));
            let address = self.events.read_field(index, field!(Event, address));
            let mut faults = self.faults.lock();
            let at = faults.1 % 32;
            faults.0[at] = (stream, address);
            faults.1 += 1;
            drop(faults);
            consumer = (consumer + 1) & INDEX;
            count += 1;
        }
        // The entries were read before the SMMU may overwrite them.
        self.events.barrier(Barrier::Full);
        self.page1.write(EVENTQ_CONS, consumer)?;
        Ok(count)
    }
}

impl Driver for Smmu {
    const NAME: &'static str = "smmu";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,device")];
    type Data<'b> = Queues<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Queues<'b>, ProbeError> {
        let regs = dev.mmio(0)?;
        let (page0, page1) = (regs.window::<0xe0>(0)?, regs.window::<0xb0>(0x1_0000)?);
        page0.write(CR0, 0)?;
        dev.mark_quiesced(Quiesced::stopped());
        let commands = dev.dma().coherent_slice(ENTRIES)?;
        let events = dev.dma().coherent_slice(ENTRIES)?;
        page0.write(CMDQ_BASE, commands.device_addr().0 | u64::from(SHIFT))?;
        page0.write(EVENTQ_BASE, events.device_addr().0 | u64::from(SHIFT))?;
        let queued = page1.handle();
        let events_arrived = dev.work::<Self>("events", |smmu| {
            // An error means that the SMMU is gone.
            let _ = smmu.drain();
        })?;
        let arrived = events_arrived.handle();
        dev.request_irq(0, move || {
            match (queued.read(EVENTQ_CONS), queued.read(EVENTQ_PROD)) {
                (Ok(consumer), Ok(producer)) if consumer != producer => drop(arrived.schedule()),
                _ => return IrqReturn::None,
            }
            IrqReturn::Handled
        })?;
        page0.write(CR0, CMDQ_ENABLE | EVENTQ_ENABLE)?;
        let queues =
            Queues { dev, page0, page1, commands, events, producer: Mutex::default(), faults: SpinLock::default() };
        if queues.issue(&[[INVALIDATE_ALL, 0], [SYNC, 0]])? {
            Ok(queues)
        } else {
            Err(ProbeError::Device("the SMMU does not take commands"))
        }
    }

    fn quiesce(smmu: &Queues<'_>) -> Result<Quiesced, QuiesceError> {
        smmu.page0.write(CR0, 0).map_err(|_| QuiesceError("the registers are gone"))?;
        Ok(Quiesced::stopped())
    }
}

#[derive(Default)]
struct SmmuModel(Mutex<ModelState>);

#[derive(Default)]
struct ModelState {
    enabled: bool,
    commands: u64,
    events: u64,
    command_index: u32,
    event_producer: u32,
    event_consumer: u32,
    seen: Vec<u32>,
    bus: Option<Bus>,
}

impl SmmuModel {
    /// Reports a fault of a stream.
    fn fault(&self, stream: u32, address: u64) {
        let mut state = self.0.lock().unwrap();
        let at = state.events + 32 * u64::from(state.event_producer % ENTRIES as u32);
        let bus = state.bus.clone().unwrap();
        bus.write(at, &[0x10, stream, 0, 0, address as u32, (address >> 32) as u32, 0, 0]);
        state.event_producer = (state.event_producer + 1) & INDEX;
        bus.request_interrupt();
    }
}

impl Model for SmmuModel {
    const SIZE: u64 = 0x2_0000;

    fn read(&self, _: &Bus, offset: u64) -> u64 {
        let state = self.0.lock().unwrap();
        match offset {
            0x9c => state.command_index.into(),
            0x1_00a8 => state.event_producer.into(),
            0x1_00ac => state.event_consumer.into(),
            _ => 0,
        }
    }

    fn write(&self, bus: &Bus, offset: u64, value: u64) {
        let mut state = self.0.lock().unwrap();
        match offset {
            0x20 => state.enabled = value != 0,
            0x90 => state.commands = value & !0x1f,
            0xa0 => state.events = value & !0x1f,
            0x98 if state.enabled => {
                while state.command_index != value as u32 {
                    let at = state.commands + 16 * u64::from(state.command_index % ENTRIES as u32);
                    let [opcode] = bus.read::<1>(at);
                    state.seen.push(opcode);
                    state.command_index = (state.command_index + 1) & INDEX;
                }
            }
            0x1_00ac => state.event_consumer = value as u32,
            _ => {}
        }
        state.bus = Some(bus.clone());
    }
}

#[test]
fn queues_wrap_and_no_entry_is_lost() {
    let model = Arc::new(SmmuModel::default());
    let machine = board::bound(&model, Smmu);
    let smmu = machine.client::<Smmu>("device").unwrap();
    smmu.call(|smmu| {
        for _ in 0..20 {
            assert_eq!(smmu.issue(&[[INVALIDATE_ALL, 0], [INVALIDATE_ALL, 0], [SYNC, 0]]), Ok(true));
        }
        for n in 0..20 {
            model.fault(n, 0x1_0000_0000 + u64::from(n));
            smmu.dev.wait_until(Duration::from_millis(1), Duration::from_millis(1), || false);
        }
    })
    .unwrap();
    let seen = model.0.lock().unwrap().seen.clone();
    assert_eq!((seen.len(), seen.iter().filter(|opcode| **opcode == SYNC as u32).count()), (62, 21));
    let faults = smmu.call(|smmu| *smmu.faults.lock()).unwrap();
    assert_eq!(faults.1, 20);
    assert!(faults.0[..20].iter().zip(0..).all(|(fault, n)| *fault == (n, 0x1_0000_0000 + u64::from(n))));
    board::unbind(&machine, "smmu");
}
