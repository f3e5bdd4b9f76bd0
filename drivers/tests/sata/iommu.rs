//! The driver behind the IPMMU.

use std::time::Duration;

use bindery::addr::DeviceAddr;
use bindery::binding::Bound;
use bindery::device::{DeviceDesc, Supplier};
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::Env;
use bindery::instrument::FaultPoint;
use bindery::iommu::{Gather, Prot, Translation};
use bindery_drivers::ata::{AtaError, Command};
use bindery_drivers::block::BlockDevice;
use bindery_sim::models::sata::Stop;
use common::CPG;

use super::lifecycle::{released, unbind_inside_a_command};
use super::*;

/// Device address of the descriptor table in every binding: the first one to be allocated.
const TABLE: DeviceAddr = DeviceAddr(0xffff_f000);

/// Refused accesses in the event log: device, address, write, and mapping.
fn faults(rig: &Rig) -> Vec<(Option<String>, DeviceAddr, bool, Option<String>)> {
    let fault = |(device, kind)| match kind {
        EventKind::IommuFault { addr, write, last_mapping, .. } => Some((device, addr, write, last_mapping)),
        _ => None,
    };
    rig.events().into_iter().filter_map(fault).collect()
}

fn pass(rig: &Rig, time: Duration) {
    let until = rig.board.now() + time;
    while rig.board.now() < until {
        rig.board.advance(until);
    }
}

#[test]
fn a_disk_is_identified_and_read_through_the_iommu() {
    io::a_disk_is_identified_and_read(true);
}

#[test]
fn data_written_through_the_iommu_is_in_the_file() {
    io::what_is_written_is_in_the_file(true);
}

#[test]
fn a_callers_buffer_is_filled_by_the_controller_itself_through_the_iommu() {
    io::a_callers_buffer_is_filled_by_the_controller_itself(true);
}

#[test]
fn a_callers_buffer_whose_unmap_is_confirmed_late_has_what_the_disk_wrote() {
    let rig = rig(true);
    let disk = rig.machine.service::<dyn BlockDevice>(SATA).unwrap();
    let mut buffer = rig.machine.dma_buffer(8192).unwrap();
    assert_eq!(buffer.as_slice()[0], 0, "in the CPU's cache");
    rig.board.faults().fail_points(&[FaultPoint::Invalidate]);
    disk.read_buffer(3, &mut buffer, 0..1024).unwrap();
    rig.board.faults().fail_points(&[]);
    assert_eq!(rig.machine.quarantine(), [], "asked again");
    assert_eq!(buffer.as_slice()[..1024], [sector(3), sector(4)].concat(), "P13");
    rig.assert_well();
}

#[test]
fn the_table_is_mapped_first_and_unmapped_by_the_same_back_end() {
    // As on hardware: 2,048 bytes at 0xfffff000, allocated and freed by the IOMMU back-end.
    let rig = rig(true);
    let events = rig.event_kinds(SATA);
    let mapped: Vec<_> = events.iter().filter(|e| matches!(e, EventKind::DmaMapped { .. })).collect();
    assert!(
        matches!(mapped[0], EventKind::DmaMapped { addr: TABLE, size: 2048, backend, .. } if backend.starts_with("iommu context")),
        "{:?}",
        mapped[0]
    );
    works(&rig);
    rig.events();
    unbind(&rig);
    let events = rig.event_kinds(SATA);
    let unmapped: Vec<_> = events.iter().filter(|e| matches!(e, EventKind::DmaUnmapped { .. })).collect();
    assert!(matches!(unmapped[..], [EventKind::DmaUnmapped { addr: TABLE, .. }]), "{unmapped:?}");
    let order = released(&events);
    let at = |kind| order.iter().position(|(k, _)| *k == kind).unwrap();
    assert!(order.iter().all(|(kind, by)| *kind != "dma coherent" || by.starts_with("iommu context")), "P1: {order:?}");
    assert!(at("irq") < at("dma coherent") && at("dma coherent") < at("mmio"));
    assert!(at("mmio") < at("translation") && at("translation") < at("group"), "{order:?}");
    rig.assert_well();
}

#[test]
fn many_translated_bindings_leave_nothing() {
    lifecycle::many_bindings_leave_nothing(true);
}

#[test]
fn each_step_of_a_translated_probe_may_fail() {
    let steps = steps::each_step_fails_in_turn(true);
    for point in [
        FaultPoint::GroupClaim,
        FaultPoint::DomainAlloc,
        FaultPoint::DomainAttach,
        FaultPoint::IovaAlloc,
        FaultPoint::FrameAlloc,
    ] {
        assert!(steps.contains(&point), "{}", point.name());
    }
}

#[test]
fn removal_at_any_time_of_a_translated_transfer_is_an_error_and_a_full_unbind() {
    errors::pulled_out_at_any_time(true);
}

#[test]
fn an_access_that_the_iommu_refuses_fails_the_command_and_the_port_recovers() {
    let rig = rig(true);
    works(&rig);
    let domain = rig.machine.groups().into_iter().find(|g| g.info().members.iter().any(|m| &**m == SATA));
    let translation: Arc<dyn Translation> = Arc::clone(domain.unwrap().domain().unwrap().translation());
    let phys = translation.resolve(TABLE).unwrap();
    let mut gather = Gather::new();
    translation.unmap(TABLE, 4096, &mut gather).unwrap();
    translation.flush(&mut gather).unwrap();
    gather.free_tables();
    rig.events();
    let refused = port(&rig).call(|p| p.read(0, &mut [0; 512])).unwrap();
    assert_eq!(refused, Err(AtaError::Memory { command: Command::ReadDmaExt }));
    let was = Some(format!("coherent of {SATA} at {TABLE}, still mapped"));
    assert_eq!(faults(&rig), [(Some(SATA.into()), TABLE, false, was)]);
    translation.map(TABLE, phys, 4096, Prot::READ | Prot::WRITE).unwrap();
    works(&rig);
    rig.assert_well();
}

/// Driver of a device with the same clock and reset as the disk controller, so that they stay on without it.
struct ClockUser;

impl Driver for ClockUser {
    const NAME: &'static str = "keeper";
    const MATCHES: &'static [Match] = &[Match::compatible("test,keeper")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

fn keep_running(rig: &Rig) {
    let node = rig.machine.device(CPG).unwrap().node();
    let mut desc = DeviceDesc::new("keeper");
    desc.compatible.push("test,keeper".into());
    for (kind, args) in [(SupplierKind::Clock, vec![1, 815]), (SupplierKind::Reset, vec![815])] {
        desc.suppliers.push(Supplier { node, target: node, kind, property: "x".into(), args });
    }
    rig.machine.add_device(desc).unwrap();
    rig.machine.register(ClockUser);
    rig.settle();
    assert_eq!(rig.driver("keeper"), Some("keeper"));
}

#[test]
fn dma_after_the_stop_is_refused_and_reported_with_device_address_and_former_owner() {
    let (rig, hook) = hooked(true);
    keep_running(&rig);
    unbind(&rig);
    let before = rig.resource_usage();
    bind(&rig);
    rig.board.sata_faults(|k| k.dma_after_stop = Some(Duration::from_millis(5)));
    rig.events();
    assert_eq!(unbind_inside_a_command(&rig, &hook), Err(AtaError::Stopping));
    assert_eq!(faults(&rig), [], "no fault until the unbind has ended");
    assert_eq!(rig.resource_usage(), before, "P4");
    pass(&rig, Duration::from_millis(10));
    let was = Some(format!("coherent at {TABLE}, 0x1000 bytes, mapped and freed by {SATA}"));
    assert_eq!(faults(&rig), [(Some(SATA.into()), TABLE, false, was)], "P2");
    rig.board.sata_faults(|k| k.dma_after_stop = None);
    bind(&rig);
    works(&rig);
    rig.assert_well();
}

#[test]
fn a_controller_that_does_not_stop_is_blocked_and_only_its_supplies_are_pinned() {
    let (rig, hook) = hooked(true);
    keep_running(&rig);
    unbind(&rig);
    let before = rig.resource_usage();
    bind(&rig);
    rig.board.sata_faults(|k| k.stop = Stop::Ignored);
    rig.events();
    assert_eq!(unbind_inside_a_command(&rig, &hook), Err(AtaError::Stopping));
    let events = rig.event_kinds(SATA);
    assert!(events.iter().any(|e| matches!(e, EventKind::QuiesceFailed { .. })));
    assert!(!events.iter().any(|e| matches!(e, EventKind::Quiesced { .. })), "the reset line is shared: no reset");
    assert_eq!(rig.machine.quarantine(), [], "P11: the IOMMU revokes what the device does not stop using");
    let mut after = rig.resource_usage();
    assert_eq!(after.pinned_supplies.len(), 3, "P11: power, clock and reset; its bus cycles continue");
    after.pinned_supplies.clear();
    assert_eq!(after, before, "P4");
    bind(&rig);
    works(&rig);
    rig.assert_well();
}
