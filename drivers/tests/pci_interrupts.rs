//! Interrupts of functions behind a host bridge: the board `virt`.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bindery::addr::PhysAddr;
use bindery::binding::{Bound, Mmio};
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Env, EnvError, Io, IoError, IrqLine, Width};
use bindery::event::EventKind;
use bindery::irq::Irq;
use bindery::machine::{Machine, Policy};
use bindery::pci::{ConfigSpace, Ecam, FunctionId};
use bindery_drivers::pci_host::PciHost;
use bindery_sim::board::Board;
use bindery_sim::interpose::Interpose;
use bindery_sim::virt::{self, Virt};
use common::Rig;

const HOST: &str = "3f000000.pcie";
const FIRST: (&str, FunctionId) = ("0000:02:01.0", FunctionId { segment: 0, bus: 2, device: 1, function: 0 });
const SECOND: (&str, FunctionId) = ("0000:00:02.0", FunctionId { segment: 0, bus: 0, device: 2, function: 0 });
/// The line of both.
const LINE: u32 = virt::PCI_LINES[2];
/// Registers of `edu`: interrupt status, request, acknowledgement.
const STATUS: u64 = 0x24;
const RAISE: u64 = 0x60;
const ACK: u64 = 0x64;

/// Counts its interrupts.
struct Counting;

struct Counter<'b> {
    regs: Mmio<'b>,
    taken: Arc<AtomicU32>,
    /// Calls of the handler.
    asked: Arc<AtomicU32>,
    _irq: Irq<'b>,
}

impl Driver for Counting {
    const NAME: &'static str = "counting";
    const MATCHES: &'static [Match] = &[Match::pci(0x1234, 0x11e8)];
    type Data<'b> = Counter<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Counter<'b>, ProbeError> {
        let regs = dev.mmio(0)?;
        let [taken, asked] = [(); 2].map(|()| Arc::new(AtomicU32::new(0)));
        let (in_handler, count, calls) = (regs.handle(), Arc::clone(&taken), Arc::clone(&asked));
        let irq = dev.request_irq(0, move || {
            calls.fetch_add(1, Ordering::Relaxed);
            match in_handler.read(STATUS, Width::W32) {
                Ok(0 | 0xffff_ffff) | Err(_) => IrqReturn::None,
                Ok(bits) => {
                    let _ = in_handler.write(ACK, Width::W32, bits);
                    count.fetch_add(1, Ordering::Relaxed);
                    IrqReturn::Handled
                }
            }
        })?;
        Ok(Counter { regs, taken, asked, _irq: irq })
    }

    fn quiesce(_: &Counter<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Takes its interrupt during probe alone, twice, and leaves its device to ask for more.
struct InProbe;

impl Driver for InProbe {
    const NAME: &'static str = "in-probe";
    const MATCHES: &'static [Match] = &[Match::pci(0x1234, 0x11e8)];
    type Data<'b> = Mmio<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Mmio<'b>, ProbeError> {
        let group = dev.devres_group();
        group.bound().request_irq(0, || IrqReturn::None)?;
        let inner = group.bound().devres_group();
        inner.bound().request_irq(0, || IrqReturn::None)?;
        inner.release();
        if dev.resources().iter().filter(|r| r.1 == "irq").count() != 1 {
            return Err(ProbeError::Device("one of the two is left"));
        }
        group.release();
        Ok(dev.mmio(0)?)
    }

    fn quiesce(_: &Mmio<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Gives its interrupt back while its device requests one, and with the line masked: at the end of its probe, and with its binding.
struct LeavesRequest;

impl Driver for LeavesRequest {
    const NAME: &'static str = "leaves-request";
    const MATCHES: &'static [Match] = &[Match::pci(0x1234, 0x11e8)];
    type Data<'b> = (Mmio<'b>, Irq<'b>);

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
        let regs = dev.mmio(0)?;
        let group = dev.devres_group();
        group.bound().request_irq(0, || IrqReturn::None)?.mask();
        regs.write32(RAISE, 1)?;
        group.release();
        regs.write32(ACK, 1)?;
        Ok((regs, dev.request_irq(0, || IrqReturn::None)?))
    }

    fn quiesce((regs, irq): &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
        irq.mask();
        regs.write32(RAISE, 1).map_err(|_| QuiesceError("gone"))?;
        Ok(Quiesced::stopped())
    }
}

/// Sees whether another CPU would take an interrupt right before a write of configuration space, by which a pin is switched.
struct Watched {
    board: Arc<Board>,
    would_interrupt: Arc<AtomicU32>,
}

struct WatchedIo {
    io: Arc<dyn Io>,
    board: Arc<Board>,
    would_interrupt: Arc<AtomicU32>,
}

impl Interpose for Watched {
    fn inner(&self) -> &dyn Env {
        &*self.board
    }

    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        let io = self.board.map_io(base, len)?;
        let (board, would_interrupt) = (Arc::clone(&self.board), Arc::clone(&self.would_interrupt));
        Ok(if base == virt::ECAM.0 { Arc::new(WatchedIo { io, board, would_interrupt }) } else { io })
    }
}

impl Io for WatchedIo {
    fn size(&self) -> u64 {
        self.io.size()
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        self.io.read(offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        if self.board.line_is_high(IrqLine(LINE)) && self.board.line_masked(IrqLine(LINE)) == Some(false) {
            self.would_interrupt.fetch_add(1, Ordering::Relaxed);
        }
        self.io.write(offset, width, value)
    }
}

impl Counter<'_> {
    /// Requests an interrupt. Returns the number of those that came so far.
    fn raise(&self, board: &bindery_sim::board::Board) -> u32 {
        self.regs.write32(RAISE, 1).unwrap();
        board.run_pending();
        self.taken.load(Ordering::Relaxed)
    }
}

/// The board with two devices, by this device tree.
fn rig(tree: &[u8]) -> Rig {
    rig_on(tree, |board| board)
}

/// The same on the env that `env` makes of the board.
fn rig_on(tree: &[u8], env: impl FnOnce(Arc<Board>) -> Arc<dyn Env>) -> Rig {
    let board = Virt::new().second_edu().build();
    board.keep_events(1 << 16);
    let machine = Machine::with_instrument(env(Arc::clone(&board)), Policy::default(), Arc::clone(&board) as _);
    machine.register(PciHost::default());
    machine.register(Counting);
    machine.add_device_tree(tree).unwrap();
    machine.settle();
    Rig { board, machine }
}

/// Interrupt Disable of the function's command register.
fn pin_is_off(rig: &Rig, at: FunctionId) -> bool {
    let config = Ecam::new(rig.board.map_io(virt::ECAM.0, virt::ECAM.1).unwrap(), 0);
    config.read(at, 4, Width::W16).unwrap() & 1 << 10 != 0
}

fn raise(rig: &Rig, device: &str) -> u32 {
    rig.machine.client::<Counting>(device).unwrap().call(|c| c.raise(&rig.board)).unwrap()
}

#[test]
fn functions_share_a_line_by_the_interrupt_map_and_each_gets_its_own_requests() {
    let rig = rig(virt::DEVICE_TREE);
    for device in [FIRST.0, SECOND.0] {
        assert_eq!(rig.driver(device), Some("counting"));
        for n in 1..=3 {
            assert_eq!(raise(&rig, device), n, "{device}");
        }
    }
    let lines = rig.machine.interrupt_lines();
    assert_eq!(lines.iter().map(|l| (l.line, l.users.len())).collect::<Vec<_>>(), [(LINE, 2)]);
    // One that leaves takes its pin with it, and not the line.
    rig.machine.unbind(FIRST.0, "counting").unwrap();
    assert_eq!(raise(&rig, SECOND.0), 4);
    assert!(!rig.board.line_is_high(IrqLine(LINE)));
    rig.assert_well();
}

#[test]
fn a_pin_is_off_while_no_driver_has_requested_it() {
    let rig = rig(virt::DEVICE_TREE);
    let off = |on: &str| (pin_is_off(&rig, FIRST.1), pin_is_off(&rig, SECOND.1), on.to_owned());
    assert_eq!(off("bound"), (false, false, "bound".into()));
    rig.machine.unbind(FIRST.0, "counting").unwrap();
    assert_eq!(off("unbound"), (true, false, "unbound".into()));
    rig.machine.bind(FIRST.0, "counting").unwrap();
    assert_eq!(off("again"), (false, false, "again".into()));
    // Removed, and found anew.
    rig.machine.unbind(HOST, PciHost::NAME).unwrap();
    assert_eq!(off("removed"), (true, true, "removed".into()));
    rig.machine.unregister("counting");
    rig.machine.bind(HOST, PciHost::NAME).unwrap();
    rig.machine.settle();
    assert_eq!(off("without a driver"), (true, true, "without a driver".into()));
    rig.assert_well();
}

#[test]
fn a_pin_that_its_driver_has_given_back_does_not_ask_the_others_on_its_line() {
    let rig = rig(virt::DEVICE_TREE);
    rig.machine.unbind(FIRST.0, "counting").unwrap();
    rig.machine.register(InProbe);
    rig.machine.bind(FIRST.0, "in-probe").unwrap();
    assert!(pin_is_off(&rig, FIRST.1));
    rig.machine.client::<InProbe>(FIRST.0).unwrap().call(|regs| regs.write32(RAISE, 1).unwrap()).unwrap();
    rig.board.run_pending();
    assert!(!rig.board.line_is_high(IrqLine(LINE)));
    assert_eq!(raise(&rig, SECOND.0), 1);
    rig.machine.unbind(FIRST.0, "in-probe").unwrap();
    rig.assert_well();
}

#[test]
fn a_pin_that_leaves_with_a_request_asks_nobody_else_on_its_line() {
    let would_interrupt = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&would_interrupt);
    let rig = rig_on(virt::DEVICE_TREE, |board| Arc::new(Watched { board, would_interrupt: seen }).env());
    rig.machine.unbind(FIRST.0, "counting").unwrap();
    let asked = || rig.machine.client::<Counting>(SECOND.0).unwrap().call(|c| c.asked.load(Ordering::Relaxed)).unwrap();
    assert_eq!((raise(&rig, SECOND.0), asked()), (1, 1));
    rig.machine.register(LeavesRequest);
    rig.machine.bind(FIRST.0, "leaves-request").unwrap();
    rig.machine.unbind(FIRST.0, "leaves-request").unwrap();
    rig.board.run_pending();
    assert_eq!((asked(), would_interrupt.load(Ordering::Relaxed)), (1, 0), "P8: for a device that has left");
    assert_eq!((raise(&rig, SECOND.0), asked()), (2, 2));
    rig.assert_well();
}

#[test]
fn a_function_without_an_entry_in_the_map_is_reported_and_has_no_interrupt() {
    // As if the property had another name.
    let mut tree = virt::DEVICE_TREE.to_vec();
    let name = b"\0interrupt-map\0";
    let at = tree.windows(name.len()).position(|w| w == name).unwrap();
    tree[at + 1] = b'I';
    let rig = rig(&tree);
    let logged: Vec<_> = rig
        .event_kinds(HOST)
        .into_iter()
        .filter_map(|kind| match kind {
            EventKind::Log { text } => Some(text),
            _ => None,
        })
        .collect();
    let why = "on the host bridge's bus, for which interrupt-map has no usable entry";
    assert_eq!(
        logged,
        [
            format!("{}: interrupt pin: 1 is pin 1 of 0000:00:02.0 {why}", SECOND.0),
            format!("{}: interrupt pin: 1 is pin 2 of 0000:00:01.0 {why}", FIRST.0),
        ]
    );
    assert_eq!((rig.driver(FIRST.0), rig.driver(SECOND.0)), (None, None), "their driver needs it");
    assert!(pin_is_off(&rig, FIRST.1) && pin_is_off(&rig, SECOND.1));
    rig.assert_well();
}
