//! Each state of a page, and the behaviour of each path that frees, maps, pins, views, transfers or recovers it: the
//! table of docs/decisions/0007, a test for each row.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{TestBoard, toy_domain};
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::dma::pin::{AccessPath, PagePin, PinOwner, PinState, Unreachable, release_all};
use crate::dma::{Direction, DmaBuffer, DmaError, DmaMemory, Ioas, IoasError};
use crate::driver::Quiesced;
use crate::env::{Env, Instant};
use crate::iommu::{DomainKind, Gather, Prot};
use crate::machine::Machine;
use crate::system::{DeviceRegistry, System};

/// Allocated pages, and entries in quarantine.
fn in_use(machine: &System) -> (u64, usize) {
    (machine.memory().frames().in_use(), machine.quarantine_table().list().len())
}

/// Maps `memory` for a user of another device, in a domain of its own, and unmaps it.
fn pin_for_a_user(board: &(Arc<Machine>, Arc<super::board::ToyMmu>), memory: &Arc<DmaMemory>) {
    let (machine, mmu) = board;
    let ioas = Ioas::new(&machine.system, &"2000.lab".into(), None, toy_domain(mmu, DomainKind::Unmanaged));
    ioas.map(DeviceAddr(0x7000_0000), memory, 0, PAGE_SIZE, Prot::READ).unwrap();
    assert!(ioas.clear());
}

#[test]
fn a_free_page_can_be_mapped_pinned_and_viewed_and_is_freed_at_once() {
    TestBoard::translated(DomainKind::Strict).run(|dev| {
        let machine = dev.state.system();
        let before = in_use(machine);
        let mut buffer = dev.dma().buffer(PAGE_SIZE)?;
        buffer.as_mut_slice()[0] = 1;
        buffer = dev.dma().map(buffer, Direction::ToDevice)?.unmap()?;
        assert_eq!(buffer.as_slice()[0], 1);
        drop(buffer);
        assert_eq!(in_use(machine), before);
        Ok(Vec::new())
    });
}

#[test]
fn a_mapped_page_stays_allocated_when_every_handle_is_dropped() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    let user = (Arc::clone(&board.machine), Arc::clone(&board.mmu));
    board.run(move |dev| {
        let machine = dev.state.system();
        let before = in_use(machine);
        let shared = dev.dma().coherent(PAGE_SIZE)?;
        let (at, memory) = (shared.device_addr(), shared.memory());
        // Pin: allowed for every holder of the memory. Copies are always possible, slices are not.
        pin_for_a_user(&user, &memory);
        memory.write_bytes(0, &[1]);
        // Free: not by dropping handles; nor does a quiesced device end an existing mapping.
        drop((shared, memory));
        dev.mark_quiesced(Quiesced::stopped());
        assert!(mmu.state.lock().unwrap().dma_reachable(at).is_some());
        assert_eq!(in_use(machine), (before.0 + 1, 0));
        // A confirmed flush covers only unmapped ranges.
        drop(dev.dma().map(dev.dma().buffer(1)?, Direction::ToDevice)?.unmap()?);
        assert_eq!(in_use(machine), (before.0 + 1, 0));
        // View: a copy, while the page is mapped.
        let mut mapped = dev.dma().map(dev.dma().buffer(PAGE_SIZE)?, Direction::Bidirectional)?;
        mapped.sync_for_cpu()[0] = 2;
        assert_eq!(mapped.unmap()?.as_slice()[0], 2);
        Ok(Vec::new())
    });
}

#[test]
fn a_queued_page_is_freed_by_the_flush_which_users_of_the_page_request() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let (mmu, env) = (Arc::clone(&board.mmu), Arc::clone(&board.env));
    board.run(move |dev| {
        let machine = dev.state.system();
        let before = in_use(machine);
        let flushes = || mmu.state.lock().unwrap().flushes;
        let queued = || -> Result<DmaBuffer, DmaError> {
            dev.dma().map(dev.dma().buffer(PAGE_SIZE)?, Direction::FromDevice)?.unmap()
        };
        let asked = flushes();
        // Free: pinned.
        drop(queued()?);
        assert_eq!((in_use(machine), flushes()), ((before.0 + 1, 0), asked));
        // A quiesced device is no proof for pages reached through a domain, nor is it needed.
        dev.mark_quiesced(Quiesced::stopped());
        assert_eq!((in_use(machine), flushes()), ((before.0 + 1, 0), asked));
        // Map in the same domain, and copy: no flush is needed.
        let buffer = dev.dma().map(queued()?, Direction::FromDevice)?.unmap()?;
        buffer.read_bytes(0, &mut [0]);
        assert_eq!(flushes(), asked);
        // Map elsewhere, and slice: flush first.
        assert!(buffer.memory().confirm_unmapped(None).is_ok());
        assert_eq!(
            (in_use(machine), flushes()),
            ((before.0 + 1, 0), asked + 1),
            "one flush confirms all queued unmaps"
        );
        assert_eq!(queued()?.as_slice()[0], 0);
        assert_eq!(flushes(), asked + 2);
        // The timer flushes, too.
        drop((buffer, queued()?));
        env.advance(Instant(env.now().0 + 10_000_000));
        assert_eq!((in_use(machine), flushes()), (before, asked + 3));
        Ok(Vec::new())
    });
}

#[test]
fn an_unconfirmed_page_has_no_owner_until_a_flush_is_confirmed() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let mmu = Arc::clone(&board.mmu);
    let user = (Arc::clone(&board.machine), Arc::clone(&board.mmu));
    board.run(move |dev| {
        let machine = dev.state.system();
        let before = in_use(machine);
        let unresponsive = |unresponsive| mmu.state.lock().unwrap().unresponsive = unresponsive;
        let mut buffer = dev.dma().map(dev.dma().buffer(PAGE_SIZE)?, Direction::FromDevice)?.unmap()?;
        unresponsive(true);
        // Map elsewhere: requests a flush, and is refused; from then on the page is in quarantine, although a handle
        // holds it.
        assert_eq!(buffer.memory().confirm_unmapped(None), Err(DmaError::Unconfirmed));
        assert_eq!(in_use(machine), (before.0 + 1, 1));
        // Map in the same domain: refused as well, after another flush.
        let asked = mmu.state.lock().unwrap().flushes;
        let own = dev.state.system().iommus().groups()[0].domain().unwrap();
        assert_eq!(buffer.memory().confirm_unmapped(Some(&own)), Err(DmaError::Unconfirmed));
        assert_eq!(mmu.state.lock().unwrap().flushes, asked + 1);
        let refused = dev.dma().map(buffer, Direction::ToDevice).unwrap_err();
        assert_eq!(refused.error, DmaError::Quarantined(PAGE_SIZE), "P11");
        // View: a copy.
        buffer = refused.returned;
        buffer.as_mut_slice()[0] = 1;
        assert_eq!(buffer.as_slice()[0], 1);
        let mut there = [9];
        buffer.memory().read_bytes(0, &mut there);
        assert_eq!(there, [0], "the slice is not of the memory that the device reaches");
        // A quiesced device proves nothing about the IOTLB (another member of the group may be active).
        dev.mark_quiesced(Quiesced::stopped());
        assert_eq!(in_use(machine), (before.0 + 1, 1), "P2");
        // Pin: allowed for every holder of the memory; the user's own proof ends only the user's own pin.
        unresponsive(false);
        let memory = Arc::clone(buffer.memory());
        unresponsive(true);
        drop(buffer);
        assert_eq!(in_use(machine), (before.0 + 1, 1), "free: pinned");
        unresponsive(false);
        pin_for_a_user(&user, &memory);
        assert_eq!(in_use(machine), (before.0 + 1, 1), "a flush of another domain is no proof for this one");
        drop(memory);
        // A quiesced device retries the flush.
        dev.mark_quiesced(Quiesced::stopped());
        assert_eq!(in_use(machine), before, "P4");
        Ok(Vec::new())
    });
}

#[test]
fn a_page_that_is_still_in_the_table_has_no_owner_until_the_translation_is_off() {
    let kinds = [DomainKind::Strict, DomainKind::Lazy];
    for (kind, hangs) in kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let board = TestBoard::translated(kind);
        let mmu = Arc::clone(&board.mmu);
        let user = (Arc::clone(&board.machine), Arc::clone(&board.mmu));
        assert!(board.bind(move |dev| {
            let machine = dev.state.system();
            let unmap_fails = |fails| {
                let mut state = mmu.state.lock().unwrap();
                (state.unmap_fails, state.unresponsive) = (fails, fails && hangs);
            };
            let buffer = dev.dma().buffer(PAGE_SIZE)?;
            let memory = Arc::clone(buffer.memory());
            let mapped = dev.dma().map(buffer, Direction::FromDevice)?;
            let at = mapped.device_addr();
            unmap_fails(true);
            assert_eq!(mapped.unmap().unwrap_err(), DmaError::Quarantined(PAGE_SIZE));
            unmap_fails(false);
            assert_eq!(in_use(machine), (1, 1), "free: pinned, and listed");
            // Map: refused, in the same domain too, although the hardware responds to the flush.
            let own = machine.iommus().groups()[0].domain().unwrap();
            assert_eq!(memory.confirm_unmapped(Some(&own)), Err(DmaError::Unconfirmed));
            assert_eq!(memory.confirm_unmapped(None), Err(DmaError::Unconfirmed));
            machine.quarantine_table().retry(machine);
            // Copy and pin: allowed for every holder of the memory.
            memory.read_bytes(0, &mut [0]);
            pin_for_a_user(&user, &memory);
            drop(memory);
            // Neither confirmed flushes nor a quiesced device end an entry of the table.
            let range = crate::iommu::Range { iova: at, len: PAGE_SIZE };
            assert!(own.retry_unconfirmed(machine, range), "its address is in use");
            dev.mark_quiesced(Quiesced::stopped());
            assert!(mmu.state.lock().unwrap().dma_reachable(at).is_some());
            assert_eq!(in_use(machine), (1, 1), "P2");
            Ok(Vec::new())
        }));
        board.unbind();
        board.env.advance(Instant(board.env.now().0 + 20_000_000_000));
        assert_eq!(in_use(&board.machine), (0, 0), "P4: the translation is off, and the hardware has confirmed it");
        assert_eq!(board.machine.promises().broken(), []);
    }
}

#[test]
fn a_users_page_that_is_still_in_the_table_occupies_its_address() {
    let board = TestBoard::translated(DomainKind::Strict);
    let domain = toy_domain(&board.mmu, DomainKind::Unmanaged);
    let ioas = Ioas::new(&board.machine.system, &"2000.lab".into(), None, domain);
    let (at, beside) = (DeviceAddr(0x7000_0000), DeviceAddr(0x7000_1000));
    let page = || DmaMemory::allocate(board.machine.memory(), PAGE_SIZE).unwrap();
    ioas.map(at, &page(), 0, PAGE_SIZE, Prot::READ).unwrap();
    board.mmu.state.lock().unwrap().unmap_fails = true;
    assert_eq!(ioas.unmap(at, PAGE_SIZE), Err(IoasError::Unconfirmed(at)));
    board.mmu.state.lock().unwrap().unmap_fails = false;
    ioas.map(beside, &page(), 0, PAGE_SIZE, Prot::READ).unwrap();
    ioas.unmap(beside, PAGE_SIZE).unwrap();
    assert_eq!(ioas.map(at, &page(), 0, PAGE_SIZE, Prot::READ), Err(IoasError::Unconfirmed(at)));
    assert_eq!(in_use(&board.machine), (1, 1));
}

#[test]
fn a_page_of_a_device_that_was_not_quiesced_is_held_until_it_is() {
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
    assert_eq!(in_use(machine), (1, 1));
    let memory = outlives.lock().unwrap().take().unwrap();
    assert_eq!(memory.confirm_unmapped(None), Err(DmaError::Unconfirmed), "map");
    memory.read_bytes(0, &mut [0]);
    pin_for_a_user(&user, &memory);
    assert_eq!(in_use(machine), (1, 1), "a user's proof covers the user's pin only");
    drop(memory);
    assert_eq!(in_use(machine), (1, 1), "free: pinned");
    let other = crate::device::Device::new(crate::device::NodeId(99), crate::device::DeviceDesc::new("2000.lab"), None);
    machine.device_quiesced(&other, &Quiesced::stopped());
    assert_eq!(in_use(machine), (1, 1), "P11: another device is no proof for this one");
    assert_eq!(machine.promises().broken(), [], "nor is its proof used for this one");
    board.unbind();
    assert!(board.bind(|dev| {
        dev.mark_quiesced(Quiesced::in_reset());
        Ok(Vec::new())
    }));
    assert_eq!(in_use(machine), (0, 0), "P4");
}

#[test]
fn a_stream_that_could_not_be_detached_pins_the_pages_of_its_quiesced_device() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(move |dev| {
        let mapped = dev.dma().map(dev.dma().buffer(PAGE_SIZE)?, Direction::FromDevice)?;
        mmu.state.lock().unwrap().unresponsive = true;
        assert!(mapped.unmap().is_err());
        Ok(Vec::from([Box::new(()) as _]))
    }));
    board.mmu.state.lock().unwrap().attach_fails = true;
    board.unbind();
    board.mmu.state.lock().unwrap().attach_fails = false;
    assert!(board.bind(|dev| {
        dev.mark_quiesced(Quiesced::stopped());
        Ok(Vec::new())
    }));
    assert_eq!(in_use(&board.machine), (1, 1), "P2: the stream may go through the old domain still");
    board.mmu.state.lock().unwrap().unresponsive = false;
    assert!(board.machine.quarantine_table().retry(&board.machine));
    assert_eq!(in_use(&board.machine), (0, 0), "P4");
}

#[test]
fn a_confirmed_flush_frees_the_pages_of_its_domain_only() {
    let board = TestBoard::translated(DomainKind::Strict);
    let domains = [(); 2].map(|()| toy_domain(&board.mmu, DomainKind::Unmanaged));
    let users = domains.each_ref().map(|d| Ioas::new(&board.machine.system, &"2000.lab".into(), None, Arc::clone(d)));
    let at = |n: usize| DeviceAddr(0x7000_0000 + n as u64 * PAGE_SIZE);
    for (n, user) in users.iter().enumerate() {
        let page = DmaMemory::allocate(board.machine.memory(), PAGE_SIZE).unwrap();
        user.map(at(n), &page, 0, PAGE_SIZE, Prot::READ).unwrap();
    }
    board.mmu.state.lock().unwrap().unresponsive = true;
    for (n, user) in users.iter().enumerate() {
        assert_eq!(user.unmap(at(n), PAGE_SIZE), Err(IoasError::Unconfirmed(at(n))));
    }
    board.mmu.state.lock().unwrap().unresponsive = false;
    assert_eq!(in_use(&board.machine), (2, 2));
    assert!(domains[0].retry(&board.machine));
    assert_eq!(in_use(&board.machine), (1, 1), "P2: no proof for the other domain");
    assert!(domains[1].retry(&board.machine));
    assert_eq!(in_use(&board.machine), (0, 0), "P4");
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn a_proof_ends_the_pins_that_it_covers_and_no_others() {
    let board = TestBoard::translated(DomainKind::Strict);
    let machine = &board.machine;
    let [own, other] = [(); 2].map(|()| toy_domain(&board.mmu, DomainKind::Strict));
    let (a, b): (Arc<str>, Arc<str>) = ("1000.lab".into(), "2000.lab".into());
    let through = |domain| AccessPath::Domain(Arc::downgrade(domain));
    other.retire();
    let flushed = |domain| Unreachable::flushed(Gather::new().confirm(), domain);
    let quiet = |device| Unreachable::quiesced(&Quiesced::stopped(), device);
    assert!(Unreachable::detached(&Quiesced::stopped(), &a, &own).is_none(), "it is on");
    let detached = |device| Unreachable::detached(&Quiesced::stopped(), device, &other).unwrap();
    // Device and path of the pin, and which of the proofs end it.
    let proofs = || [flushed(&own), flushed(&other), quiet(&a), quiet(&b), detached(&a), detached(&b)];
    for (device, path, ends) in [
        (&a, AccessPath::Direct, [false, false, true, false, false, false]),
        (&b, AccessPath::Direct, [false, false, false, true, false, false]),
        (&a, through(&own), [true, false, false, false, false, false]),
        (&a, through(&other), [false, true, false, false, true, false]),
        (&b, through(&other), [false, true, false, false, false, true]),
    ] {
        let pin_owner = PinOwner::new(&machine.system, device, path.clone());
        for (proof, ends) in proofs().iter().zip(ends) {
            let memory = DmaMemory::allocate(machine.memory(), PAGE_SIZE).unwrap();
            let pins = Vec::from([PagePin::new(&memory, &pin_owner)]);
            drop(memory);
            let left = release_all(machine, pins, proof);
            assert_eq!(left.is_empty(), ends, "a pin of {device} via {path:?}, and {proof:?}");
        }
    }
    assert_eq!(in_use(machine).0, 30 - 7, "a pin that is dropped without a proof leaks its page");
    assert!(!machine.promises().broken().is_empty(), "P2 reports each");
}

/// A page may be mapped by several at once: what is known of one of them says nothing of the others.
#[test]
fn each_of_several_pins_of_a_page_has_a_state_of_its_own_and_ends_alone() {
    let board = TestBoard::translated(DomainKind::Strict);
    let machine = &board.machine;
    let [own, other] = [(); 2].map(|()| toy_domain(&board.mmu, DomainKind::Lazy));
    let memory = DmaMemory::allocate(machine.memory(), PAGE_SIZE).unwrap();
    let pin = |domain| {
        let path = AccessPath::Domain(Arc::downgrade(domain));
        PagePin::new(&memory, &PinOwner::new(&machine.system, &"1000.lab".into(), path))
    };
    let pending = |domain| memory.record().pending(Some(domain)).len();
    let end = |pin: PagePin, domain| {
        let left = release_all(machine, Vec::from([pin]), &Unreachable::flushed(Gather::new().confirm(), domain));
        assert!(left.is_empty());
    };
    let (first, second, third) = (pin(&own), pin(&other), pin(&own));
    assert_eq!((pending(&own), pending(&other)), (3, 3));
    first.set(PinState::Queued);
    assert_eq!((pending(&own), pending(&other)), (2, 3), "only its own domain may map it again");
    third.set(PinState::Queued);
    assert_eq!((pending(&own), pending(&other)), (1, 3));
    end(second, &other);
    assert_eq!((pending(&own), pending(&other)), (0, 2), "the other domain's ended, and no other one");
    end(first, &own);
    assert!(memory.record().is_pinned());
    assert_eq!(pending(&other), 1);
    end(third, &own);
    assert!(!memory.record().is_pinned());
}

#[test]
fn unconfirmed_pages_of_a_dropped_domain_need_its_flush_or_a_quiesced_and_detached_device() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(move |dev| {
        let mapped = dev.dma().map(dev.dma().buffer(PAGE_SIZE)?, Direction::FromDevice)?;
        mmu.state.lock().unwrap().unresponsive = true;
        assert!(mapped.unmap().is_err());
        Ok(Vec::from([Box::new(()) as _]))
    }));
    board.unbind();
    assert_eq!(in_use(&board.machine), (1, 1), "P2: the hardware does not respond, and there is no other proof");
    assert!(board.bind(|dev| {
        assert!(matches!(dev.dma().buffer(1), Err(DmaError::Quarantined(_))), "P11");
        dev.mark_quiesced(Quiesced::stopped());
        Ok(Vec::new())
    }));
    assert_eq!(in_use(&board.machine), (0, 0), "quiesced, and its stream is detached");
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn a_quiesced_device_gets_back_all_that_is_held_for_whatever_reason_in_whatever_order() {
    #[derive(Clone, Copy, Debug)]
    enum Held {
        /// Untranslated, until the device is quiesced.
        Direct,
        /// Until a flush, which the IOMMU confirms by now.
        Confirmable,
        /// Until a flush by an IOMMU that stays silent, but no stream is attached to that domain any more.
        Detached,
    }
    use Held::{Confirmable, Detached, Direct};
    for order in [
        [Direct, Confirmable, Detached],
        [Direct, Detached, Confirmable],
        [Confirmable, Direct, Detached],
        [Confirmable, Detached, Direct],
        [Detached, Direct, Confirmable],
        [Detached, Confirmable, Direct],
    ] {
        let board = TestBoard::translated(DomainKind::Strict);
        let (machine, name): (_, Arc<str>) = (&board.machine, "1000.lab".into());
        let mut silent = Vec::new();
        let before = in_use(machine);
        for (n, held) in order.into_iter().enumerate() {
            let page = DmaMemory::allocate(machine.memory(), PAGE_SIZE).unwrap();
            if matches!(held, Direct) {
                let owner = PinOwner::new(&machine.system, &name, AccessPath::Direct);
                let pins = [PagePin::new(&page, &owner)].into_iter().collect();
                machine.quarantine_table().hold_until_quiesced(machine, &name, pins, "it did not stop".into());
                continue;
            }
            let mmu = Arc::new(super::board::ToyMmu::default());
            let domain = toy_domain(&mmu, DomainKind::Unmanaged);
            let ioas = Ioas::new(&machine.system, &name, None, Arc::clone(&domain));
            let at = DeviceAddr(0x7000_0000 + n as u64 * PAGE_SIZE);
            ioas.map(at, &page, 0, PAGE_SIZE, Prot::READ).unwrap();
            mmu.state.lock().unwrap().unresponsive = true;
            assert_eq!(ioas.unmap(at, PAGE_SIZE), Err(IoasError::Unconfirmed(at)));
            if matches!(held, Confirmable) {
                mmu.state.lock().unwrap().unresponsive = false;
            } else {
                domain.retire();
            }
            silent.push((mmu, ioas));
        }
        assert_eq!(in_use(machine), (before.0 + 3, 3), "P2: {order:?}");
        machine.device_quiesced(&machine.device(&name).unwrap(), &Quiesced::stopped());
        assert_eq!(in_use(machine), before, "P4: {order:?}");
        assert_eq!(machine.promises().broken(), []);
    }
}

/// P11: an IOMMU that hangs keeps what is behind it, and nothing that is behind another one.
#[test]
fn pages_behind_an_iommu_that_answers_are_freed_while_others_hang() {
    for answers in 0..3 {
        let board = TestBoard::translated(DomainKind::Strict);
        let mmus = [(); 3].map(|()| Arc::new(super::board::ToyMmu::default()));
        let users = mmus.each_ref().map(|mmu| {
            let domain = toy_domain(mmu, DomainKind::Unmanaged);
            Ioas::new(&board.machine.system, &"2000.lab".into(), None, domain)
        });
        let at = DeviceAddr(0x7000_0000);
        for (user, mmu) in users.iter().zip(&mmus) {
            let page = DmaMemory::allocate(board.machine.memory(), PAGE_SIZE).unwrap();
            user.map(at, &page, 0, PAGE_SIZE, Prot::READ).unwrap();
            mmu.state.lock().unwrap().unresponsive = true;
            assert_eq!(user.unmap(at, PAGE_SIZE), Err(IoasError::Unconfirmed(at)));
        }
        mmus[answers].state.lock().unwrap().unresponsive = false;
        assert!(!board.machine.quarantine_table().retry(&board.machine));
        assert_eq!(in_use(&board.machine), (2, 2), "IOMMU {answers} answers");
        for mmu in &mmus {
            mmu.state.lock().unwrap().unresponsive = false;
        }
        assert!(board.machine.quarantine_table().retry(&board.machine));
        assert_eq!(in_use(&board.machine), (0, 0), "P4");
    }
}
