//! Messages (MSI) of a function in a user's hands: `edu` on the board `virt`, behind an IOMMU.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bindery::addr::DeviceAddr;
use bindery::device::DeviceDesc;
use bindery::dma::DmaMemory;
use bindery::env::{Env, Job, VectorRequest, Width};
use bindery::instrument::FaultPoint;
use bindery::iommu::Prot;
use bindery::pci::{ConfigSpace, Ecam, FunctionId};
use bindery::vectors::VectorKind;
use bindery_drivers::edu::Edu;
use bindery_drivers::vfio::{Session, Vfio, VfioError, VfioPci};
use bindery_sim::interpose::Interpose;
use bindery_sim::mmu::Mmu;
use bindery_sim::virt::{self, Virt};
use common::Rig;

const EDU: &str = "0000:02:01.0";
const AT: FunctionId = FunctionId { segment: 0, bus: 2, device: 1, function: 0 };
const MSI: u16 = 0x40;
const FIRST: u32 = virt::MESSAGE_LINES.0;
/// The page of the doorbell.
const DOORBELL_PAGE: u64 = virt::DOORBELL.0 & !0xfff;
/// Addresses in which the host maps doorbells.
const WINDOW: std::ops::RangeInclusive<u64> = 0x800_0000..=0x80f_ffff;
/// Registers of `edu`: interrupts raised by software, and acknowledged.
const RAISE: u64 = 0x60;
const ACK: u64 = 0x64;

/// The board with `edu` as stream 0 of an IOMMU, bound to `vfio-pci`.
fn given() -> (Rig, Arc<Mmu>) {
    given_on(|board| board)
}

/// The same on the env that `env` makes of the board.
fn given_on(env: impl FnOnce(Arc<dyn Env>) -> Arc<dyn Env>) -> (Rig, Arc<Mmu>) {
    let (rig, mmu) = common::virt::translated_on(Virt::new().function_reset(), env, |machine| {
        machine.register(Edu::default());
        // Shorter than a transfer.
        machine.register(VfioPci(Vfio { release_timeout: Duration::from_millis(10) }));
    });
    rig.machine.unbind(EDU, "edu").unwrap();
    rig.machine.device(EDU).unwrap().set_driver_override(Some("vfio-pci"));
    rig.machine.bind(EDU, "vfio-pci").unwrap();
    (rig, mmu)
}

/// Takes the device back to its driver, which works with messages as ever.
fn take(rig: &Rig) {
    rig.machine.unbind(EDU, "vfio-pci").unwrap();
    assert!(!messages_are_on(rig));
    assert_ne!(config(rig, 4, Width::W16) & 1 << 10, 0, "the pin is off");
    assert_eq!((next_message(rig), rig.machine.interrupt_lines()), (FIRST, vec![]));
    rig.machine.device(EDU).unwrap().set_driver_override(None);
    rig.machine.bind(EDU, "edu").unwrap();
    common::virt::transfers(rig, EDU);
}

fn open(rig: &Rig) -> Session {
    VfioPci::open(&rig.machine.client::<VfioPci>(EDU).unwrap()).unwrap()
}

fn config(rig: &Rig, offset: u16, width: Width) -> u32 {
    let config = Ecam::new(rig.board.map_io(virt::ECAM.0, virt::ECAM.1).unwrap(), 0);
    config.read(AT, offset, width).unwrap()
}

fn messages_are_on(rig: &Rig) -> bool {
    config(rig, MSI + 2, Width::W16) & 1 != 0
}

/// The lowest message that nobody has.
fn next_message(rig: &Rig) -> u32 {
    let desc = DeviceDesc::new("other");
    let request = VectorRequest { device: &desc, count: 1, consecutive: false, wide: true, cpus: &[] };
    let found = rig.board.alloc_vectors(&request).unwrap();
    rig.board.free_vectors(&desc, &found);
    found[0].line.0
}

/// Where the domain has the doorbell.
fn doorbells(mmu: &Mmu) -> Vec<u64> {
    mmu.table(0).into_iter().filter(|(_, page)| *page == DOORBELL_PAGE).map(|(at, _)| at).collect()
}

/// Counts the interrupts of `session`, from none on.
fn count(session: &Session) -> Arc<AtomicUsize> {
    let counted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&counted);
    session
        .on_interrupt(0, move || {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
    counted
}

fn raise(rig: &Rig, session: &Session, bits: u64) {
    session.write(0, RAISE, Width::W32, bits).unwrap();
    rig.board.run_pending();
}

/// Waits for `wanted` interrupts, and looks whether there are more.
fn await_count(rig: &Rig, counted: &AtomicUsize, wanted: usize) {
    let begun = Instant::now();
    while counted.load(Ordering::SeqCst) < wanted {
        assert!(begun.elapsed() < Duration::from_mins(1), "no interrupt {wanted}");
        std::thread::yield_now();
    }
    rig.board.run_pending();
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(counted.load(Ordering::SeqCst), wanted);
}

#[test]
fn a_user_gets_interrupts_by_messages_and_by_the_pin_in_turn() {
    let (rig, mmu) = given();
    let session = open(&rig);
    let kinds = [VectorKind::Line, VectorKind::Msi, VectorKind::MsiX].map(|kind| session.interrupts(kind));
    assert_eq!((kinds, session.irqs()), ([1, 1, 0], 1));
    for round in 0..3 {
        session.signal_by(VectorKind::Msi, 1).unwrap();
        assert!(messages_are_on(&rig));
        assert_ne!(config(&rig, 4, Width::W16) & 1 << 10, 0, "the pin is off");
        let [at] = doorbells(&mmu)[..] else { panic!("{:?}", mmu.table(0)) };
        assert!(WINDOW.contains(&at), "{at:#x}");
        assert_eq!(u64::from(config(&rig, MSI + 4, Width::W32)), at + (virt::DOORBELL.0 & 0xfff));
        let counted = count(&session);
        session.set_masked(0, false).unwrap();
        for n in 1..4 {
            // Nobody unmasks: a message does not repeat.
            raise(&rig, &session, 1);
            await_count(&rig, &counted, n);
        }
        session.set_masked(0, true).unwrap();
        raise(&rig, &session, 1);
        await_count(&rig, &counted, 3);
        session.set_masked(0, false).unwrap();
        rig.board.run_pending();
        await_count(&rig, &counted, 4);
        session.write(0, ACK, Width::W32, u64::MAX >> 32).unwrap();
        // Its own reset leaves the user its messages.
        session.reset().unwrap();
        raise(&rig, &session, 1);
        await_count(&rig, &counted, 5);
        session.write(0, ACK, Width::W32, u64::MAX >> 32).unwrap();
        session.signal_by(VectorKind::Line, 1).unwrap();
        assert!(!messages_are_on(&rig), "round {round}");
        assert_eq!(doorbells(&mmu), [0; 0]);
        assert_eq!(config(&rig, 4, Width::W16) & 1 << 10, 0);
        let pin = count(&session);
        session.set_masked(0, false).unwrap();
        raise(&rig, &session, 1);
        await_count(&rig, &pin, 1);
        session.write(0, ACK, Width::W32, u64::MAX >> 32).unwrap();
        assert_eq!((next_message(&rig), counted.load(Ordering::SeqCst)), (FIRST, 5));
    }
    let held = rig.machine.resources(&rig.machine.device(EDU).unwrap());
    session.signal_by(VectorKind::Msi, 1).unwrap();
    let more = rig.machine.resources(&rig.machine.device(EDU).unwrap());
    let vectors = more.iter().filter(|r| r.1 == "vectors").count();
    assert_eq!((more.len(), vectors), (held.len() + 1, 1), "the doorbell has no entry of its own: {more:?}");
    drop(session);
    take(&rig);
}

#[test]
fn a_message_that_comes_before_its_callback_is_not_lost() {
    let (rig, _) = given();
    let session = open(&rig);
    session.signal_by(VectorKind::Msi, 1).unwrap();
    raise(&rig, &session, 1);
    session.set_masked(0, false).unwrap();
    rig.board.run_pending();
    session.set_masked(0, true).unwrap();
    let counted = count(&session);
    session.set_masked(0, false).unwrap();
    await_count(&rig, &counted, 1);
    drop(session);
    take(&rig);
}

#[test]
fn an_interrupt_that_nobody_was_told_of_ends_with_the_kind_that_it_was_signalled_by() {
    for kind in [VectorKind::Msi, VectorKind::Line] {
        let (rig, _) = given();
        let session = open(&rig);
        session.signal_by(VectorKind::Msi, 1).unwrap();
        session.set_masked(0, false).unwrap();
        // Without a callback.
        raise(&rig, &session, 1);
        session.write(0, ACK, Width::W32, u64::MAX >> 32).unwrap();
        session.signal_by(kind, 1).unwrap();
        let counted = count(&session);
        session.set_masked(0, false).unwrap();
        await_count(&rig, &counted, 0);
        raise(&rig, &session, 1);
        await_count(&rig, &counted, 1);
        session.write(0, ACK, Width::W32, u64::MAX >> 32).unwrap();
        drop(session);
        take(&rig);
    }
}

#[test]
fn what_a_user_cannot_have_changes_nothing_and_is_named() {
    let (rig, mmu) = given();
    let session = open(&rig);
    let pin = count(&session);
    for (kind, count, text) in [
        (VectorKind::Msi, 2, "2 interrupts by MSI: the device has 1"),
        (VectorKind::MsiX, 1, "1 interrupts by MSI-X: the device has 0"),
        (VectorKind::Msi, 0, "0 interrupts by MSI: the device has 1"),
        (VectorKind::Line, usize::MAX, "18446744073709551615 interrupts by lines: the device has 1"),
    ] {
        let refused = session.signal_by(kind, count).unwrap_err();
        assert_eq!(refused.to_string(), text);
        assert_eq!((session.irqs(), messages_are_on(&rig)), (1, false));
    }
    session.set_masked(0, false).unwrap();
    raise(&rig, &session, 1);
    await_count(&rig, &pin, 1);
    // The host's window for doorbells is no place for the user's memory.
    let page = DmaMemory::allocate(rig.machine.memory(), 4096).unwrap();
    let window = DeviceAddr(*WINDOW.start());
    let over = session.map(window, &page, 0, 4096, Prot::READ);
    assert_eq!(over, Err(VfioError::Reserved(window)));
    // Without messages at the target: the user has none of its interrupts, and may choose the pin again.
    rig.board.faults().fail_points(&[FaultPoint::VectorAlloc]);
    let refused = session.signal_by(VectorKind::Msi, 1).unwrap_err();
    rig.board.faults().never();
    assert!(refused.to_string().contains("the target gave 0 of its messages"), "{refused}");
    assert_eq!((session.irqs(), session.set_masked(0, true)), (0, Err(VfioError::NoIrq(0))));
    assert_eq!(doorbells(&mmu), [0; 0]);
    session.signal_by(VectorKind::Line, 1).unwrap();
    assert_eq!(session.irqs(), 1);
    drop(session);
    take(&rig);
}

#[test]
fn a_change_that_fails_at_any_step_leaves_nothing() {
    let (rig, mmu) = given();
    let session = open(&rig);
    // The pin's entry is the newest one from then on.
    session.signal_by(VectorKind::Msi, 1).unwrap();
    session.signal_by(VectorKind::Line, 1).unwrap();
    let before = rig.resource_usage();
    let mut failures = 0;
    for step in 1.. {
        rig.board.faults().fail_nth(step);
        let changed = session.signal_by(VectorKind::Msi, 1);
        let injected = rig.board.faults().injected() > 0;
        rig.board.faults().never();
        if changed.is_err() {
            failures += 1;
            assert!(!messages_are_on(&rig), "step {step}");
            assert_eq!((doorbells(&mmu), next_message(&rig)), (vec![], FIRST), "step {step}");
        }
        session.signal_by(VectorKind::Line, 1).unwrap();
        assert_eq!(rig.resource_usage(), before, "step {step}");
        if !injected {
            break;
        }
    }
    assert!(failures >= 4, "{failures}");
    drop(session);
    take(&rig);
}

#[test]
fn the_next_user_finds_nothing_of_the_last_ones_messages() {
    let (rig, mmu) = given();
    let page = DmaMemory::allocate(rig.machine.memory(), 4096).unwrap();
    for round in 0..20 {
        let session = open(&rig);
        assert_eq!((session.irqs(), messages_are_on(&rig)), (1, false), "round {round}");
        assert_eq!((doorbells(&mmu), next_message(&rig)), (vec![], FIRST));
        session.map(DeviceAddr(0x10_0000), &page, 0, 4096, Prot::READ | Prot::WRITE).unwrap();
        let counted = count(&session);
        session.set_masked(0, false).unwrap();
        rig.board.run_pending();
        await_count(&rig, &counted, 0);
        session.signal_by(VectorKind::Msi, 1).unwrap();
        let counted = count(&session);
        if round % 2 == 0 {
            session.set_masked(0, false).unwrap();
        }
        // Pending at the end, for half of them in the callback.
        session.write(0, RAISE, Width::W32, 1).unwrap();
        drop(session);
        rig.board.run_pending();
        let told = counted.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(counted.load(Ordering::SeqCst), told, "no callback after the end");
        assert!(mmu.table(0).is_empty() && !messages_are_on(&rig));
    }
    take(&rig);
}

#[test]
fn a_revocation_ends_messages_also_while_one_is_delivered() {
    for delivering in [false, true] {
        let (rig, mmu) = given();
        let session = Arc::new(open(&rig));
        session.signal_by(VectorKind::Msi, 1).unwrap();
        let (begun, may_end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (begins, ends) = (Arc::clone(&begun), Arc::clone(&may_end));
        session
            .on_interrupt(0, move || {
                begins.fetch_add(1, Ordering::SeqCst);
                while ends.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
            })
            .unwrap();
        session.set_masked(0, false).unwrap();
        if delivering {
            raise(&rig, &session, 1);
            while begun.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
        }
        // The user's callback is in the way of nobody.
        rig.machine.unbind(EDU, "vfio-pci").unwrap();
        assert!(session.is_revoked() && mmu.table(0).is_empty());
        assert!(!messages_are_on(&rig));
        assert_eq!(session.signal_by(VectorKind::Msi, 1), Err(VfioError::Revoked));
        assert_eq!(session.interrupts(VectorKind::Msi), 0);
        rig.machine.bind(EDU, "vfio-pci").unwrap();
        let next = open(&rig);
        next.signal_by(VectorKind::Msi, 1).unwrap();
        let counted = count(&next);
        next.set_masked(0, false).unwrap();
        raise(&rig, &next, 1);
        await_count(&rig, &counted, 1);
        assert_eq!(begun.load(Ordering::SeqCst), usize::from(delivering), "the first user is told of nothing more");
        may_end.store(1, Ordering::SeqCst);
        drop((session, next));
        take(&rig);
    }
}

#[test]
fn a_function_that_is_pulled_out_gives_its_users_messages_back() {
    let (rig, mmu) = given();
    let session = open(&rig);
    session.signal_by(VectorKind::Msi, 1).unwrap();
    rig.board.unplug(virt::EDU).unwrap();
    let _ = session.signal_by(VectorKind::Line, 1);
    let _ = session.signal_by(VectorKind::Msi, 1);
    assert!(rig.machine.device_vanished(EDU));
    assert!(session.is_revoked());
    assert_eq!((next_message(&rig), rig.machine.interrupt_lines()), (FIRST, vec![]));
    assert_eq!(doorbells(&mmu), [0; 0]);
    drop(session);
    rig.assert_well();
}

/// A target without threads for callbacks.
struct NoThreads(Arc<dyn Env>);

impl Interpose for NoThreads {
    fn inner(&self) -> &dyn Env {
        &*self.0
    }

    fn spawn(&self, job: Job) -> Result<(), Job> {
        Err(job)
    }
}

#[test]
fn a_callback_in_the_handler_itself_may_close_the_session_and_change_nothing_else() {
    let (rig, mmu) = given_on(|board| Arc::new(NoThreads(board)).env());
    let told = Arc::new(Mutex::new(None));
    let place = Arc::new(Mutex::new(Some(Arc::new(open(&rig)))));
    let session = place.lock().unwrap().clone().unwrap();
    session.signal_by(VectorKind::Msi, 1).unwrap();
    let (mine, answer) = (Arc::clone(&place), Arc::clone(&told));
    session
        .on_interrupt(0, move || {
            let Some(session) = mine.lock().unwrap().take() else { return };
            *answer.lock().unwrap() = Some(session.signal_by(VectorKind::Line, 1));
            // The last one: it closes here.
            drop(session);
        })
        .unwrap();
    session.set_masked(0, false).unwrap();
    let messages = Arc::downgrade(&session);
    drop(session);
    let session = messages.upgrade().unwrap();
    session.write(0, RAISE, Width::W32, 1).unwrap();
    drop(session);
    rig.board.run_pending();
    assert_eq!(*told.lock().unwrap(), Some(Err(VfioError::InHandler)));
    assert!(messages.upgrade().is_none());
    // They end before the next user gets the device.
    let next = open(&rig);
    assert!(!messages_are_on(&rig) && mmu.table(0).is_empty());
    assert_eq!((next.irqs(), next_message(&rig)), (1, FIRST));
    drop(next);
    take(&rig);
}
