//! Mappings of a peer's registers.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{LOW, MMU, ProbeData, TestBoard};
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::binding::{Bound, Mmio};
use crate::claim::{Holder, Mode, Subject};
use crate::device::{DeviceDesc, Resource, Supplier, SupplierKind};
use crate::dma::{Direction, DmaError};
use crate::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::event::EventKind;
use crate::iommu::{DomainKind, Prot};

fn with_fifo(board: &TestBoard) {
    let mut fifo = DeviceDesc::new("fifo");
    fifo.resources.push(Resource::Mem { base: PhysAddr(0xe600_0000), len: 0x100 });
    board.machine.add_device(fifo).unwrap();
}

#[test]
fn registers_of_another_device_are_reachable_until_unmap() {
    let board = TestBoard::translated(DomainKind::Strict);
    with_fifo(&board);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let fifo = dev.dma().map_resource(PhysAddr(0xe600_0040), 4, Direction::FromDevice)?;
        let at = fifo.device_addr();
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(at), Some(PhysAddr(0xe600_0040)));
        assert_eq!(mmu.state.lock().unwrap().prot(at), Some(Prot::WRITE | Prot::MMIO));
        fifo.unmap()?;
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(at), None);
        Ok(Vec::new())
    });
    let direct = TestBoard::direct();
    with_fifo(&direct);
    direct.run(|dev| {
        let fifo = dev.dma().map_resource(PhysAddr(0xe600_0040), 4, Direction::ToDevice)?;
        assert_eq!(fifo.device_addr().0, 0xe600_0040);
        Ok(Vec::new())
    });
}

#[test]
fn ram_unknown_addresses_and_an_iommu_are_refused() {
    let board = TestBoard::translated(DomainKind::Strict);
    with_fifo(&board);
    board.run(|dev| {
        let dma = dev.dma();
        for (phys, len) in [(LOW, 64), (LOW - 4096, 8192), (0xe700_0000, 4), (0xe600_0000, 0x101), (MMU.0.0, 4)] {
            let refused = dma.map_resource(PhysAddr(phys), len, Direction::Bidirectional).unwrap_err();
            assert_eq!(refused, DmaError::NotRegisters(PhysAddr(phys)), "{phys:#x} {len}");
        }
        for (phys, len) in [(0xe600_0000, 0), (u64::MAX, 2), (0xe600_0000, u64::MAX >> 1)] {
            let refused = dma.map_resource(PhysAddr(phys), len, Direction::Bidirectional).unwrap_err();
            assert_eq!(refused, DmaError::BadSize(len));
        }
        Ok(Vec::new())
    });
}

/// P11: a device that is given a page reaches all of it.
#[test]
fn registers_are_refused_that_have_an_iommu_on_one_of_their_pages() {
    const FROM: u64 = MMU.0.0 - 3 * PAGE_SIZE;
    let board = TestBoard::translated(DomainKind::Strict);
    let mut fifo = DeviceDesc::new("fifo");
    // Around those of the IOMMU, on their page as well.
    for (base, end) in [(FROM, MMU.0.0), (MMU.0.0 + MMU.1, MMU.0.0 + 4 * PAGE_SIZE)] {
        fifo.resources.push(Resource::Mem { base: PhysAddr(base), len: end - base });
    }
    board.machine.add_device(fifo).unwrap();
    board.run(|dev| {
        let mmu = MMU.0.page_start().0;
        let mut mapped = 0;
        for (at, len) in (0..7 * PAGE_SIZE).step_by(0x100).flat_map(|at| [4, 0x300, 0x1000].map(|len| (FROM + at, len)))
        {
            let is_fifo = at + len <= MMU.0.0 || (MMU.0.0 + MMU.1 <= at && at + len <= MMU.0.0 + 4 * PAGE_SIZE);
            let is_apart = at + len <= mmu || mmu + PAGE_SIZE <= at;
            let fifo = dev.dma().map_resource(PhysAddr(at), len, Direction::FromDevice);
            assert_eq!(fifo.is_ok(), is_fifo && is_apart, "{at:#x}, {len:#x}: {:?}", fifo.err());
            mapped += usize::from(is_fifo && is_apart);
        }
        assert!(mapped > 100, "{mapped}");
        Ok(Vec::new())
    });
}

fn bound_fifo(board: &TestBoard) -> Arc<str> {
    let mut fifo = DeviceDesc::new("fifo");
    fifo.compatible.push("acme,fifo".into());
    fifo.resources.push(Resource::Mem { base: PhysAddr(0xe600_0000), len: 0x100 });
    board.machine.add_device(fifo).unwrap();
    board.machine.register(Fifo);
    board.machine.settle();
    "fifo".into()
}

/// Driver of the peer: holds the registers that others map.
struct Fifo;

impl Driver for Fifo {
    const NAME: &'static str = "fifo";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,fifo")];
    type Data<'b> = Mmio<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Mmio<'b>, ProbeError> {
        Ok(dev.mmio(0)?)
    }

    fn quiesce(_: &Mmio<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn unbinding_a_peer_first_unbinds_the_device_that_maps_its_registers() {
    let board = TestBoard::translated(DomainKind::Strict);
    bound_fifo(&board);
    assert!(board.bind(|dev| {
        let fifo = dev.dma().map_resource(PhysAddr(0xe600_0040), 4, Direction::FromDevice)?;
        Ok(Vec::from([Box::new(fifo) as _]))
    }));
    let mmu = Arc::clone(&board.mmu);
    assert_eq!(mmu.state.lock().unwrap().mapped_pages(), 1);
    board.machine.unbind("fifo", "fifo").unwrap();
    assert_eq!(mmu.state.lock().unwrap().mapped_pages(), 0, "P6, P14: no device maps the registers any more");
    assert_eq!(board.machine.device("1000.lab").unwrap().driver(), None);
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn registers_held_by_a_guest_are_refused_and_a_guest_gets_none_that_a_device_maps() {
    let board = TestBoard::translated(DomainKind::Strict);
    with_fifo(&board);
    let (env, mmu) = (Arc::clone(&board.env), Arc::clone(&board.mmu));
    board.run(move |dev| {
        let machine = dev.state.system();
        let guest = Holder::pass_through(&"fifo".into(), "fifo (a guest)");
        let window = Subject::whole_pages(PhysAddr(0xe600_0000), 0x100);
        let held = machine.claim(&window, &guest, Mode::Exclusive).unwrap();
        let refused = dev.dma().map_resource(PhysAddr(0xe600_0040), 4, Direction::FromDevice).unwrap_err();
        assert_eq!(refused, DmaError::Held(PhysAddr(0xe600_0040)), "P14");
        let reported = |e: &EventKind| matches!(e, EventKind::Refused { reason, .. } if reason.contains("a guest"));
        assert!(env.event_kinds("1000.lab").iter().any(reported), "with the holder's name");
        machine.release_claim(&held);

        let fifo = dev.dma().map_resource(PhysAddr(0xe600_0040), 4, Direction::FromDevice)?;
        assert!(machine.claim(&window, &guest, Mode::Exclusive).is_err(), "P14: the device maps it");
        mmu.state.lock().unwrap().unresponsive = true;
        assert_eq!(fifo.unmap().unwrap_err(), DmaError::Unconfirmed);
        assert!(machine.claim(&window, &guest, Mode::Exclusive).is_err(), "P2: unmapped, but not confirmed");
        mmu.state.lock().unwrap().unresponsive = false;
        dev.mark_quiesced(Quiesced::stopped());
        machine.release_claim(&machine.claim(&window, &guest, Mode::Exclusive).unwrap());
        Ok(Vec::new())
    });
}

const FIFO: PhysAddr = PhysAddr(0xe600_0040);

/// Probe that maps the FIFO's registers.
fn map_fifo(dev: Bound<'_>) -> Result<ProbeData<'_>, ProbeError> {
    Ok(Vec::from([Box::new(dev.dma().map_resource(FIFO, 4, Direction::FromDevice)?) as _]))
}

/// Description of a device with the FIFO's registers; it is not bound before [`Fifo`] is registered.
fn describe_fifo(name: &str) -> DeviceDesc {
    let mut fifo = DeviceDesc::new(name);
    fifo.compatible.push("acme,fifo".into());
    fifo.resources.push(Resource::Mem { base: PhysAddr(0xe600_0000), len: 0x100 });
    fifo
}

/// A board whose device maps the registers of a FIFO that is not bound.
fn board_with_mapped_fifo() -> TestBoard {
    let board = TestBoard::translated(DomainKind::Strict);
    board.machine.add_device(describe_fifo("fifo")).unwrap();
    assert!(board.bind(map_fifo));
    board
}

/// Drivers of the device that maps the registers, and of the peer that they belong to.
fn drivers(board: &TestBoard) -> [Option<&'static str>; 2] {
    ["1000.lab", "fifo"].map(|name| board.machine.device(name).and_then(|d| d.driver()))
}

/// Names of the devices in the order of their unbinding.
fn unbind_order(board: &TestBoard) -> Vec<String> {
    let events = board.env.events.lock().unwrap();
    let ended = events.iter().filter(|e| matches!(e.kind, EventKind::Unbound { .. }));
    ended.filter_map(|e| e.device.as_deref().map(String::from)).collect()
}

#[test]
fn a_peer_that_is_bound_later_becomes_a_supplier_then() {
    let board = board_with_mapped_fifo();
    board.machine.register(Fifo);
    board.machine.settle();
    assert_eq!(drivers(&board), [Some("lab"), Some("fifo")]);
    board.machine.unbind("fifo", "fifo").unwrap();
    assert_eq!(unbind_order(&board), ["1000.lab", "fifo"], "P6: the device that maps its registers is unbound first");
    assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0, "P14");
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn an_unmapped_peer_is_no_supplier() {
    let board = TestBoard::translated(DomainKind::Strict);
    board.machine.add_device(describe_fifo("fifo")).unwrap();
    assert!(board.bind(|dev| {
        dev.dma().map_resource(FIFO, 4, Direction::FromDevice)?.unmap()?;
        Ok(Vec::new())
    }));
    board.machine.register(Fifo);
    board.machine.settle();
    board.machine.unbind("fifo", "fifo").unwrap();
    assert_eq!(drivers(&board), [Some("lab"), None]);
}

#[test]
fn removal_of_an_unbound_peer_unbinds_the_device_that_maps_its_registers() {
    for vanishes in [false, true] {
        let board = board_with_mapped_fifo();
        let machine = &board.machine;
        assert!(if vanishes { machine.device_vanished("fifo") } else { machine.remove_device("fifo") });
        assert_eq!(drivers(&board), [None, None], "P14: the registers are gone");
        assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0);
        assert_eq!(machine.promises().broken(), []);
    }
}

#[test]
fn a_guest_gets_mapped_registers_once_they_are_unmapped() {
    let board = board_with_mapped_fifo();
    let machine = &board.machine;
    let guest = Holder::pass_through(&"fifo".into(), "given");
    let window = Subject::whole_pages(PhysAddr(0xe600_0000), 0x100);
    let conflict = machine.claim(&window, &guest, Mode::Exclusive).unwrap_err();
    assert_eq!(
        alloc::format!("{conflict}"),
        "registers 0xe6000000 + 0x1000 are held by 1000.lab (DMA), peer",
        "by name"
    );
    board.unbind();
    machine.release_claim(&machine.claim(&window, &guest, Mode::Exclusive).unwrap());
}

/// Description of a FIFO that is a consumer of the board's device.
fn reached_by_its_supplier(board: &TestBoard) -> DeviceDesc {
    let lab = board.machine.device("1000.lab").unwrap().node();
    let mut fifo = describe_fifo("fifo");
    let (kind, property) = (SupplierKind::Other, "dmas".into());
    fifo.suppliers.push(Supplier { node: lab, target: lab, kind, property, args: Vec::new() });
    fifo
}

#[test]
fn a_peer_that_is_a_consumer_of_the_device_is_refused_bound_or_not() {
    for driver_comes_first in [false, true] {
        let board = TestBoard::translated(DomainKind::Strict);
        board.machine.add_device(reached_by_its_supplier(&board)).unwrap();
        if driver_comes_first {
            board.machine.register(Fifo);
        }
        assert!(board.bind(|dev| {
            let refused = dev.dma().map_resource(FIFO, 4, Direction::FromDevice).unwrap_err();
            assert_eq!(refused, DmaError::PeerCycle(FIFO));
            Ok(Vec::new())
        }));
        let reported = |e: &EventKind| matches!(e, EventKind::Refused { reason, .. } if reason.contains("fifo needs"));
        assert!(board.env.event_kinds("1000.lab").iter().any(reported), "{:?}", board.env.event_kinds("1000.lab"));
    }
}

#[test]
fn of_two_devices_that_need_each_other_the_one_that_maps_registers_is_unbound() {
    let board = board_with_mapped_fifo();
    // A second device on the same page, by firmware a consumer of the first.
    let mut second = reached_by_its_supplier(&board);
    (second.name, second.resources[0]) = ("fifo2".into(), Resource::Mem { base: PhysAddr(0xe600_0200), len: 0x100 });
    board.machine.add_device(second).unwrap();
    board.machine.register(Fifo);
    board.machine.settle();
    let reported =
        |e: &EventKind| matches!(e, EventKind::Refused { reason, .. } if reason.contains("fifo2 is bound now"));
    assert!(board.env.event_kinds("1000.lab").iter().any(reported), "{:?}", board.env.event_kinds("1000.lab"));
    assert_eq!(
        (drivers(&board), unbind_order(&board)),
        ([None, Some("fifo")], Vec::from(["fifo2".into(), "1000.lab".into()]))
    );
    assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0);
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn registers_of_a_partial_map_are_refused_to_guests_until_the_iommu_has_confirmed() {
    let board = TestBoard::translated(DomainKind::Strict);
    with_fifo(&board);
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(move |dev| {
        let machine = dev.state.system();
        let guest = Holder::owner(&"guest".into());
        let subject = Subject::whole_pages(PhysAddr(0xe600_0000), 4);
        let set_partial = |set_partial| mmu.state.lock().unwrap().partial_maps = set_partial;
        set_partial(true);
        let refused = dev.dma().map_resource(PhysAddr(0xe600_0000), 4, Direction::FromDevice).unwrap_err();
        assert_eq!(refused, DmaError::Unconfirmed);
        set_partial(false);
        assert!(machine.claim(&subject, &guest, Mode::Exclusive).is_err(), "the device may still reach them");
        assert_eq!(machine.quarantine_table().list().len(), 1);
        assert!(machine.quarantine_table().retry(machine), "the flush is retried");
        let claim = machine.claim(&subject, &guest, Mode::Exclusive).map_err(|_| ProbeError::Device("held"))?;
        machine.release_claim(&claim);
        Ok(Vec::new())
    }));
    board.unbind();
    assert_eq!(board.machine.quarantine(), []);
    assert_eq!(board.machine.promises().broken(), []);
}
