//! An AHCI port with 32 commands in flight, each waited for by itself, whose errors a work item recovers from.
//!
//! Registers and structures are those of AHCI 1.3.1: 3.1 (generic host control), 3.3 (port registers), 4.2.2 (command list).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bindery::binding::{Bound, Mmio, MmioHandle, Register, RegisterWindow};
use bindery::dma::{CoherentSlice, Pool, PoolItem};
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced, Work, WorkHandle};
use bindery::env::IoError;
use bindery::register_flags;
use bindery::sync::Completion;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::board::{self, Bus, Model};

bitflags::bitflags! {
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct PortCommand: u32 {
        const START = 1 << 0;
        const RUNNING = 1 << 15;
    }

    #[derive(Clone, Copy, PartialEq, Debug)]
    struct PortInterrupt: u32 {
        const DONE = 1 << 0;
        const TASK_FILE_ERROR = 1 << 30;
    }
}
register_flags!(u32: PortCommand, PortInterrupt);

const PORTS: Register<u32, 0x0c> = Register::new();
const INTERRUPTS: Register<u32, 0x08> = Register::new();

/// Of the block of one port.
mod port {
    use super::{PortCommand, PortInterrupt, Register};
    pub(super) const LIST: Register<u32, 0x00> = Register::new();
    pub(super) const LIST_HIGH: Register<u32, 0x04> = Register::new();
    pub(super) const INTERRUPT: Register<PortInterrupt, 0x10> = Register::new();
    pub(super) const COMMAND: Register<PortCommand, 0x18> = Register::new();
    pub(super) const ISSUED: Register<u32, 0x38> = Register::new();
}

const SLOTS: usize = 32;

/// Entry of the command list.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    flags: u16,
    tables: u16,
    transferred: u32,
    table: u64,
    reserved: [u32; 4],
}

struct Ahci;

struct Hba<'b> {
    dev: Bound<'b>,
    port: RegisterWindow<Mmio<'b>, 0x80>,
    list: CoherentSlice<'b, Header>,
    tables: Pool<'b>,
    slots: Mutex<Slots<'b>>,
    shared: Arc<Shared>,
    failed: AtomicU32,
    _recovery: Work<'b>,
}

/// Shared with the interrupt handler.
struct Shared {
    global: RegisterWindow<MmioHandle, 0x2c>,
    port: RegisterWindow<MmioHandle, 0x80>,
    done: [Completion; SLOTS],
    in_flight: AtomicU32,
}

#[derive(Default)]
struct Slots<'b> {
    /// The command tables of commands in flight.
    tables: [Option<PoolItem<'b>>; SLOTS],
}

#[derive(Debug, PartialEq)]
struct Failed;

impl From<IoError> for Failed {
    fn from(_: IoError) -> Self {
        Self
    }
}

impl<'b> Hba<'b> {
    fn slots(&self) -> std::sync::MutexGuard<'_, Slots<'b>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Issues a command in a free slot, while others run.
    fn submit(&self, command: u32) -> Result<usize, Failed> {
        let mut slots = self.slots();
        let slot = slots.tables.iter().position(Option::is_none).ok_or(Failed)?;
        let table = self.tables.alloc().map_err(|_| Failed)?;
        table.write(0, &command);
        self.list.write(
            slot,
            &Header { flags: 5, tables: 0, transferred: 0, table: table.device_addr().0, reserved: [0; 4] },
        );
        slots.tables[slot] = Some(table);
        self.shared.in_flight.fetch_or(1 << slot, Ordering::AcqRel);
        self.list.publish();
        self.port.write(port::ISSUED, 1 << slot)?;
        Ok(slot)
    }

    fn wait(&self, slot: usize) -> Result<(), Failed> {
        let done = self.dev.system_clock().wait_for(&self.shared.done[slot], Duration::from_secs(5));
        let failed = self.failed.fetch_and(!(1 << slot), Ordering::AcqRel) & 1 << slot != 0;
        // The device does not use the table any more.
        drop(self.slots().tables[slot].take());
        if done && !failed { Ok(()) } else { Err(Failed) }
    }

    /// Restarts the port after an error: commands that it had not completed fail.
    fn recover(&self) -> Result<(), IoError> {
        let lost = self.port.read(port::ISSUED)?;
        self.port.write(port::COMMAND, PortCommand::empty())?;
        self.port.write(port::COMMAND, PortCommand::START)?;
        self.failed.fetch_or(lost, Ordering::AcqRel);
        self.shared.complete(self.shared.in_flight());
        Ok(())
    }
}

impl Shared {
    /// Completes all commands in `mask`.
    fn complete(&self, mask: u32) {
        let mask = self.in_flight.fetch_and(!mask, Ordering::AcqRel) & mask;
        (0..SLOTS).filter(|slot| mask & 1 << slot != 0).for_each(|slot| self.done[slot].complete());
    }

    fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// In hard interrupt context: registers, atomics and wake-ups.
    fn handle(&self, recovery: &WorkHandle) -> Result<IrqReturn, IoError> {
        let causes = self.port.read(port::INTERRUPT)?;
        if causes.is_empty() {
            return Ok(IrqReturn::None);
        }
        self.port.write(port::INTERRUPT, causes)?;
        self.global.write(INTERRUPTS, 1)?;
        if causes.contains(PortInterrupt::TASK_FILE_ERROR) {
            // Restarting the port takes a while and waits: not here.
            recovery.schedule();
        } else {
            self.complete(self.in_flight() & !self.port.read(port::ISSUED)?);
        }
        Ok(IrqReturn::Handled)
    }
}

impl Driver for Ahci {
    const NAME: &'static str = "ahci";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,device")];
    type Data<'b> = Hba<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Hba<'b>, ProbeError> {
        let regs = dev.mmio(0)?;
        let global = regs.window::<0x2c>(0)?;
        let number = u64::from(global.read(PORTS)?.trailing_zeros());
        // An implemented port that firmware's `reg` does not hold is an error here, and nowhere else.
        let port = regs.window::<0x80>(0x100 + 0x80 * number)?;
        let list = dev.dma().coherent_slice(SLOTS)?;
        let address = list.device_addr().0;
        port.write(port::LIST, address as u32)?;
        port.write(port::LIST_HIGH, (address >> 32) as u32)?;
        let recovery = dev.work::<Self>("recovery", |hba| {
            // An error means that the device is gone.
            let _ = hba.recover();
        })?;
        let shared = Arc::new(Shared {
            global: global.handle(),
            port: port.handle(),
            done: std::array::from_fn(|_| Completion::new()),
            in_flight: AtomicU32::new(0),
        });
        let (ours, recover) = (Arc::clone(&shared), recovery.handle());
        dev.request_irq(0, move || ours.handle(&recover).unwrap_or(IrqReturn::None))?;
        port.write(port::COMMAND, PortCommand::START)?;
        let tables = dev.dma().pool("command tables", 128, 128, 0)?;
        Ok(Hba {
            dev,
            port,
            list,
            tables,
            slots: Mutex::default(),
            shared,
            failed: AtomicU32::new(0),
            _recovery: recovery,
        })
    }

    fn quiesce(hba: &Hba<'_>) -> Result<Quiesced, QuiesceError> {
        let stopped = hba.port.write(port::COMMAND, PortCommand::empty());
        let running = stopped.and_then(|()| hba.port.read(port::COMMAND));
        match running {
            Ok(command) if !command.contains(PortCommand::RUNNING) => Ok(Quiesced::stopped()),
            _ => Err(QuiesceError("the port runs on")),
        }
    }
}

/// The controller: port 2 is implemented. Commands complete when the test says so.
#[derive(Default)]
struct AhciModel {
    state: Mutex<Port>,
}

#[derive(Default)]
struct Port {
    list: u64,
    issued: u32,
    interrupt: u32,
    running: bool,
    /// Commands that were completed.
    commands: Vec<u32>,
    bus: Option<Bus>,
}

impl AhciModel {
    /// Completes the commands in `mask`, fetched through list and tables, or reports an error.
    fn complete(&self, mask: u32, error: bool) {
        let mut port = self.state.lock().unwrap();
        let bus = port.bus.clone().unwrap();
        let done = port.issued & mask;
        for slot in (0..32).filter(|slot| done & 1 << slot != 0) {
            let header = bus.read::<4>(port.list + 32 * slot);
            let table = u64::from(header[2]) | u64::from(header[3]) << 32;
            port.commands.push(bus.read::<1>(table)[0]);
        }
        if !error {
            port.issued &= !mask;
        }
        port.interrupt |= if error { 1 << 30 } else { 1 };
        bus.request_interrupt();
    }
}

impl Model for AhciModel {
    const SIZE: u64 = 0x300;

    fn read(&self, _: &Bus, offset: u64) -> u64 {
        let port = self.state.lock().unwrap();
        match offset {
            0x0c => 1 << 2,
            0x210 => port.interrupt.into(),
            0x218 => u64::from(port.running) * 0x8001,
            0x238 => port.issued.into(),
            _ => 0,
        }
    }

    fn write(&self, bus: &Bus, offset: u64, value: u64) {
        let mut port = self.state.lock().unwrap();
        match offset {
            0x200 => port.list = port.list >> 32 << 32 | value,
            0x204 => port.list = port.list & 0xffff_ffff | value << 32,
            0x210 => port.interrupt &= !(value as u32),
            0x218 => {
                port.running = value & 1 == 1;
                if !port.running {
                    port.issued = 0;
                }
            }
            0x238 => port.issued |= value as u32,
            _ => {}
        }
        port.bus = Some(bus.clone());
    }
}

#[test]
fn thirty_two_commands_are_in_flight_and_a_failed_one_is_recovered_from_by_work() {
    let model = Arc::new(AhciModel::default());
    let machine = board::bound(&model, Ahci);
    let hba = machine.client::<Ahci>("device").unwrap();
    hba.call(|hba| {
        let slots: Vec<_> = (0..32).map(|n| hba.submit(n).unwrap()).collect();
        assert_eq!((slots.len(), hba.submit(99)), (32, Err(Failed)), "all slots are in use");
        // They complete in an order of the device's own.
        model.complete(0xffff_0000, false);
        assert!(slots[16..].iter().all(|slot| hba.wait(*slot) == Ok(())));
        model.complete(0x0000_ffff, false);
        assert!(slots[..16].iter().all(|slot| hba.wait(*slot) == Ok(())));
        assert_eq!((hba.tables.in_use(), hba.shared.in_flight()), (0, 0));

        let slots = [hba.submit(40).unwrap(), hba.submit(41).unwrap()];
        model.complete(1, false);
        model.complete(2, true);
        assert_eq!([hba.wait(slots[1]), hba.wait(slots[0])], [Err(Failed), Ok(())]);
        assert!(model.state.lock().unwrap().running, "the work item has restarted the port");
    })
    .unwrap();
    assert_eq!(model.state.lock().unwrap().commands.len(), 34);
    board::unbind(&machine, "ahci");
}
