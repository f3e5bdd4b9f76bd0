//! Each state of a page, and what each path that frees, lends, pins, looks at, hands over or recovers it does then: the
//! table of docs/decisions/0007, a test for each row.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{TestBoard, toy_domain};
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::dma::pin::{PagePin, Pinner, Unreachable, Via, release_all};
use crate::dma::{Direction, DmaBuffer, DmaError, DmaMemory, Ioas, IoasError};
use crate::driver::Quiesced;
use crate::env::{Env, Instant};
use crate::iommu::{DomainKind, Gather, Prot};
use crate::machine::Machine;

/// Pages that are out, and entries in quarantine.
fn kept(machine: &Machine) -> (u64, usize) {
    (machine.memory().frames().in_use(), machine.quarantine().len())
}

/// Pins `memory` for a user of another device, in a domain of its own, and takes that down again.
fn pin_for_a_user(board: &(Arc<Machine>, Arc<super::board::ToyMmu>), memory: &Arc<DmaMemory>) {
    let (machine, mmu) = board;
    let ioas = Ioas::new(machine, &"2000.lab".into(), None, toy_domain(mmu, DomainKind::Unmanaged));
    ioas.map(DeviceAddr(0x7000_0000), memory, 0, PAGE_SIZE, Prot::READ).unwrap();
    assert!(ioas.clear());
}

#[test]
fn a_free_page_is_lent_pinned_looked_at_and_goes_back_at_once() {
    TestBoard::translated(DomainKind::Strict).run(|dev| {
        let machine = dev.machine();
        let before = kept(machine);
        let mut buffer = dev.dma().buffer(PAGE_SIZE)?;
        buffer.as_mut_slice()[0] = 1;
        buffer = dev.dma().map(buffer, Direction::ToDevice)?.unmap()?;
        assert_eq!(buffer.as_slice()[0], 1);
        drop(buffer);
        assert_eq!(kept(machine), before);
        Ok(Vec::new())
    });
}

#[test]
fn a_mapped_page_stays_whoever_lets_go_of_it() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    let user = (Arc::clone(&board.machine), Arc::clone(&board.mmu));
    board.run(move |dev| {
        let machine = dev.machine();
        let before = kept(machine);
        let shared = dev.dma().coherent(PAGE_SIZE)?;
        let (at, memory) = (shared.device_addr(), shared.memory());
        // Pin: whoever holds the memory shares it knowingly. Copies are always possible; slices are not to be had.
        pin_for_a_user(&user, &memory);
        memory.write_bytes(0, &[1]);
        // Free: not by dropping handles; nor does quiet of the device end a mapping that stands.
        drop((shared, memory));
        dev.mark_quiesced(Quiesced::stopped());
        assert!(mmu.state.lock().unwrap().dma_reachable(at).is_some());
        assert_eq!(kept(machine), (before.0 + 1, 0));
        // A flush that is confirmed speaks for what was unmapped only.
        drop(dev.dma().map(dev.dma().buffer(1)?, Direction::ToDevice)?.unmap()?);
        assert_eq!(kept(machine), (before.0 + 1, 0));
        // Look: a copy, while the mapping stands.
        let mut lent = dev.dma().map(dev.dma().buffer(PAGE_SIZE)?, Direction::Bidirectional)?;
        lent.sync_for_cpu()[0] = 2;
        assert_eq!(lent.unmap()?.as_slice()[0], 2);
        Ok(Vec::new())
    });
}

#[test]
fn a_queued_page_waits_for_the_flush_and_those_who_need_it_ask_for_it() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let (mmu, env) = (Arc::clone(&board.mmu), Arc::clone(&board.env));
    board.run(move |dev| {
        let machine = dev.machine();
        let before = kept(machine);
        let flushes = || mmu.state.lock().unwrap().flushes;
        let queued = || -> Result<DmaBuffer, DmaError> {
            dev.dma().map(dev.dma().buffer(PAGE_SIZE)?, Direction::FromDevice)?.unmap()
        };
        let asked = flushes();
        // Free: kept.
        drop(queued()?);
        assert_eq!((kept(machine), flushes()), ((before.0 + 1, 0), asked));
        // Quiet of the device is no proof for what it reaches through a domain, nor is it needed.
        dev.mark_quiesced(Quiesced::stopped());
        assert_eq!((kept(machine), flushes()), ((before.0 + 1, 0), asked));
        // Lend, in the same domain, and copy: nobody needs to wait.
        let buffer = dev.dma().map(queued()?, Direction::FromDevice)?.unmap()?;
        buffer.read_bytes(0, &mut [0]);
        assert_eq!(flushes(), asked);
        // Elsewhere, and as a slice: asks first.
        assert!(buffer.memory().settle(None).is_ok());
        assert_eq!(
            (kept(machine), flushes()),
            ((before.0 + 1, 0), asked + 1),
            "the others are confirmed along with it"
        );
        assert_eq!(queued()?.as_slice()[0], 0);
        assert_eq!(flushes(), asked + 2);
        // And by itself.
        drop((buffer, queued()?));
        env.wait(Instant(env.now().0 + 10_000_000));
        assert_eq!((kept(machine), flushes()), (before, asked + 3));
        Ok(Vec::new())
    });
}

#[test]
fn an_unconfirmed_page_is_nobodys_until_a_flush_is_confirmed() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let mmu = Arc::clone(&board.mmu);
    let user = (Arc::clone(&board.machine), Arc::clone(&board.mmu));
    board.run(move |dev| {
        let machine = dev.machine();
        let before = kept(machine);
        let dead = |dead| mmu.state.lock().unwrap().dead = dead;
        let mut buffer = dev.dma().map(dev.dma().buffer(PAGE_SIZE)?, Direction::FromDevice)?.unmap()?;
        dead(true);
        // Lend elsewhere: asks, and is refused; from then on it is in quarantine, although somebody holds it.
        assert_eq!(buffer.memory().settle(None), Err(DmaError::Unconfirmed));
        assert_eq!(kept(machine), (before.0 + 1, 1));
        // Lend in the same domain: refused as well, and asked again.
        let asked = mmu.state.lock().unwrap().flushes;
        let own = dev.machine().groups()[0].domain().unwrap();
        assert_eq!(buffer.memory().settle(Some(&own)), Err(DmaError::Unconfirmed));
        assert_eq!(mmu.state.lock().unwrap().flushes, asked + 1);
        let refused = dev.dma().map(buffer, Direction::ToDevice).unwrap_err();
        assert_eq!(refused.error, DmaError::Quarantined(PAGE_SIZE), "P11");
        // Look: a copy.
        buffer = refused.back;
        buffer.as_mut_slice()[0] = 1;
        assert_eq!(buffer.as_slice()[0], 1);
        let mut there = [9];
        buffer.memory().read_bytes(0, &mut there);
        assert_eq!(there, [0], "what the device reaches is not what the slice is of");
        // Quiet of the device says nothing of what the IOMMU remembers (another member of the group may be at work).
        dev.mark_quiesced(Quiesced::stopped());
        assert_eq!(kept(machine), (before.0 + 1, 1), "P2");
        // Pin: whoever holds the memory shares it knowingly; the user's own proof frees the user's own pin.
        dead(false);
        let memory = Arc::clone(buffer.memory());
        dead(true);
        drop(buffer);
        assert_eq!(kept(machine), (before.0 + 1, 1), "free: kept");
        dead(false);
        pin_for_a_user(&user, &memory);
        assert_eq!(kept(machine), (before.0 + 1, 1), "a flush of another domain is no proof for this one");
        drop(memory);
        // A quiet device has the hardware asked once more.
        dev.mark_quiesced(Quiesced::stopped());
        assert_eq!(kept(machine), before, "P4");
        Ok(Vec::new())
    });
}

#[test]
fn a_page_that_is_still_in_the_table_is_nobodys_until_the_translation_is_off() {
    for kind in [DomainKind::Strict, DomainKind::Lazy] {
        let board = TestBoard::translated(kind);
        let mmu = Arc::clone(&board.mmu);
        let user = (Arc::clone(&board.machine), Arc::clone(&board.mmu));
        assert!(board.bind(move |dev| {
            let machine = dev.machine();
            let sticks = |sticks| mmu.state.lock().unwrap().sticks = sticks;
            let buffer = dev.dma().buffer(PAGE_SIZE)?;
            let memory = Arc::clone(buffer.memory());
            let lent = dev.dma().map(buffer, Direction::FromDevice)?;
            let at = lent.device_addr();
            sticks(true);
            assert_eq!(lent.unmap().unwrap_err(), DmaError::Quarantined(PAGE_SIZE));
            sticks(false);
            assert_eq!(kept(machine), (1, 1), "free: kept, and listed");
            // Lend: refused, in the same domain, too; although the hardware answers, and is asked.
            let own = machine.groups()[0].domain().unwrap();
            assert_eq!(memory.settle(Some(&own)), Err(DmaError::Unconfirmed));
            assert_eq!(memory.settle(None), Err(DmaError::Unconfirmed));
            // Copy and pin: whoever holds the memory shares it knowingly.
            memory.read_bytes(0, &mut [0]);
            pin_for_a_user(&user, &memory);
            drop(memory);
            // Its address, confirmed flushes and a quiet device: nothing of it ends what the table has.
            let range = crate::iommu::Range { iova: at, len: PAGE_SIZE };
            assert!(own.is_unconfirmed(machine, range), "its address is taken");
            dev.mark_quiesced(Quiesced::stopped());
            assert!(mmu.state.lock().unwrap().dma_reachable(at).is_some());
            assert_eq!(kept(machine), (1, 1), "P2");
            Ok(Vec::new())
        }));
        board.unbind();
        board.env.wait(Instant(board.env.now().0 + 20_000_000_000));
        assert_eq!(kept(&board.machine), (0, 0), "P4: the translation is off, and the hardware has said so");
        assert_eq!(board.machine.promises().broken(), []);
    }
}

#[test]
fn a_users_page_that_is_still_in_the_table_keeps_its_address() {
    let board = TestBoard::translated(DomainKind::Strict);
    let domain = toy_domain(&board.mmu, DomainKind::Unmanaged);
    let ioas = Ioas::new(&board.machine, &"2000.lab".into(), None, domain);
    let (at, beside) = (DeviceAddr(0x7000_0000), DeviceAddr(0x7000_1000));
    let page = || DmaMemory::allocate(board.machine.memory(), PAGE_SIZE).unwrap();
    ioas.map(at, &page(), 0, PAGE_SIZE, Prot::READ).unwrap();
    board.mmu.state.lock().unwrap().sticks = true;
    assert_eq!(ioas.unmap(at, PAGE_SIZE), Err(IoasError::Unconfirmed(at)));
    board.mmu.state.lock().unwrap().sticks = false;
    ioas.map(beside, &page(), 0, PAGE_SIZE, Prot::READ).unwrap();
    ioas.unmap(beside, PAGE_SIZE).unwrap();
    assert_eq!(ioas.map(at, &page(), 0, PAGE_SIZE, Prot::READ), Err(IoasError::Unconfirmed(at)));
    assert_eq!(kept(&board.machine), (1, 1));
}

#[test]
fn a_page_of_a_device_that_was_not_quiet_waits_for_that_device() {
    let board = TestBoard::direct();
    let user = (Arc::clone(&board.machine), Arc::clone(&board.mmu));
    let outlives: Arc<std::sync::Mutex<Option<Arc<DmaMemory>>>> = Arc::default();
    let put = Arc::clone(&outlives);
    assert!(!board.bind(move |dev| {
        let shared = dev.dma().coherent(PAGE_SIZE)?;
        let _started = shared.device_addr();
        *put.lock().unwrap() = Some(shared.memory());
        Err(crate::driver::ProbeError::Device("the device does not answer"))
    }));
    let machine = &board.machine;
    assert_eq!(kept(machine), (1, 1));
    let memory = outlives.lock().unwrap().take().unwrap();
    assert_eq!(memory.settle(None), Err(DmaError::Unconfirmed), "lend");
    memory.read_bytes(0, &mut [0]);
    pin_for_a_user(&user, &memory);
    assert_eq!(kept(machine), (1, 1), "a user's proof is about the user's pin");
    drop(memory);
    assert_eq!(kept(machine), (1, 1), "free: kept");
    let other = crate::device::Device::new(crate::device::NodeId(99), crate::device::DeviceDesc::new("2000.lab"));
    machine.device_quiesced(&other, &Quiesced::stopped());
    assert_eq!(kept(machine), (1, 1), "P11: another device says nothing about this one");
    assert_eq!(machine.promises().broken(), [], "nor is its word offered for this one");
    board.unbind();
    assert!(board.bind(|dev| {
        dev.mark_quiesced(Quiesced::in_reset());
        Ok(Vec::new())
    }));
    assert_eq!(kept(machine), (0, 0), "P4");
}

#[test]
fn a_stream_that_could_not_be_taken_off_keeps_what_its_quiet_device_does_not_reach() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(move |dev| {
        let lent = dev.dma().map(dev.dma().buffer(PAGE_SIZE)?, Direction::FromDevice)?;
        mmu.state.lock().unwrap().dead = true;
        assert!(lent.unmap().is_err());
        Ok(Vec::from([Box::new(()) as _]))
    }));
    board.mmu.state.lock().unwrap().keeps_streams = true;
    board.unbind();
    board.mmu.state.lock().unwrap().keeps_streams = false;
    assert!(board.bind(|dev| {
        dev.mark_quiesced(Quiesced::stopped());
        Ok(Vec::new())
    }));
    assert_eq!(kept(&board.machine), (1, 1), "P2: the stream may go through the old domain still");
    board.mmu.state.lock().unwrap().dead = false;
    assert!(board.machine.quarantine.retry(&board.machine));
    assert_eq!(kept(&board.machine), (0, 0), "P4");
}

#[test]
fn a_confirmed_flush_frees_what_waits_for_it_and_nothing_else() {
    let board = TestBoard::translated(DomainKind::Strict);
    let domains = [(); 2].map(|()| toy_domain(&board.mmu, DomainKind::Unmanaged));
    let users = domains.each_ref().map(|d| Ioas::new(&board.machine, &"2000.lab".into(), None, Arc::clone(d)));
    let at = |n: usize| DeviceAddr(0x7000_0000 + n as u64 * PAGE_SIZE);
    for (n, user) in users.iter().enumerate() {
        let page = DmaMemory::allocate(board.machine.memory(), PAGE_SIZE).unwrap();
        user.map(at(n), &page, 0, PAGE_SIZE, Prot::READ).unwrap();
    }
    board.mmu.state.lock().unwrap().dead = true;
    for (n, user) in users.iter().enumerate() {
        assert_eq!(user.unmap(at(n), PAGE_SIZE), Err(IoasError::Unconfirmed(at(n))));
    }
    board.mmu.state.lock().unwrap().dead = false;
    assert_eq!(kept(&board.machine), (2, 2));
    assert!(domains[0].retry(&board.machine));
    assert_eq!(kept(&board.machine), (1, 1), "P2: of the other domain nothing was said");
    assert!(domains[1].retry(&board.machine));
    assert_eq!(kept(&board.machine), (0, 0), "P4");
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn a_proof_ends_the_pins_that_it_is_about_and_no_others() {
    let board = TestBoard::translated(DomainKind::Strict);
    let machine = &board.machine;
    let [own, other] = [(); 2].map(|()| toy_domain(&board.mmu, DomainKind::Strict));
    let (a, b): (Arc<str>, Arc<str>) = ("1000.lab".into(), "2000.lab".into());
    let through = |domain| Via::Domain(Arc::downgrade(domain));
    other.retire();
    let flushed = |domain| Unreachable::flushed(Gather::new().confirm(), domain);
    let quiet = |device| Unreachable::quiesced(&Quiesced::stopped(), device);
    assert!(Unreachable::detached(&Quiesced::stopped(), &a, &own).is_none(), "it is on");
    let detached = |device| Unreachable::detached(&Quiesced::stopped(), device, &other).unwrap();
    // Whose pin, by which way, and which proof ends it.
    let proofs = || [flushed(&own), flushed(&other), quiet(&a), quiet(&b), detached(&a), detached(&b)];
    for (device, via, ends) in [
        (&a, Via::Bus, [false, false, true, false, false, false]),
        (&b, Via::Bus, [false, false, false, true, false, false]),
        (&a, through(&own), [true, false, false, false, false, false]),
        (&a, through(&other), [false, true, false, false, true, false]),
        (&b, through(&other), [false, true, false, false, false, true]),
    ] {
        let pinner = Pinner::new(machine, device, via.clone());
        for (proof, ends) in proofs().iter().zip(ends) {
            let memory = DmaMemory::allocate(machine.memory(), PAGE_SIZE).unwrap();
            let pins = Vec::from([PagePin::new(&memory, &pinner)]);
            drop(memory);
            let left = release_all(machine, pins, proof);
            assert_eq!(left.is_empty(), ends, "a pin of {device} via {via:?}, and {proof:?}");
        }
    }
    assert_eq!(kept(machine).0, 30 - 7, "a pin that is dropped without a proof leaks its page");
    assert!(!machine.promises().broken().is_empty(), "P2 says so each time");
}

#[test]
fn pages_that_are_unconfirmed_when_their_domain_goes_wait_for_it_or_for_a_quiet_device_that_has_left_it() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(move |dev| {
        let lent = dev.dma().map(dev.dma().buffer(PAGE_SIZE)?, Direction::FromDevice)?;
        mmu.state.lock().unwrap().dead = true;
        assert!(lent.unmap().is_err());
        Ok(Vec::from([Box::new(()) as _]))
    }));
    board.unbind();
    assert_eq!(kept(&board.machine), (1, 1), "P2: the hardware is dead, and nothing else was shown");
    assert!(board.bind(|dev| {
        assert!(matches!(dev.dma().buffer(1), Err(DmaError::Quarantined(_))), "P11");
        dev.mark_quiesced(Quiesced::stopped());
        Ok(Vec::new())
    }));
    assert_eq!(kept(&board.machine), (0, 0), "quiet, and its stream goes elsewhere");
    assert_eq!(board.machine.promises().broken(), []);
}
