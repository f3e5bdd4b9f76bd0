//! Streaming DMA on the Salvator board: the real IPMMU driver, caches that the device does not snoop.
#![allow(clippy::unwrap_used)]

mod common;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::binding::Bound;
use bindery::dma::{Attrs, Direction, DmaBuffer};
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::iommu::DomainKind;
use bindery_sim::models::ipmmu::Fault;
use bindery_sim::salvator::SATA_UTLB;
use common::{Rig, SATA};

/// Driver that is bound to the disk controller and maps what the test needs.
struct MapDriver;

struct MapData<'b>(Bound<'b>);

impl Driver for MapDriver {
    const NAME: &'static str = "lender";
    const MATCHES: &'static [Match] = &[Match::compatible("renesas,sata-r8a7795")];
    type Data<'b> = MapData<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<MapData<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        Ok(MapData(dev))
    }

    fn quiesce(_: &MapData<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

fn rig(kind: DomainKind) -> Rig {
    let rig = common::bare();
    rig.add_board();
    common::register_suppliers(&rig.machine);
    rig.settle();
    let group = rig.machine.groups().into_iter().find(|g| g.info().members.iter().any(|m| &**m == SATA)).unwrap();
    group.set_kind(kind).unwrap();
    rig.machine.register(MapDriver);
    rig.settle();
    assert_eq!(rig.driver(SATA), Some("lender"));
    rig
}

/// Runs `run_mapped` as the driver, and looks afterwards that nothing is left and nothing was wrong.
fn run_mapped(kind: DomainKind, run_mapped: impl for<'x> FnOnce(Bound<'x>, &Rig)) {
    let rig = rig(kind);
    let before = rig.resource_usage();
    rig.machine.client::<MapDriver>(SATA).unwrap().call(|l| run_mapped(l.0, &rig)).unwrap();
    rig.machine.unbind(SATA, "lender").unwrap();
    rig.machine.bind(SATA, "lender").unwrap();
    assert_eq!(rig.resource_usage(), before, "P4");
    assert_eq!(rig.machine.dma_misuses(), []);
    rig.assert_well();
}

impl Rig {
    fn translate(&self, addr: DeviceAddr, write: bool) -> Result<PhysAddr, Fault> {
        self.board.translate(0, SATA_UTLB as usize, addr.0, write).unwrap()
    }

    /// One byte, as the device reads it.
    fn device_reads(&self, addr: DeviceAddr) -> u8 {
        let mut byte = [0];
        self.board.ram().dma_read(self.translate(addr, false).unwrap(), &mut byte, false).unwrap();
        byte[0]
    }

    fn device_writes(&self, addr: DeviceAddr, byte: u8) {
        self.board.ram().dma_write(self.translate(addr, true).unwrap(), &[byte], false).unwrap();
    }
}

fn filled(dev: Bound<'_>, len: u64, byte: u8) -> DmaBuffer {
    let mut buffer = dev.dma().buffer(len).unwrap();
    buffer.as_mut_slice().fill(byte);
    buffer
}

#[test]
fn the_device_sees_what_the_cpu_wrote_before_the_map() {
    run_mapped(DomainKind::Strict, |dev, rig| {
        let mapped = dev.dma().map(filled(dev, 4096, 7), Direction::ToDevice).unwrap();
        assert_eq!(rig.device_reads(mapped.device_addr() + 4095), 7);
        assert!(rig.translate(mapped.device_addr(), true).is_err(), "it may only read");
        mapped.unmap().unwrap();
        // Without the sync it sees the old contents of RAM: the cache does not write back by itself.
        let buffer = filled(dev, 4096, 8);
        let mapped = dev.dma().map_range(buffer, 0..4096, Direction::ToDevice, Attrs::SKIP_CPU_SYNC).unwrap();
        assert_eq!(rig.device_reads(mapped.device_addr()), 0, "stale");
    });
}

#[test]
fn the_cpu_sees_what_the_device_wrote_after_a_sync_and_not_before() {
    run_mapped(DomainKind::Strict, |dev, rig| {
        let skipped = dev.dma().map_range(filled(dev, 4096, 1), 0..4096, Direction::FromDevice, Attrs::SKIP_CPU_SYNC);
        let skipped = skipped.unwrap();
        rig.device_writes(skipped.device_addr(), 2);
        assert_eq!(skipped.unmap().unwrap().as_slice()[0], 1, "stale");

        let mut mapped = dev.dma().map(filled(dev, 4096, 1), Direction::Bidirectional).unwrap();
        let addr = mapped.device_addr();
        rig.device_writes(addr, 2);
        let mut view = mapped.sync_for_cpu();
        assert_eq!((view[0], view[1]), (2, 1));
        view[1] = 3;
        assert_eq!(rig.device_reads(addr + 1), 1, "the CPU owns it");
        drop(view);
        assert_eq!(rig.device_reads(addr + 1), 3);
        rig.device_writes(addr, 4);
        assert_eq!(mapped.unmap().unwrap().as_slice()[..2], [4, 3]);
        assert!(rig.translate(addr, false).is_err(), "P2");
    });
}

#[test]
fn a_list_is_one_range_for_the_device() {
    run_mapped(DomainKind::Strict, |dev, rig| {
        let list = (1..=5).map(|n| filled(dev, 4096 * u64::from(n), n)).collect();
        let mapped = dev.dma().map_sg(list, Direction::ToDevice).unwrap();
        let segments: Vec<_> = mapped.segments().collect();
        assert_eq!(segments.len(), 1, "{segments:?}");
        let (first, mut at) = (segments[0].0, 0);
        for n in 1..=5_u8 {
            assert_eq!(rig.device_reads(first + at), n);
            at += 4096 * u64::from(n);
            assert_eq!(rig.device_reads(first + (at - 1)), n);
        }
        assert_eq!(mapped.unmap().unwrap().len(), 5);
        assert!(rig.translate(first, false).is_err());
    });
}

#[test]
fn a_lazy_domain_pins_the_page_until_the_flush() {
    run_mapped(DomainKind::Lazy, |dev, rig| {
        let frames = rig.machine.memory().frames().in_use();
        let mapped = dev.dma().map(filled(dev, 4096, 7), Direction::ToDevice).unwrap();
        let addr = mapped.device_addr();
        assert_eq!(rig.device_reads(addr), 7);
        drop(mapped.unmap().unwrap());
        assert_eq!(rig.device_reads(addr), 7, "P2: the IOTLB still caches it, so the page is still pinned");
        assert!(rig.machine.memory().frames().in_use() > frames);
        dev.wait_until(core::time::Duration::from_millis(11), core::time::Duration::from_millis(11), || false);
        let other = dev.dma().map(filled(dev, 4096, 8), Direction::ToDevice).unwrap();
        assert_ne!(other.device_addr(), DeviceAddr(0));
        assert!(rig.translate(addr, false).is_err() || other.device_addr() == addr);
    });
}

#[test]
fn ten_thousand_mappings_leave_nothing() {
    run_mapped(DomainKind::Strict, |dev, _| {
        let mut buffer = filled(dev, 4096, 1);
        for _ in 0..10_000 {
            buffer = dev.dma().map(buffer, Direction::ToDevice).unwrap().unmap().unwrap();
        }
    });
}
