//! The IPMMU driver on the Salvator board, with a small bus master in place of real drivers.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::env::Env;
use bindery::event::EventKind;
use bindery::iommu::{DomainKind, Iommu, IommuError, Owner, StreamId};
use bindery::machine::{BindError, Policy};
use bindery_sim::board::Stuck;
use bindery_sim::models::ipmmu::{Fault, FaultKind};
use bindery_sim::salvator::{SATA_UTLB, Salvator};
use common::master::Master;
use common::{IPMMU_HC, IPMMU_MM, Rig, SATA};

const FIRST_IOVA: u64 = 0xffff_f000;
const AVB: &str = "e6800000.ethernet";
const DMAC: &str = "e7300000.dma-controller";
/// Leaf numbers on the board: `ipmmu_hc` is 0.
const DS0: usize = 1;
const DS1: usize = 2;

/// The board with all suppliers bound, and no device behind the IPMMUs.
fn rig() -> Rig {
    let rig = common::bare();
    rig.add_board();
    common::register_suppliers(&rig.machine);
    rig.settle();
    rig
}

/// As [`rig`], with [`Master`] registered.
fn with_masters() -> Rig {
    let rig = rig();
    rig.machine.register(Master);
    rig.settle();
    assert_eq!(rig.driver(SATA), Some("master"));
    rig
}

/// One access of the master behind a micro-TLB.
fn reach(rig: &Rig, leaf: usize, utlb: u32, addr: u64, write: bool) -> Result<u64, Fault> {
    rig.board.translate(leaf, utlb as usize, addr, write).unwrap().map(|p| p.0)
}

fn sata_reaches(rig: &Rig, addr: u64) -> Result<u64, Fault> {
    reach(rig, 0, SATA_UTLB, addr, true)
}

/// The IOMMU in front of `device`.
fn iommu_of(rig: &Rig, device: &str) -> Arc<dyn Iommu> {
    let groups = rig.machine.groups().into_iter();
    let mut groups = groups.filter(|g| g.info().members.iter().any(|m| &**m == device));
    groups.next().unwrap().iommus().remove(0)
}

#[expect(clippy::redundant_closure_for_method_calls, reason = "the method is not general enough in its lifetime")]
fn free_newest(rig: &Rig) {
    rig.master(SATA, |m| m.free_newest());
}

fn faults(rig: &Rig) -> Vec<(Option<String>, EventKind)> {
    rig.board.run_pending();
    rig.events().into_iter().filter(|(_, e)| matches!(e, EventKind::IommuFault { .. })).collect()
}

#[test]
fn a_leaf_waits_for_its_root_by_name_and_is_woken_by_it() {
    let rig = rig();
    let events = rig.event_kinds(IPMMU_HC);
    let waits =
        |e: &EventKind| matches!(e, EventKind::Deferred { on, .. } if on.iter().any(|n| n.contains("ipmmu_mm")));
    let woken = |e: &EventKind| matches!(e, EventKind::Woken { by, ready: true } if &**by == IPMMU_MM);
    let bound = |e: &EventKind| matches!(e, EventKind::Bound { .. });
    let at = |what: &dyn Fn(&EventKind) -> bool| events.iter().position(what).unwrap();
    assert!(at(&waits) < at(&woken) && at(&woken) < at(&bound), "{events:?}");
    rig.assert_well();
}

#[test]
fn masters_are_blocked_once_their_iommu_is_bound() {
    let rig = common::bare();
    rig.add_board();
    assert_eq!(sata_reaches(&rig, 0x4800_0000), Ok(0x4800_0000), "as after power-up");
    common::register_suppliers(&rig.machine);
    rig.settle();
    for (leaf, utlb) in [(0, 2), (DS0, 16), (DS1, 0), (DS1, 15), (DS1, 34)] {
        let blocked = Fault { kind: FaultKind::Translation, addr: 0x4800_0000, context: 7 };
        assert_eq!(reach(&rig, leaf, utlb, 0x4800_0000, false), Err(blocked), "leaf {leaf}, uTLB {utlb}");
    }
    let groups: Vec<_> = rig.machine.groups().iter().map(|g| g.info()).collect();
    assert_eq!(groups.len(), 3);
    assert!(groups.iter().all(|g| g.owner == Owner::None && g.domain.is_none()));
    rig.assert_well();
}

#[test]
fn the_first_dma_domain_is_context_1_and_its_first_address_the_highest_page() {
    let rig = with_masters();
    let device = rig.machine.device(SATA).unwrap();
    let translation: Vec<_> =
        rig.machine.resources(&device).into_iter().filter(|(_, kind, ..)| *kind == "translation").collect();
    let label = &translation[0].2;
    assert!(["context 1", "context 2", "context 3"].contains(&label.as_str()), "{label}");
    let memory = rig.machine.resources(&device).into_iter().find(|(_, kind, ..)| *kind == "dma coherent").unwrap();
    assert!(memory.2.contains("0xfffff000"), "{memory:?}");
    // Alone, it is the first.
    let rig = self::rig();
    rig.machine.register(Master);
    rig.machine.bind(SATA, "master").unwrap();
    let (name, kind, pages) = rig.machine.groups().into_iter().find_map(|g| g.info().domain).unwrap();
    assert_eq!((name.as_str(), kind, pages), ("context 1", DomainKind::Strict, 1));
    assert!(sata_reaches(&rig, FIRST_IOVA).is_ok());
    rig.assert_well();
}

#[test]
fn mapped_memory_is_reachable_and_unmapped_memory_is_not() {
    let rig = with_masters();
    let (addr, phys) = rig.master(SATA, |m| m.alloc(3 * 4096)).unwrap();
    for page in 0..3 {
        assert_eq!(sata_reaches(&rig, addr.0 + page * 4096 + 8), Ok(phys.0 + page * 4096 + 8));
    }
    assert!(sata_reaches(&rig, addr.0 - 4096).is_err(), "adjacent addresses are not");
    assert!(reach(&rig, DS0, 16, addr.0, false).is_err(), "nor is it reachable from another group");
    free_newest(&rig);
    for page in 0..3 {
        let gone = sata_reaches(&rig, addr.0 + page * 4096).unwrap_err();
        assert_eq!(gone.kind, FaultKind::Translation);
    }
    assert!(sata_reaches(&rig, FIRST_IOVA).is_ok(), "other mappings are still translated");
    rig.assert_well();
}

#[test]
fn a_large_allocation_is_mapped_completely() {
    let rig = with_masters();
    let (addr, phys) = rig.master(SATA, |m| m.alloc(5 << 20)).unwrap();
    for offset in (0..5 << 20).step_by(4096) {
        assert_eq!(sata_reaches(&rig, addr.0 + offset), Ok(phys.0 + offset));
    }
    free_newest(&rig);
    assert!(sata_reaches(&rig, addr.0 + (2 << 20)).is_err());
    rig.assert_well();
}

#[test]
fn after_unbind_the_device_is_blocked_and_everything_is_released() {
    let rig = rig();
    let before = rig.resource_usage();
    rig.machine.register(Master);
    rig.machine.bind(SATA, "master").unwrap();
    let first = rig.resource_usage();
    for _ in 0..300 {
        rig.machine.unbind(SATA, "master").unwrap();
        assert_eq!(rig.resource_usage(), before);
        let fault = sata_reaches(&rig, FIRST_IOVA).unwrap_err();
        assert_eq!((fault.kind, fault.context), (FaultKind::Translation, 7));
        rig.machine.bind(SATA, "master").unwrap();
        assert_eq!(rig.resource_usage(), first, "the next bind is like the first");
    }
    rig.assert_well();
}

#[test]
fn a_flush_that_times_out_quarantines_the_memory_until_the_hardware_responds() {
    let rig = with_masters();
    let (addr, phys) = rig.master(SATA, |m| m.alloc(4096)).unwrap();
    rig.board.set_stuck(Stuck::IpmmuFlush, true);
    free_newest(&rig);
    let held = rig.machine.quarantine();
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!((&*held[0].device, held[0].phys, held[0].len), (SATA, phys, 4096));
    assert!(held[0].reason.contains("does not answer"), "{}", held[0].reason);
    // Neither page nor address is reused.
    let refused = rig.master(SATA, |m| m.alloc(4096)).unwrap_err();
    assert!(refused.to_string().contains("quarantine"), "{refused}");
    rig.board.set_stuck(Stuck::IpmmuFlush, false);
    rig.machine.unbind(SATA, "master").unwrap();
    rig.machine.bind(SATA, "master").unwrap();
    assert_eq!(rig.machine.quarantine(), [], "the master was shown to be quiesced");
    let (again, _) = rig.master(SATA, |m| m.alloc(4096)).unwrap();
    assert_eq!(again, addr, "a new domain starts from the top");
    rig.assert_well();
}

#[test]
fn an_unbind_with_many_mappings_waits_for_a_hung_iommu_once_and_recovers_all_when_it_responds() {
    let rig = with_masters();
    for _ in 0..200 {
        rig.master(SATA, |m| m.alloc(4096)).unwrap();
    }
    rig.board.set_stuck(Stuck::IpmmuFlush, true);
    let begun = rig.board.now();
    rig.machine.unbind(SATA, "master").unwrap();
    let took = rig.board.now().since(begun);
    assert!(took < Duration::from_millis(2), "{took:?} for 200 mappings, when a flush may take 100 us");
    assert!(rig.machine.quarantine().len() >= 200, "P2");
    rig.board.set_stuck(Stuck::IpmmuFlush, false);
    let until = begun + Duration::from_secs(1);
    while rig.board.now() < until {
        rig.board.advance(until);
    }
    assert_eq!(rig.machine.quarantine(), [], "P4: the machine has retried by itself");
    rig.machine.bind(SATA, "master").unwrap();
    rig.assert_well();
}

#[test]
fn a_context_that_cannot_be_disabled_is_not_reused_until_it_can() {
    let rig = rig();
    rig.machine.register(Master);
    rig.machine.bind(SATA, "master").unwrap();
    let frames = rig.resource_usage().frames;
    rig.board.set_stuck(Stuck::IpmmuFlush, true);
    rig.machine.unbind(SATA, "master").unwrap();
    assert_eq!(sata_reaches(&rig, FIRST_IOVA).unwrap_err().context, 7);
    let domain = |rig: &Rig| rig.machine.groups().into_iter().find_map(|g| g.info().domain).map(|d| d.0);
    rig.machine.bind(SATA, "master").unwrap();
    assert_eq!(domain(&rig).as_deref(), Some("context 2"));
    rig.board.set_stuck(Stuck::IpmmuFlush, false);
    rig.machine.unbind(SATA, "master").unwrap();
    rig.machine.bind(SATA, "master").unwrap();
    assert_eq!(domain(&rig).as_deref(), Some("context 1"), "the hardware has responded");
    assert_eq!(rig.resource_usage().frames, frames, "and the tables are freed");
    rig.assert_well();
}

#[test]
fn a_fault_names_the_device_and_who_freed_the_memory() {
    let rig = with_masters();
    let (addr, _) = rig.master(SATA, |m| m.alloc(4096)).unwrap();
    free_newest(&rig);
    rig.events();
    sata_reaches(&rig, addr.0 + 0x10).unwrap_err();
    let reported = faults(&rig);
    let [(device, EventKind::IommuFault { iommu, addr: at, reason, last_mapping, .. })] = &reported[..] else {
        panic!("{reported:?}")
    };
    assert_eq!((device.as_deref(), iommu.as_str(), at.0), (Some(SATA), IPMMU_MM, addr.0 + 0x10));
    assert_eq!(reason, "no translation");
    assert!(last_mapping.as_ref().is_some_and(|m| m.contains("freed by ee300000.sata")), "{last_mapping:?}");
    // The status was cleared with 0, so the next fault is reported as well, with its own address.
    sata_reaches(&rig, 0x1000).unwrap_err();
    assert!(matches!(&faults(&rig)[..], [(_, EventKind::IommuFault { addr, .. })] if addr.0 == 0x1000));
    assert!(!rig.board.line_is_high(bindery::env::IrqLine(bindery_sim::salvator::IPMMU_LINE)));
    rig.assert_well();
}

#[test]
fn a_late_access_after_unbind_names_the_former_owner() {
    let rig = rig();
    rig.machine.register(Master);
    rig.machine.bind(SATA, "master").unwrap();
    rig.machine.unbind(SATA, "master").unwrap();
    rig.events();
    sata_reaches(&rig, FIRST_IOVA + 4).unwrap_err();
    let reported = faults(&rig);
    let [(device, EventKind::IommuFault { last_mapping, .. })] = &reported[..] else { panic!("{reported:?}") };
    assert_eq!(device.as_deref(), Some(SATA));
    assert_eq!(
        last_mapping.as_deref(),
        Some("coherent at 0xfffff000, 0x1000 bytes, mapped and freed by ee300000.sata")
    );
    // An address that was never mapped has no former owner.
    sata_reaches(&rig, 0x1000).unwrap_err();
    assert!(matches!(&faults(&rig)[..], [(None, EventKind::IommuFault { last_mapping: None, .. })]));
    rig.assert_well();
}

#[test]
fn a_bind_without_a_free_context_fails_and_leaves_nothing() {
    // A seventh leaf without a register model: the six others use all contexts but the blocked one.
    let base = 0xe680_0000_u64 + 0x20_0000;
    let salvator = Salvator::new().fixed(PhysAddr(base), 0x1000, 0);
    let rig = common::on(salvator, Policy::default());
    rig.add_board();
    common::register_suppliers(&rig.machine);
    rig.settle();
    let mut leaf = (*rig.machine.device(IPMMU_HC).unwrap()).desc().clone();
    leaf.name = "extra.mmu".into();
    leaf.node = None;
    leaf.resources = vec![bindery::device::Resource::Mem { base: PhysAddr(base), len: 0x1000 }];
    rig.machine.add_device(leaf).unwrap();
    assert_eq!(rig.settle().bound, 1);
    rig.machine.register(Master);
    for (n, leaf) in ["ec670000.mmu", "ffc80000.mmu", "febd0000.mmu"].into_iter().enumerate() {
        rig.add_master(&format!("m{n}"), leaf, &[n as u32]);
    }
    rig.settle();
    rig.add_master("late", "extra.mmu", &[0]);
    let before = rig.resource_usage();
    let failed = rig.settle().failed;
    let error = rig.machine.bind("late", "master");
    assert!(
        failed == 1 && matches!(&error, Err(BindError::Probe { error, .. }) if error.to_string().contains("context")),
        "{error:?}"
    );
    assert_eq!(rig.resource_usage(), before);
    // One is unbound, and the late one gets its context.
    rig.machine.unbind("m0", "master").unwrap();
    rig.machine.bind("late", "master").unwrap();
    rig.assert_well();
}

#[test]
fn unbinding_the_root_unbinds_its_consumers_and_all_are_bound_again() {
    let rig = with_masters();
    let before = rig.resource_usage();
    let holders = |rig: &Rig| [IPMMU_MM, IPMMU_HC, SATA, AVB, DMAC].map(|name| rig.driver(name));
    let bound = holders(&rig);
    rig.machine.unbind(IPMMU_MM, "ipmmu-vmsa").unwrap();
    assert_eq!(holders(&rig), [None; 5]);
    assert_eq!(rig.machine.groups().len(), 0);
    assert_eq!(rig.resource_usage().frames, 0, "every table is freed");
    assert!(sata_reaches(&rig, FIRST_IOVA).is_err(), "without its IOMMU's driver a master stays blocked");
    rig.machine.bind(IPMMU_MM, "ipmmu-vmsa").unwrap();
    rig.settle();
    assert_eq!(holders(&rig), bound);
    let mut after = rig.resource_usage();
    // Groups are numbered in the order in which they are made.
    assert_eq!((after.groups.len(), after.frames), (before.groups.len(), before.frames));
    after.groups.clone_from(&before.groups);
    assert_eq!((after.irqs, after.services, after.supplies), (before.irqs, before.services, before.supplies));
    assert!(sata_reaches(&rig, FIRST_IOVA).is_ok());
    rig.assert_well();
}

#[test]
fn the_tables_of_a_context_that_the_root_could_not_disable_are_never_used_again() {
    for hung in [None, Some(1), Some(2)] {
        let rig = rig();
        let iommu = iommu_of(&rig, SATA);
        let contexts = [(); 2].map(|()| iommu.domain(DomainKind::Strict).unwrap());
        assert_eq!(contexts.each_ref().map(|c| c.label()), ["context 1", "context 2"]);
        drop(iommu);
        if let Some(context) = hung {
            rig.board.set_stuck(Stuck::IpmmuContext(context), true);
        }
        rig.machine.unbind(IPMMU_MM, "ipmmu-vmsa").unwrap();
        // Their users let go of them after the root, whose registers nobody reaches any more.
        for (number, context) in (1..).zip(contexts) {
            let before = rig.resource_usage().frames;
            drop(context);
            let freed = before - rig.resource_usage().frames;
            // Those that hang may be walked for ever.
            assert_eq!(freed == 0, hung == Some(number), "P2: {freed} pages of context {number}, {hung:?} hangs");
        }
        assert_eq!(rig.resource_usage().frames == 0, hung.is_none(), "{hung:?} hangs");
        rig.board.set_stuck(Stuck::IpmmuContext(1), false);
        rig.machine.bind(IPMMU_MM, "ipmmu-vmsa").unwrap();
        rig.machine.register(Master);
        rig.settle();
        assert!(sata_reaches(&rig, FIRST_IOVA).is_ok());
        rig.assert_well();
    }
}

#[test]
fn unbinding_a_leaf_unbinds_only_its_own_consumers() {
    let rig = with_masters();
    rig.machine.unbind(IPMMU_HC, "ipmmu-vmsa").unwrap();
    assert_eq!((rig.driver(SATA), rig.driver(AVB)), (None, Some("master")));
    assert!(sata_reaches(&rig, FIRST_IOVA).is_err());
    assert!(reach(&rig, DS0, 16, FIRST_IOVA, true).is_ok());
    rig.machine.bind(IPMMU_HC, "ipmmu-vmsa").unwrap();
    rig.settle();
    assert_eq!(rig.driver(SATA), Some("master"));
    assert!(sata_reaches(&rig, FIRST_IOVA).is_ok());
    rig.assert_well();
}

#[test]
fn an_identity_domain_passes_addresses_through_and_ends_blocked() {
    let rig = rig();
    let sata = rig.machine.device(SATA).unwrap();
    let group = rig.machine.device_info(&sata).group.unwrap();
    rig.machine.groups()[group as usize].set_kind(DomainKind::Identity).unwrap();
    rig.machine.register(Master);
    rig.machine.bind(SATA, "master").unwrap();
    assert_eq!(sata_reaches(&rig, 0x4812_3456), Ok(0x4812_3456));
    rig.machine.unbind(SATA, "master").unwrap();
    assert!(sata_reaches(&rig, 0x4812_3456).is_err());
    rig.assert_well();
}

#[test]
fn a_micro_tlb_that_two_devices_share_is_blocked_after_the_last_of_them() {
    let rig = rig();
    rig.machine.register(Master);
    rig.add_master("one", "ec670000.mmu", &[5, 6]);
    rig.settle();
    let leaf = 3;
    assert!(reach(&rig, leaf, 5, FIRST_IOVA, true).is_ok());
    rig.add_master("two", "ec670000.mmu", &[5]);
    assert!(reach(&rig, leaf, 5, FIRST_IOVA, true).is_ok(), "a device that joins does not block its neighbour");
    rig.settle();
    rig.machine.unbind("one", "master").unwrap();
    assert_eq!(reach(&rig, leaf, 6, FIRST_IOVA, true).unwrap_err().context, 7);
    assert!(reach(&rig, leaf, 5, FIRST_IOVA - 4096, true).is_ok(), "two still uses it");
    rig.machine.unbind("two", "master").unwrap();
    assert_eq!(reach(&rig, leaf, 5, FIRST_IOVA, true).unwrap_err().context, 7);
    rig.assert_well();
}

#[test]
fn a_stream_is_attached_to_no_domain_of_another_machine_or_another_leaf() {
    let (ours, theirs) = (rig(), rig());
    let (own, foreign, beside) = (iommu_of(&ours, SATA), iommu_of(&theirs, SATA), iommu_of(&ours, AVB));
    let stream = StreamId(SATA_UTLB);
    for kind in [DomainKind::Identity, DomainKind::Blocked, DomainKind::Strict] {
        let domain = foreign.domain(kind).unwrap();
        assert_eq!(own.attach(stream, &domain), Err(IommuError::ForeignDomain), "{kind} of another machine");
    }
    let domain = beside.domain(DomainKind::Strict).unwrap();
    assert_eq!(own.attach(stream, &domain), Err(IommuError::ForeignDomain), "of another leaf");
    assert!(sata_reaches(&ours, FIRST_IOVA).is_err(), "still blocked");
    assert_eq!(ours.machine.promises().broken(), []);
}
