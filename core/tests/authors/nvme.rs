//! An `NVMe` controller: an admin queue, one queue for each CPU that is torn down by itself, and a time-out as a work item.
//!
//! Offsets and fields are those of NVM Express 1.4: 3.1 (registers), 4.2 and 4.6 (queue entries), 5.5 (I/O queue creation).

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bindery::binding::{Bound, Devres, Mmio, Register, RegisterWindow};
use bindery::dma::CoherentSlice;
use bindery::driver::{Client, ClientService, Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced, Work};
use bindery::env::{Barrier, IoError};
use bindery::field;
use bindery::sync::{Completion as Event, SpinLock};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::board::{self, Bus, Model};

const CAP: Register<u64, 0x00> = Register::new();
const CC: Register<u32, 0x14> = Register::new();
const CSTS: Register<u32, 0x1c> = Register::new();
const AQA: Register<u32, 0x24> = Register::new();
const ASQ: Register<u64, 0x28> = Register::new();
const ACQ: Register<u64, 0x30> = Register::new();
/// The only register of a doorbell.
const DOORBELL: Register<u32, 0x00> = Register::new();

const ENABLE: u32 = 1 << 0;
const READY: u32 = 1 << 0;
const DEPTH: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Command {
    opcode: u8,
    flags: u8,
    id: u16,
    rest: [u32; 5],
    prp: [u64; 2],
    arguments: [u32; 6],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Completion {
    result: u32,
    reserved: u32,
    head: u16,
    queue: u16,
    id: u16,
    /// Bit 0: the phase.
    status: u16,
}

const DELETE_SQ: u8 = 0;
const CREATE_SQ: u8 = 1;
const CREATE_CQ: u8 = 5;
const READ: u8 = 2;

/// A pair of rings, and their doorbells: all that a queue is made of.
struct Rings<'b> {
    commands: CoherentSlice<'b, Command>,
    completions: CoherentSlice<'b, Completion>,
    tail_doorbell: RegisterWindow<Mmio<'b>, 4>,
    head_doorbell: RegisterWindow<Mmio<'b>, 4>,
    /// Number of commands and of completions.
    state: SpinLock<(usize, usize)>,
    done: Event,
}

type Queue<'b> = Devres<'b, Rings<'b>>;

fn queue<'b>(dev: Bound<'b>, regs: &Mmio<'b>, id: u64) -> Result<Queue<'b>, ProbeError> {
    dev.devres(|dev| {
        Ok(Rings {
            commands: dev.dma().coherent_slice(DEPTH)?,
            completions: dev.dma().coherent_slice(DEPTH)?,
            tail_doorbell: regs.window(0x1000 + 8 * id)?,
            head_doorbell: regs.window(0x1004 + 8 * id)?,
            state: SpinLock::default(),
            done: Event::new(),
        })
    })
}

impl Rings<'_> {
    fn submit(&self, command: &Command) -> Result<(), IoError> {
        let mut state = self.state.lock();
        self.commands.write(state.0, command);
        state.0 = (state.0 + 1) % DEPTH;
        self.commands.publish();
        self.tail_doorbell.write(DOORBELL, state.0 as u32)
    }

    /// Takes completions that have arrived; the number of them. Each phase lasts one round of the ring.
    fn reap(&self) -> Result<usize, IoError> {
        let mut state = self.state.lock();
        let mut count = 0;
        loop {
            let (index, phase) = (state.1 % DEPTH, 1 ^ (state.1 / DEPTH % 2) as u16);
            if self.completions.read_field(index, field!(Completion, status)) & 1 != phase {
                break;
            }
            // The controller writes the status last: nothing of the entry was read before.
            self.completions.barrier(Barrier::Read);
            assert!(self.completions.read_field(index, field!(Completion, id)) < 0x100);
            state.1 += 1;
            count += 1;
            self.done.complete();
        }
        if count > 0 {
            self.head_doorbell.write(DOORBELL, (state.1 % DEPTH) as u32)?;
        }
        Ok(count)
    }
}

struct Nvme;

struct Controller<'b> {
    dev: Bound<'b>,
    regs: Mmio<'b>,
    global: RegisterWindow<Mmio<'b>, 0x38>,
    admin: Queue<'b>,
    /// An interrupt of the admin queue has arrived.
    arrived: Arc<Event>,
    queues: Mutex<Vec<Queue<'b>>>,
    timeout: Work<'b>,
    timed_out: AtomicBool,
    next_id: AtomicU16,
}

#[derive(Debug, PartialEq)]
enum NvmeError {
    Io(IoError),
    TimedOut,
    Gone,
    Probe,
}

impl From<IoError> for NvmeError {
    fn from(error: IoError) -> Self {
        Self::Io(error)
    }
}

impl Controller<'_> {
    fn command(&self, opcode: u8, address: u64, argument: u32) -> Command {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) % 0x100;
        Command { opcode, flags: 0, id, rest: [0; 5], prp: [address, 0], arguments: [argument, 0, 0, 0, 0, 0] }
    }

    /// Runs a command on the admin queue. The time-out is a work item that resets the controller.
    fn admin(&self, opcode: u8, address: u64, argument: u32) -> Result<(), NvmeError> {
        self.admin.submit(&self.command(opcode, address, argument))?;
        self.timeout.schedule_after(TIMEOUT);
        while self.admin.reap()? == 0 {
            self.dev.system_clock().wait_for(&self.arrived, Duration::from_millis(500));
            if self.timed_out.load(Ordering::Acquire) {
                return Err(NvmeError::TimedOut);
            }
        }
        self.timeout.cancel();
        Ok(())
    }

    fn add_queue(&self) -> Result<(), NvmeError> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let id = queues.len() as u64 + 1;
        let queue = queue(self.dev, &self.regs, id).map_err(|_| NvmeError::Probe)?;
        self.admin(CREATE_CQ, queue.completions.device_addr().0, id as u32)?;
        self.admin(CREATE_SQ, queue.commands.device_addr().0, id as u32)?;
        queues.push(queue);
        Ok(())
    }

    /// Tears one queue down while the others work: its memory is released, once the controller has deleted the queue.
    fn remove_queue(&self) -> Result<(), NvmeError> {
        let queue = self.queues.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or(NvmeError::Gone)?;
        self.admin(DELETE_SQ, 0, 0)?;
        queue.release();
        Ok(())
    }
}

impl Driver for Nvme {
    const NAME: &'static str = "nvme";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,device")];
    type Data<'b> = Controller<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Controller<'b>, ProbeError> {
        let regs = dev.mmio(0)?;
        let global = regs.window::<0x38>(0)?;
        global.write(CC, 0)?;
        dev.mark_quiesced(Quiesced::stopped());
        assert_eq!(global.read(CAP)? & 0xffff, DEPTH as u64 - 1);
        let admin = queue(dev, &regs, 0)?;
        global.write(AQA, ((DEPTH as u32 - 1) << 16) | (DEPTH as u32 - 1))?;
        global.write(ASQ, admin.commands.device_addr().0)?;
        global.write(ACQ, admin.completions.device_addr().0)?;
        let timeout = dev.work::<Self>("admin time-out", |nvme| {
            nvme.dev.log(format_args!("a command timed out; resetting the controller"));
            let _ = nvme.global.write(CC, 0);
            nvme.timed_out.store(true, Ordering::Release);
        })?;
        let arrived = Arc::<Event>::default();
        let told = Arc::clone(&arrived);
        // Of the admin queue; the others are polled by their users. Those who wait look into the ring.
        dev.request_irq(0, move || {
            told.complete();
            IrqReturn::Handled
        })?;
        self.provide_client::<dyn Sectors>(dev)?;
        global.write(CC, ENABLE)?;
        if global.read(CSTS)? & READY == 0 {
            return Err(ProbeError::Device("the controller does not get ready"));
        }
        let (queues, timed_out) = (Mutex::default(), AtomicBool::new(false));
        Ok(Controller { dev, regs, global, admin, arrived, queues, timeout, timed_out, next_id: AtomicU16::new(0) })
    }

    fn quiesce(nvme: &Controller<'_>) -> Result<Quiesced, QuiesceError> {
        nvme.global.write(CC, 0).map_err(|_| QuiesceError("the registers are gone"))?;
        Ok(Quiesced::stopped())
    }
}

/// What users of the controller see.
trait Sectors: Send + Sync {
    fn read(&self, lba: u32) -> Result<(), NvmeError>;
}

impl Sectors for Controller<'_> {
    fn read(&self, lba: u32) -> Result<(), NvmeError> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.first().ok_or(NvmeError::Gone)?;
        queue.submit(&self.command(READ, 0, lba))?;
        queue.reap()?;
        if self.dev.system_clock().wait_for(&queue.done, TIMEOUT) { Ok(()) } else { Err(NvmeError::TimedOut) }
    }
}

impl<D: Driver> Sectors for Client<D>
where
    for<'b> D::Data<'b>: Sectors,
{
    fn read(&self, lba: u32) -> Result<(), NvmeError> {
        self.call(|data| data.read(lba)).unwrap_or(Err(NvmeError::Gone))
    }
}

impl<D: Driver> ClientService<D> for dyn Sectors
where
    for<'b> D::Data<'b>: Sectors,
{
    fn from_client(client: Client<D>) -> Arc<Self> {
        Arc::new(client)
    }
}

/// The controller: it completes each command at once, unless it is silent.
#[derive(Default)]
struct NvmeModel {
    state: Mutex<ModelState>,
    silent: AtomicBool,
}

#[derive(Default)]
struct ModelState {
    enabled: bool,
    /// Addresses of the rings by queue, and the numbers of commands taken and completed.
    queues: [(u64, u64, usize); 4],
}

impl Model for NvmeModel {
    const SIZE: u64 = 0x2000;

    fn read(&self, _: &Bus, offset: u64) -> u64 {
        match offset {
            0x00 => DEPTH as u64 - 1,
            0x1c => self.state.lock().unwrap().enabled.into(),
            _ => 0,
        }
    }

    fn write(&self, bus: &Bus, offset: u64, value: u64) {
        let mut state = self.state.lock().unwrap();
        match offset {
            0x14 => {
                let (commands, completions, _) = state.queues[0];
                *state = ModelState { enabled: value & 1 == 1, ..ModelState::default() };
                state.queues[0] = (commands, completions, 0);
            }
            0x28 => state.queues[0].0 = value,
            0x30 => state.queues[0].1 = value,
            0x1000.. if offset.is_multiple_of(8) && state.enabled && !self.silent.load(Ordering::Relaxed) => {
                let id = (offset as usize - 0x1000) / 8;
                let (commands, completions, count) = state.queues[id];
                let command = bus.read::<16>(commands + 64 * (count % DEPTH) as u64);
                let address = u64::from(command[6]) | u64::from(command[7]) << 32;
                match (command[0] & 0xff) as u8 {
                    CREATE_CQ if id == 0 => state.queues[command[10] as usize] = (0, address, 0),
                    CREATE_SQ if id == 0 => state.queues[command[10] as usize].0 = address,
                    _ => {}
                }
                state.queues[id].2 += 1;
                let phase = 1 ^ (count / DEPTH % 2) as u32;
                let at = completions + 16 * (count % DEPTH) as u64;
                bus.write(at, &[0, 0, 0]);
                bus.write(at + 12, &[command[0] >> 16 | phase << 16]);
                if id == 0 {
                    bus.request_interrupt();
                }
            }
            _ => {}
        }
    }
}

#[test]
#[expect(clippy::redundant_closure_for_method_calls, reason = "the methods are of one lifetime only")]
fn queues_come_and_go_while_the_controller_works_and_a_dead_one_is_reset_by_work() {
    let model = Arc::new(NvmeModel::default());
    let machine = board::bound(&model, Nvme);
    let nvme = machine.client::<Nvme>("device").unwrap();
    let pages = || machine.memory().frames().in_use();
    let before = pages();
    for _ in 0..3 {
        nvme.call(|nvme| nvme.add_queue()).unwrap().unwrap();
    }
    assert_eq!(pages(), before + 6);
    nvme.call(|nvme| nvme.remove_queue()).unwrap().unwrap();
    assert_eq!(pages(), before + 4, "the memory of that queue, and of no other");

    let sectors = machine.service::<dyn Sectors>("device").unwrap();
    for lba in 0..10 {
        assert_eq!(sectors.read(lba), Ok(()), "{lba}");
    }
    model.silent.store(true, Ordering::Relaxed);
    assert_eq!(nvme.call(|nvme| nvme.add_queue()), Ok(Err(NvmeError::TimedOut)));
    assert!(!model.state.lock().unwrap().enabled, "the work item has reset the controller");
    board::unbind(&machine, "nvme");
    assert_eq!(sectors.read(0), Err(NvmeError::Gone), "P5");
}
