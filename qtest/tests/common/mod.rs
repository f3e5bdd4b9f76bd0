//! Two targets with the same devices: the simulated board `virt`, and QEMU's machines.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::env::{Env, Instant, Io, IrqControl, IrqLine, IrqSink, Trigger, Width};
use bindery::machine::Machine;
use bindery::pci::{ConfigSpace, Ecam, FunctionId, HostBridge, Space, Topology, Window, enumerate};
use bindery_qtest::{Machine as Qemu, Options, QemuEnv};
use bindery_sim::board::Board;
use bindery_sim::models::edu;
use bindery_sim::virt::{self, Virt};

/// Bits of an address that `edu` drives here: RAM of the machine `virt` begins at 1 GiB.
pub const DMA_MASK: u64 = 0xffff_ffff;
/// Bytes of RAM for transfers.
pub const RAM: u64 = 4096;

/// A target, with what its face to the core does not have.
pub trait Target {
    fn env(&self) -> Arc<dyn Env>;
    /// ECAM window, and what the host bridge passes on.
    fn pci(&self) -> ((PhysAddr, u64), Vec<Window>);
    /// Address, data and line of a message.
    fn message(&self) -> (PhysAddr, u32, IrqLine);
    /// The line of the device behind root port 1 and a bridge, as device 1 there.
    fn pin(&self) -> IrqLine;
    /// RAM for transfers.
    fn ram(&self) -> PhysAddr;
    fn read_ram(&self, at: PhysAddr, bytes: &mut [u8]);
    fn write_ram(&self, at: PhysAddr, bytes: &[u8]);
    fn run_pending(&self);
    /// Adds what firmware describes: the host bridge at least.
    fn describe(&self, machine: &Arc<Machine>);
    fn advance(&self, until: Instant);
}

impl Target for Arc<Board> {
    fn env(&self) -> Arc<dyn Env> {
        Arc::clone(self) as _
    }
    fn pci(&self) -> ((PhysAddr, u64), Vec<Window>) {
        let (phys, len) = virt::PCI_MEMORY;
        (virt::ECAM, vec![Window { space: Space::Memory, bus: phys.0, phys, len }])
    }
    fn message(&self) -> (PhysAddr, u32, IrqLine) {
        let line = virt::MESSAGE_LINES.0 + 5;
        (virt::DOORBELL, line, IrqLine(line))
    }
    fn pin(&self) -> IrqLine {
        IrqLine(virt::PCI_LINES[2])
    }
    fn ram(&self) -> PhysAddr {
        virt::FRAMES_BASE + 0x10_0000
    }
    fn read_ram(&self, at: PhysAddr, bytes: &mut [u8]) {
        Board::ram(self).dma_read(at, bytes, true).unwrap();
    }
    fn write_ram(&self, at: PhysAddr, bytes: &[u8]) {
        Board::ram(self).dma_write(at, bytes, true).unwrap();
    }
    fn run_pending(&self) {
        Board::run_pending(self);
    }
    fn describe(&self, machine: &Arc<Machine>) {
        machine.add_device_tree(virt::DEVICE_TREE).unwrap();
    }
    fn advance(&self, until: Instant) {
        while self.now() < until {
            Board::advance(self, until);
        }
    }
}

impl Target for Arc<QemuEnv> {
    fn env(&self) -> Arc<dyn Env> {
        Arc::clone(self) as _
    }
    fn pci(&self) -> ((PhysAddr, u64), Vec<Window>) {
        let pci = QemuEnv::pci(self);
        (pci.ecam, pci.windows.clone())
    }
    fn message(&self) -> (PhysAddr, u32, IrqLine) {
        QemuEnv::message(self, 5).unwrap()
    }
    fn pin(&self) -> IrqLine {
        self.pin_line(1, 1)
    }
    fn ram(&self) -> PhysAddr {
        self.memory().ranges()[0].base + 0x10_0000
    }
    fn read_ram(&self, at: PhysAddr, bytes: &mut [u8]) {
        assert!(QemuEnv::read_ram(self, at, bytes));
    }
    fn write_ram(&self, at: PhysAddr, bytes: &[u8]) {
        assert!(QemuEnv::write_ram(self, at, bytes));
    }
    fn run_pending(&self) {
        QemuEnv::run_pending(self);
    }
    fn describe(&self, machine: &Arc<Machine>) {
        match self.device_tree() {
            Some(tree) => drop(machine.add_device_tree(tree).unwrap()),
            None => drop(machine.add_device(self.host_bridge()).unwrap()),
        }
    }
    fn advance(&self, until: Instant) {
        QemuEnv::advance(self, until);
    }
}

pub fn sim() -> Arc<Board> {
    Virt::new().dma_mask(DMA_MASK).build()
}

/// A machine with a root port, a bridge behind it, and `edu` behind that, as the board `virt` has.
pub fn options(machine: Qemu) -> Options {
    Options::new(machine)
        .device("pcie-root-port,id=rp,bus=pcie.0,addr=1,chassis=1,slot=1")
        .device("pcie-pci-bridge,id=br,bus=rp,addr=0")
        .device(&format!("edu,id=edu,bus=br,addr=1,dma_mask={DMA_MASK:#x}"))
}

pub fn qemu(machine: Qemu) -> Arc<QemuEnv> {
    Arc::new(QemuEnv::start(&options(machine)).unwrap())
}

/// Receiver of interrupts that masks each line as it is delivered.
pub struct Sink {
    env: Weak<dyn Env>,
    pub taken: Mutex<Vec<IrqLine>>,
    pub deadline: Mutex<Option<Instant>>,
    pub timers: Mutex<Vec<Instant>>,
    /// Time of the host that a delivery takes.
    pub takes: Mutex<Duration>,
}

impl IrqSink for Sink {
    fn interrupt(&self, line: IrqLine) {
        self.env.upgrade().unwrap().irq(line, IrqControl::Mask).unwrap();
        std::thread::sleep(*self.takes.lock().unwrap());
        self.taken.lock().unwrap().push(line);
    }
    fn next_deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap()
    }
    fn timer(&self) {
        *self.deadline.lock().unwrap() = None;
        self.timers.lock().unwrap().push(self.env.upgrade().unwrap().now());
    }
}

/// A target with its `edu` found and its registers mapped.
pub struct Bench<T> {
    pub target: T,
    pub env: Arc<dyn Env>,
    pub config: Ecam,
    pub found: Topology,
    pub at: FunctionId,
    pub regs: Arc<dyn Io>,
    /// Offset of the MSI capability.
    pub msi: u16,
    pub sink: Arc<Sink>,
}

impl<T: Target> Bench<T> {
    /// Enumerates, and lets all functions decode and the bridges send requests.
    pub fn new(target: T) -> Self {
        let env = target.env();
        let sink = Arc::new(Sink {
            env: Arc::downgrade(&env),
            taken: Mutex::default(),
            deadline: Mutex::default(),
            timers: Mutex::default(),
            takes: Mutex::default(),
        });
        env.connect(Arc::downgrade(&sink) as _);
        let ((base, len), windows) = target.pci();
        let config = Ecam::new(env.map_io(base, len).unwrap(), 0);
        let last = ((len >> 20) - 1) as u8;
        let host = HostBridge { config: &config, segment: 0, buses: 0..=last, windows: &windows };
        let found = enumerate(&host).unwrap();
        for bridge in &found.bridges {
            config.write(bridge.at, 4, Width::W16, 6).unwrap();
        }
        let edu = found.functions.iter().find(|f| f.id == edu::ID).expect("edu is there");
        let at = edu.at;
        let msi = edu.capability(5, false).unwrap();
        config.write(at, 4, Width::W16, 2).unwrap();
        let regs = env.map_io(PhysAddr(edu.bars[0].address.unwrap()), edu::WINDOW).unwrap();
        Self { target, env, config, found, at, regs, msi, sink }
    }

    pub fn read(&self, offset: u64) -> u64 {
        self.regs.read(offset, Width::W32).unwrap()
    }

    pub fn write(&self, offset: u64, value: u64) {
        self.regs.write(offset, Width::W32, value).unwrap();
    }

    pub fn command(&self, bits: u32) {
        self.config.write(self.at, 4, Width::W16, bits).unwrap();
    }

    /// Puts address and data of the target's message into the capability, and switches messages on or off.
    pub fn messages(&self, on: bool) {
        let (address, data, _) = self.target.message();
        let write = |offset: u16, value: u64| {
            self.config.write(self.at, self.msi + offset, Width::W32, value as u32).unwrap();
        };
        write(4, address.0);
        write(8, address.0 >> 32);
        write(12, data.into());
        self.config.write(self.at, self.msi + 2, Width::W16, on.into()).unwrap();
    }

    pub fn enable_lines(&self) {
        self.env.irq(self.target.pin(), IrqControl::Enable(Trigger::LevelHigh)).unwrap();
        self.env.irq(self.target.message().2, IrqControl::Enable(Trigger::EdgeRising)).unwrap();
    }

    pub fn transfer(&self, from: u64, to: u64, count: u64, command: u64) {
        for (register, value) in [(0x80, from), (0x88, to), (0x90, count), (0x98, command)] {
            self.regs.write(register, Width::W64, value).unwrap();
        }
    }

    /// Lets time pass until `done`. Fails the test when it is not after a second of device time.
    pub fn wait_for(&self, mut done: impl FnMut() -> bool) {
        for _ in 0..200 {
            if done() {
                return;
            }
            self.target.advance(self.env.now() + Duration::from_millis(5));
        }
        panic!("the device does not become ready");
    }
}
