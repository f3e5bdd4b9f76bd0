//! A PCI function in a user's hands: `edu` on the board `virt`, behind an IOMMU.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bindery::addr::DeviceAddr;
use bindery::dma::DmaMemory;
use bindery::env::{Env, IrqControl, IrqLine, IrqSink, Trigger, Width};
use bindery::event::EventKind;
use bindery::instrument::FaultPoint;
use bindery::iommu::Prot;
use bindery::machine::BindError;
use bindery::sync::Waiter;
use bindery_drivers::edu::Edu;
use bindery_drivers::vfio::{Session, Vfio, VfioError, VfioPci};
use bindery_sim::guest::{GuestEnv, Layout};
use bindery_sim::mmu::Mmu;
use bindery_sim::virt::{self, Virt};
use common::Rig;

const EDU: &str = "0000:02:01.0";
/// On the host bridge's own bus.
const ALONE: &str = "0000:00:02.0";
/// Where the user maps its memory.
const IOVA: DeviceAddr = DeviceAddr(0x10_0000);

/// A device that can be reset by itself, and one with the bus that it is alone on.
fn both_resets() -> [Virt; 2] {
    [Virt::new().function_reset(), Virt::new()]
}

/// The board with `edu` as stream 0 of an IOMMU, bound to its driver.
fn rig(virt: Virt) -> (Rig, Arc<Mmu>) {
    let (rig, mmu) = common::virt::translated(virt, |machine| {
        machine.register(Edu::default());
        machine.register(Vfio::default());
        // Shorter than a transfer.
        machine.register(VfioPci(Vfio { release_timeout: Duration::from_millis(10) }));
    });
    assert_eq!(rig.driver(EDU), Some("edu"));
    (rig, mmu)
}

fn give(rig: &Rig) {
    rig.machine.unbind(EDU, "edu").unwrap();
    rig.machine.device(EDU).unwrap().set_driver_override(Some("vfio-pci"));
    rig.machine.bind(EDU, "vfio-pci").unwrap();
}

fn take(rig: &Rig) {
    if rig.driver(EDU).is_some() {
        rig.machine.unbind(EDU, "vfio-pci").unwrap();
    }
    rig.machine.device(EDU).unwrap().set_driver_override(None);
    rig.machine.bind(EDU, "edu").unwrap();
    common::virt::transfers(rig, EDU);
}

fn open(rig: &Rig) -> Session {
    VfioPci::open(&rig.machine.client::<VfioPci>(EDU).unwrap()).unwrap()
}

/// A user with a page that its device can access, and a count of its interrupts.
struct User {
    session: Session,
    page: Arc<DmaMemory>,
    interrupts: Arc<AtomicUsize>,
}

impl User {
    fn new(rig: &Rig) -> Self {
        let (session, interrupts) = (open(rig), Arc::new(AtomicUsize::new(0)));
        let page = DmaMemory::allocate(rig.machine.memory(), 4096).unwrap();
        session.map(IOVA, &page, 0, 4096, Prot::READ | Prot::WRITE).unwrap();
        let count = Arc::clone(&interrupts);
        session
            .on_interrupt(0, move || {
                count.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
        Self { session, page, interrupts }
    }

    /// Has the device copy the first half of the page to its buffer and from there to the second, with an interrupt each.
    fn copies(&self, rig: &Rig, byte: u8) {
        self.page.write_bytes(0, &[byte; 16]);
        for (n, (source, target, command)) in
            [(IOVA.0, 0x4_0000, 1 | 4), (0x4_0000, IOVA.0 + 2048, 1 | 2 | 4)].into_iter().enumerate()
        {
            self.session.set_masked(0, false).unwrap();
            let before = self.interrupts.load(Ordering::SeqCst);
            for (offset, value) in [(0x80, source), (0x88, target), (0x90, 16), (0x98, command)] {
                self.session.write(0, offset, Width::W64, value).unwrap();
            }
            rig.board.advance(rig.board.now() + Duration::from_millis(101));
            rig.board.run_pending();
            let begun = Instant::now();
            while self.interrupts.load(Ordering::SeqCst) == before {
                assert!(begun.elapsed() < Duration::from_mins(1), "no interrupt of transfer {n}");
                std::thread::yield_now();
            }
            self.session.write(0, 0x64, Width::W32, 0x100).unwrap();
        }
        let mut back = [0; 16];
        self.page.read_bytes(2048, &mut back);
        assert_eq!(back, [byte; 16]);
    }
}

#[test]
fn a_function_goes_to_a_user_and_comes_back_reset() {
    for virt in both_resets() {
        let (rig, mmu) = rig(virt);
        let usage = || {
            let u = rig.resource_usage();
            (u.frames, u.claims, u.irqs, u.mappings, u.quarantine, u.groups.len(), u.bindings.len())
        };
        let before = usage();
        give(&rig);
        for round in 0..3 {
            let user = User::new(&rig);
            assert_eq!(user.session.read(0, 4, Width::W32), Ok(0), "what the last user has left, in round {round}");
            user.session.write(0, 4, Width::W32, 7).unwrap();
            assert_eq!(user.session.read(0, 4, Width::W32), Ok(u64::from(!7_u32)));
            user.copies(&rig, round);
            // The user's own reset leaves it its memory and its interrupt.
            user.session.reset().unwrap();
            assert_eq!(user.session.read(0, 4, Width::W32), Ok(0));
            user.copies(&rig, round + 100);
            drop(user);
            assert!(mmu.table(0).is_empty());
        }
        take(&rig);
        assert_eq!(usage(), before);
    }
}

#[test]
fn a_user_that_holds_on_is_cut_off_in_the_middle_of_a_transfer() {
    for virt in both_resets() {
        let (rig, mmu) = rig(virt);
        give(&rig);
        let user = User::new(&rig);
        user.page.write_bytes(0, &[1; 16]);
        for (offset, value) in [(0x80, 0x4_0000), (0x88, IOVA.0), (0x90, 16), (0x98, 1 | 2)] {
            user.session.write(0, offset, Width::W64, value).unwrap();
        }
        rig.machine.unbind(EDU, "vfio-pci").unwrap();
        assert!(user.session.is_revoked());
        assert_eq!(user.session.reset(), Err(VfioError::Revoked));
        assert_eq!(user.session.read(0, 4, Width::W32), Err(VfioError::Revoked));
        assert!(mmu.table(0).is_empty());
        take(&rig);
        let mut kept = [0; 16];
        user.page.read_bytes(0, &mut kept);
        assert_eq!(kept, [1; 16]);
    }
}

/// The bus keeps a function from memory that did not stop; what its user has left in it is there until a reset.
#[test]
fn a_function_that_only_its_bus_has_stopped_is_reset_before_its_next_owner_has_it() {
    for virt in both_resets() {
        let (rig, _) = rig(virt);
        give(&rig);
        let user = User::new(&rig);
        user.copies(&rig, 7);
        rig.board.faults().fail_points(&[FaultPoint::Quiesce]);
        rig.machine.unbind(EDU, "vfio-pci").unwrap();
        rig.board.faults().never();
        drop(user);
        rig.board.take_events();
        take(&rig);
        let left =
            |kind: &EventKind| matches!(kind, EventKind::Log { text } if text.contains("not known to be stopped"));
        assert!(!rig.event_kinds(EDU).iter().any(left), "P12: {:?}", rig.event_kinds(EDU));
    }
}

#[test]
fn a_function_that_is_pulled_out_ends_its_users_access() {
    for virt in both_resets() {
        let (rig, _) = rig(virt);
        give(&rig);
        let user = User::new(&rig);
        rig.board.unplug(virt::EDU).unwrap();
        assert!(user.session.reset().is_err());
        assert!(rig.machine.device_vanished(EDU));
        assert_eq!(user.session.read(0, 4, Width::W32), Err(VfioError::Revoked));
        assert!(rig.machine.device(EDU).is_none());
        drop(user);
        rig.assert_well();
    }
}

#[test]
fn what_cannot_be_reset_or_is_for_the_other_driver_is_not_given_away() {
    let (rig, _) = rig(Virt::new().function_reset());
    rig.machine.unbind(EDU, "edu").unwrap();
    rig.machine.device(EDU).unwrap().set_driver_override(Some("vfio-platform"));
    let refused: BindError = rig.machine.bind(EDU, "vfio-platform").unwrap_err();
    assert!(refused.to_string().contains("vfio-pci takes it"), "{refused}");
    take(&rig);
    // No bridge leads to it that could reset its bus.
    let (rig, _) = common::virt::translated(Virt::new().second_edu(), |machine| {
        machine.register(Edu::default());
        machine.register(VfioPci::default());
    });
    rig.machine.unbind(ALONE, "edu").unwrap();
    rig.machine.device(ALONE).unwrap().set_driver_override(Some("vfio-pci"));
    let refused: BindError = rig.machine.bind(ALONE, "vfio-pci").unwrap_err();
    assert!(refused.to_string().contains("no reset of its own"), "{refused}");
}

/// A guest's core, which counts interrupts.
#[derive(Default)]
struct Counting(AtomicUsize);

impl IrqSink for Counting {
    fn interrupt(&self, _: IrqLine) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn an_interrupt_that_a_guest_has_not_taken_ends_with_the_driver_that_wanted_it() {
    let (rig, _) = rig(Virt::new());
    give(&rig);
    let layout = Layout::of(rig.machine.device(EDU).unwrap().desc());
    let (line, (base, len)) = (layout.lines[0], layout.regions[0]);
    let env = GuestEnv::new(&rig.machine, open(&rig), layout, 64 << 10).unwrap();
    let counting = Arc::new(Counting::default());
    env.connect(Arc::downgrade(&counting) as _);
    let registers = env.map_io(base, len).unwrap();
    let write = |offset, value| registers.write(offset, Width::W32, value).unwrap();
    let raise = || {
        write(0x60, 1);
        rig.board.run_pending();
        write(0x64, 1);
    };
    let waits = || {
        let waiter = Waiter::of_this_thread();
        env.wait(&waiter.token(), rig.board.now() + Duration::from_millis(1));
        counting.0.swap(0, Ordering::SeqCst)
    };
    for _ in 0..3 {
        env.irq(line, IrqControl::Enable(Trigger::LevelHigh)).unwrap();
        assert_eq!(waits(), 0, "nothing of the driver before");
        raise();
        assert_eq!(waits(), 1);
        // Not taken any more.
        raise();
        env.irq(line, IrqControl::Disable).unwrap();
    }
    rig.assert_well();
}
