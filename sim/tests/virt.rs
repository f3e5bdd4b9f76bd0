//! The board `virt`: the PCI host bridge, `edu`, its transfers and interrupts.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::device::Nodes;
use bindery::env::{Env, Io, IrqControl, IrqLine, IrqSink, Trigger, Width};
use bindery::firmware::fdt;
use bindery::instrument::Instrument;
use bindery::iommu::{DomainKind, Grouping, Prot, StreamId};
use bindery::pci::{ConfigSpace, Ecam, FunctionId, Header, HostBridge, Space, Topology, Window, enumerate};
use bindery_sim::board::Board;
use bindery_sim::mmu::Mmu;
use bindery_sim::models::edu;
use bindery_sim::virt::{self, Virt};

const DATA: PhysAddr = PhysAddr(0x0c10_0000);
const BUFFER: u64 = 0x4_0000;
/// The lines of the two devices: pins turned by each bridge.
const LINE: IrqLine = IrqLine(37);
const SECOND_LINE: IrqLine = IrqLine(37);

/// Masks each line that is delivered, and counts.
struct Sink {
    board: Weak<Board>,
    taken: Mutex<Vec<u32>>,
    count: AtomicU32,
}

impl IrqSink for Sink {
    fn interrupt(&self, line: IrqLine) {
        self.board.upgrade().unwrap().irq(line, IrqControl::Mask).unwrap();
        self.taken.lock().unwrap().push(line.0);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

struct Bench {
    board: Arc<Board>,
    config: Ecam,
    found: Topology,
    sink: Arc<Sink>,
}

impl Bench {
    /// A board, enumerated, with every function decoding; bus mastering is off.
    fn new(virt: Virt) -> Self {
        let board = virt.build();
        let sink = Sink { board: Arc::downgrade(&board), taken: Mutex::default(), count: AtomicU32::new(0) };
        let sink = Arc::new(sink);
        board.connect(Arc::downgrade(&sink) as _);
        let config = Ecam::new(board.map_io(virt::ECAM.0, virt::ECAM.1).unwrap(), 0);
        let (phys, len) = virt::PCI_MEMORY;
        let windows = [Window { space: Space::Memory, bus: phys.0, phys, len }];
        let host = HostBridge { config: &config, segment: 0, buses: 0..=15, windows: &windows };
        let found = enumerate(&host).unwrap();
        assert_eq!(found.problems, []);
        let bench = Self { board, config, found, sink };
        for f in &bench.found.functions {
            bench.command(f.at, 2);
        }
        bench
    }

    fn command(&self, at: FunctionId, bits: u32) {
        self.config.write(at, 4, Width::W16, bits).unwrap();
    }

    /// The device behind the bridge (0) or the second one, and its registers.
    fn edu(&self, n: usize) -> (FunctionId, Arc<dyn Io>) {
        let edu = self.found.functions.iter().rev().filter(|f| f.id == edu::ID).nth(n).unwrap();
        let bar = PhysAddr(edu.bars[0].address.unwrap());
        (edu.at, self.board.map_io(bar, edu::WINDOW).unwrap())
    }

    /// Lets every function send requests.
    fn masters(&self) {
        self.found.functions.iter().for_each(|f| self.command(f.at, 6));
    }

    fn pass(&self, time: Duration) {
        let until = self.board.now() + time;
        while self.board.now() < until {
            self.board.advance(until);
        }
        self.board.run_pending();
    }

    fn ram(&self, at: PhysAddr) -> [u8; 8] {
        let mut bytes = [0; 8];
        self.board.ram().dma_read(at, &mut bytes, true).unwrap();
        bytes
    }
}

/// Starts a transfer of 8 bytes.
fn start(edu: &dyn Io, memory: u64, to_memory: bool, bits: u64) {
    let (from, to) = if to_memory { (BUFFER, memory) } else { (memory, BUFFER) };
    for (register, value) in [(0x80, from), (0x88, to), (0x90, 8), (0x98, 1 | u64::from(to_memory) << 1 | bits)] {
        edu.write(register, Width::W64, value).unwrap();
    }
}

fn read(edu: &dyn Io, at: u64) -> u64 {
    edu.read(at, Width::W32).unwrap()
}

#[test]
fn the_tree_describes_the_host_bridge_that_is_there() {
    let tree = fdt::describe(virt::DEVICE_TREE, &mut Nodes::new()).unwrap();
    let host = tree.devices.iter().find(|d| d.compatible.iter().any(|c| &**c == "pci-host-ecam-generic")).unwrap();
    let windows = Window::from_ranges(host.property("ranges").unwrap(), 2).unwrap();
    assert_eq!((windows[0].phys, windows[0].len), virt::PCI_MEMORY);
    assert!(host.property("reg").unwrap().ends_with(&[0x3f, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
}

#[test]
fn functions_and_bridges_are_found_and_get_addresses() {
    let bench = Bench::new(Virt::new().second_edu());
    let bridges: Vec<_> = bench.found.bridges.iter().map(|b| (b.at.to_string(), b.secondary, b.subordinate)).collect();
    assert_eq!(bridges, [("0000:00:01.0".into(), 1, 2), ("0000:01:00.0".into(), 2, 2)]);
    let (at, regs) = bench.edu(0);
    assert_eq!((at.to_string().as_str(), read(&*regs, 0)), ("0000:02:01.0", 0x0100_00ed));
    let (second, _) = bench.edu(1);
    assert_eq!(second.to_string(), "0000:00:02.0");
    let edu = bench.found.function(at).unwrap();
    assert_eq!((edu.header, edu.class, edu.bars[0].size), (Header::Device, 0xff00, edu::WINDOW));
    let none = FunctionId { device: 5, ..at };
    assert_eq!(bench.config.read(none, 0, Width::W32).unwrap(), u32::MAX);
    bench.board.assert_clean();
}

#[test]
fn registers_answer_only_where_every_bridge_passes_the_access_on() {
    let bench = Bench::new(Virt::new());
    let (at, regs) = bench.edu(0);
    regs.write(4, Width::W32, 0x55).unwrap();
    assert_eq!(read(&*regs, 4), 0xffff_ffaa);
    for bridge in bench.found.bridges.iter().map(|b| b.at).chain([at]) {
        bench.command(bridge, 0);
        assert_eq!(read(&*regs, 4), 0xffff_ffff, "{bridge} decodes nothing");
        bench.command(bridge, 2);
        assert_eq!(read(&*regs, 4), 0xffff_ffaa);
    }
    bench.board.assert_clean();
}

#[test]
fn transfers_go_both_ways_and_take_their_time() {
    let bench = Bench::new(Virt::new());
    bench.masters();
    let (_, regs) = bench.edu(0);
    bench.board.ram().dma_write(DATA, b"teaching", true).unwrap();
    start(&*regs, DATA.0, false, 0);
    bench.pass(Duration::from_millis(90));
    assert_eq!(read(&*regs, 0x98), 1, "it runs");
    regs.write(0x90, Width::W64, 3).unwrap();
    assert_eq!(read(&*regs, 0x90), 8, "and cannot be changed");
    bench.pass(Duration::from_millis(20));
    assert_eq!(read(&*regs, 0x98), 0);
    start(&*regs, (DATA.0 + 64) | (1 << 40), true, 0);
    bench.pass(edu::TRANSFER);
    assert_eq!(&bench.ram(DATA + 64), b"teaching", "an address has 28 bits: bit 40 is not driven");
}

#[test]
fn without_bus_mastering_anywhere_on_the_way_nothing_is_transferred() {
    let bench = Bench::new(Virt::new());
    let (at, regs) = bench.edu(0);
    bench.board.ram().dma_write(DATA, b"untouched"[..8].try_into().unwrap(), true).unwrap();
    for off in bench.found.bridges.iter().map(|b| b.at).chain([at]) {
        bench.masters();
        bench.command(off, 2);
        start(&*regs, DATA.0, true, 4);
        assert!(!bench.board.dma_reachable(DATA, 8), "{off}");
        bench.pass(edu::TRANSFER);
        assert_eq!((&bench.ram(DATA), read(&*regs, 0x24)), (b"untouche", 0x100), "{off}: the device does not notice");
        regs.write(0x64, Width::W32, 0x100).unwrap();
    }
    bench.masters();
    start(&*regs, DATA.0, true, 0);
    assert!(bench.board.dma_reachable(DATA, 8));
    bench.pass(edu::TRANSFER);
    assert_eq!(bench.ram(DATA), [0; 8]);
}

#[test]
fn pins_share_a_line_and_can_be_disabled() {
    let bench = Bench::new(Virt::new().second_edu());
    let ((at, one), (_, two)) = (bench.edu(0), bench.edu(1));
    assert_eq!(LINE, SECOND_LINE);
    bench.board.irq(LINE, IrqControl::Enable(Trigger::LevelHigh)).unwrap();
    one.write(0x60, Width::W32, 1).unwrap();
    two.write(0x60, Width::W32, 2).unwrap();
    bench.board.run_pending();
    assert_eq!(*bench.sink.taken.lock().unwrap(), [LINE.0]);
    two.write(0x64, Width::W32, 2).unwrap();
    assert!(bench.board.line_is_high(LINE), "the other one still raises it");
    let status = bench.config.read(at, 6, Width::W16).unwrap();
    assert_eq!(status & 8, 8, "the interrupt is pending");
    bench.command(at, 2 | 1 << 10);
    assert!(!bench.board.line_is_high(LINE));
    bench.command(at, 2);
    assert!(bench.board.line_is_high(LINE));
    one.write(0x64, Width::W32, 1).unwrap();
    assert!(!bench.board.line_is_high(LINE));
}

#[test]
fn messages_go_to_the_doorbell_as_transfers_do() {
    let bench = Bench::new(Virt::new());
    bench.masters();
    let (at, regs) = bench.edu(0);
    let line = IrqLine(virt::MESSAGE_LINES.0 + 3);
    bench.board.irq(line, IrqControl::Enable(Trigger::EdgeRising)).unwrap();
    let msi = bench.found.function(at).unwrap().capability(5, false).unwrap();
    let write = |offset, value| bench.config.write(at, msi + offset, Width::W32, value).unwrap();
    write(4, virt::DOORBELL.0 as u32);
    write(12, line.0);
    bench.config.write(at, msi + 2, Width::W16, 1).unwrap();
    regs.write(0x60, Width::W32, 1).unwrap();
    bench.board.run_pending();
    assert_eq!(*bench.sink.taken.lock().unwrap(), [line.0]);
    assert!(!bench.board.line_is_high(LINE), "instead of the pin");
    bench.board.irq(line, IrqControl::Unmask).unwrap();
    bench.command(at, 2);
    regs.write(0x60, Width::W32, 1).unwrap();
    bench.board.run_pending();
    assert_eq!(bench.sink.taken.lock().unwrap().len(), 1, "a message is a request of a bus master");
    bench.command(at, 6);
    bench.board.assert_clean();
    write(12, 5);
    regs.write(0x60, Width::W32, 1).unwrap();
    assert!(bench.board.take_model_errors()[0].what.contains("names no line"));
}

#[test]
fn a_device_that_is_pulled_out_in_the_middle_of_a_transfer_answers_ones_and_transfers_nothing() {
    for name in [virt::EDU, virt::BRIDGE, virt::ROOT_PORT] {
        let bench = Bench::new(Virt::new());
        bench.masters();
        let (at, regs) = bench.edu(0);
        bench.board.ram().dma_write(DATA, b"kept....", true).unwrap();
        start(&*regs, DATA.0, true, 4);
        bench.pass(Duration::from_millis(50));
        bench.board.unplug(name).unwrap();
        assert_eq!((read(&*regs, 0), bench.config.read(at, 0, Width::W32).unwrap()), (0xffff_ffff, u32::MAX), "{name}");
        bench.pass(edu::TRANSFER);
        assert_eq!((&bench.ram(DATA), bench.board.line_is_high(LINE)), (b"kept....", false), "{name}");
        bench.board.plug(name).unwrap();
        assert_eq!(read(&*regs, 0), 0xffff_ffff, "its BAR, or that of a bridge, is unassigned again");
    }
}

#[test]
fn a_reset_of_the_secondary_bus_ends_a_transfer() {
    let bench = Bench::new(Virt::new());
    bench.masters();
    let (at, regs) = bench.edu(0);
    bench.board.ram().dma_write(DATA, b"kept....", true).unwrap();
    start(&*regs, DATA.0, true, 0);
    let bridge = bench.found.bridge_to(at.bus).unwrap().at;
    // Held for a millisecond; a tenth of a second later the functions answer.
    bench.config.write(bridge, 0x3e, Width::W16, 0x40).unwrap();
    bench.pass(Duration::from_millis(1));
    bench.config.write(bridge, 0x3e, Width::W16, 0).unwrap();
    assert_eq!(bench.config.read(at, 4, Width::W16).unwrap(), 0xffff, "not yet");
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.config.read(at, 4, Width::W16).unwrap(), 0, "the command register is that of power-up");
    bench.pass(edu::TRANSFER);
    assert_eq!(&bench.ram(DATA), b"kept....");
}

#[test]
fn an_iommu_translates_transfers_and_refuses_them() {
    let mmu = Mmu::new("smmu", Grouping::PerStream);
    mmu.reset();
    let bench = Bench::new(Virt::new().behind(&mmu));
    bench.masters();
    let domain = mmu.iommu().domain(DomainKind::Strict).unwrap();
    mmu.iommu().attach(StreamId(0), &domain).unwrap();
    let (_, regs) = bench.edu(0);
    bench.board.ram().dma_write(DATA, b"kept....", true).unwrap();
    start(&*regs, DATA.0, true, 0);
    bench.pass(edu::TRANSFER);
    assert_eq!(&bench.ram(DATA), b"kept....");
    domain.map(DeviceAddr(0x5000), DATA, 4096, Prot::READ | Prot::WRITE).unwrap();
    start(&*regs, 0x5000, true, 0);
    bench.pass(edu::TRANSFER);
    assert_eq!(bench.ram(DATA), [0; 8]);
}

#[test]
fn a_transfer_outside_the_buffer_is_an_error_of_software() {
    let bench = Bench::new(Virt::new());
    bench.masters();
    let (_, regs) = bench.edu(0);
    for (at, count) in
        [(BUFFER - 1, 8), (BUFFER, 0), (BUFFER, 4096), (BUFFER + 4090, 8), (u64::MAX, 2), (BUFFER, u64::MAX)]
    {
        for (register, value) in [(0x80, at), (0x88, DATA.0), (0x90, count), (0x98, 3)] {
            regs.write(register, Width::W64, value).unwrap();
        }
        bench.pass(edu::TRANSFER);
        let errors = bench.board.take_model_errors();
        assert!(errors.len() == 1 && errors[0].what.contains("outside its buffer"), "{at:#x} {count}: {errors:?}");
    }
}
