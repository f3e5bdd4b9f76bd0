//! MSI-X of a device that others wrote: QEMU's `e1000e`, a network card with five vectors, at which software can cause an interrupt.
//!
//! Registers by Intel's datasheet of the 82574 (revision 3.4, 10.2.4): interrupt causes, masks, and their vectors.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::binding::{Bound, DevresGroup, Mmio};
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Env, Io, Width};
use bindery::machine::{Handle, Machine, Policy};
use bindery::pci::{ConfigSpace, Ecam, FunctionId, HostBridge, enumerate};
use bindery::vectors::{VectorError, VectorKind};
use bindery_drivers::pci_host::PciHost;
use bindery_qtest::{Machine as Qemu, Options, QemuEnv};
use common::Target;

const CARD: &str = "0000:00:05.0";
const AT: FunctionId = FunctionId { segment: 0, bus: 0, device: 5, function: 0 };
/// Interrupt causes: read and cleared, set by software, mask set and clear, and the vector of each cause.
const ICR: u64 = 0xc0;
const ICS: u64 = 0xc8;
const IMS: u64 = 0xd0;
const IMC: u64 = 0xd8;
const IVAR: u64 = 0xe4;
/// Causes of the two receive queues, with vectors of their own.
const CAUSES: [u32; 2] = [1 << 20, 1 << 21];

/// A driver of the card's interrupts and nothing else.
struct Card {
    counts: [Arc<AtomicUsize>; 2],
    told: Arc<Mutex<Option<(usize, VectorKind)>>>,
}

struct Vectors<'b> {
    dev: Bound<'b>,
    regs: Mmio<'b>,
    counts: [Arc<AtomicUsize>; 2],
    /// The request of each vector, which is masked at the card while there is none.
    requests: Mutex<[Option<DevresGroup<'b>>; 2]>,
}

impl Vectors<'_> {
    fn request(&self, n: usize) {
        let group = self.dev.devres_group();
        let count = Arc::clone(&self.counts[n]);
        let handler = move || {
            count.fetch_add(1, Ordering::SeqCst);
            IrqReturn::Handled
        };
        group.bound().request_irq(n, handler).unwrap();
        self.requests.lock().unwrap()[n] = Some(group);
    }

    fn release(&self, n: usize) {
        let group = self.requests.lock().unwrap()[n].take();
        group.unwrap().release();
    }

    fn cause(&self, n: usize) {
        self.regs.write32(ICR, CAUSES[n]).unwrap();
        self.regs.write32(ICS, CAUSES[n]).unwrap();
    }
}

impl Driver for Card {
    const NAME: &'static str = "card";
    const MATCHES: &'static [Match] = &[Match::pci(0x8086, 0x10d3)];
    type Data<'b> = Vectors<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Vectors<'b>, ProbeError> {
        let regs = dev.mmio(0)?;
        regs.write32(IMC, u32::MAX)?;
        // Nobody has set up its queues: it may access memory, and so send messages.
        dev.mark_quiesced(Quiesced::stopped());
        let refused = dev.vectors_by(VectorKind::MsiX, 6..=6).map(drop).unwrap_err();
        let few = VectorError::TooFew { device: dev.name().into(), min: 6, msi_x: 5, msi: 1, lines: 1, given: 0 };
        assert_eq!(refused.to_string(), few.to_string());
        let found = dev.vectors(2..=3)?;
        *self.told.lock().unwrap() = Some((found.len(), found.kind()));
        // Four bits for each cause: it has a vector, and which.
        regs.write32(IVAR, 0x8 | 0x9 << 4)?;
        regs.write32(IMS, CAUSES[0] | CAUSES[1])?;
        let card = Vectors { dev, regs, counts: self.counts.clone(), requests: Mutex::default() };
        card.request(0);
        card.request(1);
        Ok(card)
    }

    fn quiesce(card: &Vectors<'_>) -> Result<Quiesced, QuiesceError> {
        card.regs.write32(IMC, u32::MAX).map_err(|_| QuiesceError("the card is gone"))?;
        Ok(Quiesced::stopped())
    }
}

struct Rig {
    target: Arc<QemuEnv>,
    machine: Handle,
    counts: [Arc<AtomicUsize>; 2],
    told: Arc<Mutex<Option<(usize, VectorKind)>>>,
    config: Ecam,
    /// Offset of the capability; the table and the pending bits.
    capability: u16,
    table: Arc<dyn Io>,
    pending: Arc<dyn Io>,
}

impl Rig {
    fn new(machine: Qemu) -> Self {
        let options = Options::new(machine).device("e1000e,id=card,bus=pcie.0,addr=5");
        let target = Arc::new(QemuEnv::start(&options).unwrap());
        let ((base, len), windows) = target.pci();
        let config = Ecam::new(target.map_io(base, len).unwrap(), 0);
        let (counts, told) = (<[Arc<AtomicUsize>; 2]>::default(), Arc::default());
        let machine = Machine::new(target.env(), Policy::default());
        machine.register(PciHost::default());
        machine.register(Card { counts: counts.clone(), told: Arc::clone(&told) });
        target.describe(&machine);
        machine.settle();
        let host = HostBridge { config: &config, segment: 0, buses: 0..=((len >> 20) - 1) as u8, windows: &windows };
        let found = enumerate(&host).unwrap();
        let card = found.functions.iter().find(|f| f.at == AT).expect("the card is there");
        let msi_x = card.msi_x.expect("it has MSI-X");
        assert_eq!(msi_x.vectors, 5);
        let place = |(bar, offset): (u8, u32), len| {
            let bar = card.bars.iter().find(|b| b.index == usize::from(bar)).unwrap();
            target.map_io(PhysAddr(bar.address.unwrap() + u64::from(offset)), len).unwrap()
        };
        let (table, pending) = (place(msi_x.table, 5 * 16), place(msi_x.pending, 8));
        Self { target, machine, counts, told, config, capability: msi_x.at, table, pending }
    }

    /// Message control: enabled, and all masked.
    fn control(&self) -> u32 {
        self.config.read(AT, self.capability + 2, Width::W16).unwrap() & 0xc000
    }

    fn masks(&self) -> Vec<u64> {
        (0..5).map(|n| self.table.read(n * 16 + 12, Width::W32).unwrap() & 1).collect()
    }

    fn pending(&self) -> u64 {
        self.pending.read(0, Width::W32).unwrap()
    }

    fn with(&self, act: impl for<'x> FnOnce(&Vectors<'x>)) {
        self.machine.client::<Card>(CARD).unwrap().call(act).unwrap();
    }

    /// Delivers what has come, also what the card has put off.
    fn counts(&self) -> [usize; 2] {
        for _ in 0..4 {
            self.target.advance(self.target.now() + Duration::from_millis(1));
            self.target.run_pending();
        }
        self.counts.each_ref().map(|count| count.load(Ordering::SeqCst))
    }
}

fn vectors_fire_and_are_masked_and_end(machine: Qemu) {
    let rig = Rig::new(machine);
    assert_eq!(rig.machine.device(CARD).unwrap().driver(), Some("card"));
    assert_eq!(*rig.told.lock().unwrap(), Some((3, VectorKind::MsiX)));
    let card = rig.machine.device(CARD).unwrap();
    assert!(rig.machine.resources(&card).iter().any(|r| (r.1, &*r.2) == ("vectors", "3 MSI-X")));
    assert_eq!((rig.control(), rig.masks()), (0x8000, vec![0, 0, 1, 1, 1]));
    assert_eq!(rig.counts(), [0, 0]);
    for (n, told) in [(0, [1, 0]), (1, [1, 1]), (0, [2, 1]), (1, [2, 2])] {
        rig.with(|card| card.cause(n));
        assert_eq!(rig.counts(), told);
        assert_eq!(rig.pending(), 0);
    }
    // Without a request a vector is masked at the card, which keeps what it would have sent.
    rig.with(|card| card.release(0));
    assert_eq!(rig.masks(), [1, 0, 1, 1, 1]);
    rig.with(|card| {
        card.cause(0);
        card.cause(1);
    });
    assert_eq!((rig.counts(), rig.pending()), ([2, 3], 1));
    rig.with(|card| card.request(0));
    assert_eq!((rig.counts(), rig.pending()), ([3, 3], 0));
    assert_eq!(rig.masks(), [0, 0, 1, 1, 1]);
    // The end: nothing is sent any more, and the vectors are free.
    rig.machine.unbind(CARD, "card").unwrap();
    assert_eq!(rig.control() & 0x8000, 0);
    let before = rig.machine.resource_usage();
    for round in 0..20 {
        rig.machine.bind(CARD, "card").unwrap();
        assert_eq!((rig.control(), rig.masks()), (0x8000, vec![0, 0, 1, 1, 1]), "round {round}");
        rig.with(|card| card.cause(round % 2));
        rig.machine.unbind(CARD, "card").unwrap();
        assert_eq!((rig.control() & 0x8000, rig.machine.resource_usage()), (0, before.clone()));
    }
    assert_eq!(rig.machine.interrupt_lines(), []);
    assert_eq!((rig.machine.promises().broken(), rig.target.error()), (vec![], None));
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn vectors_fire_and_are_masked_and_end_on_q35() {
    vectors_fire_and_are_masked_and_end(Qemu::Q35);
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn vectors_fire_and_are_masked_and_end_on_virt() {
    vectors_fire_and_are_masked_and_end(Qemu::Virt);
}
