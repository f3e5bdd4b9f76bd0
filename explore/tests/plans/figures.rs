//! The plans that are explored, and their figures.

use std::sync::Arc;

use bindery::binding::Bound;
use bindery::device::{DeviceDesc, SupplierKind};
use bindery::dma::CoherentSlice;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::machine::Machine;
use bindery_explore::boards::{self, BoardSpec};
use bindery_explore::{Bounded, scenario};

use crate::invariant::give_and_take;
use crate::tool::Wish;

const SATA: &str = "ee300000.sata";
const RING: &str = "acme-ring";

/// A driver that shares memory with its device, under two names.
struct Ring<const OTHER: bool>;

impl<const OTHER: bool> Driver for Ring<OTHER> {
    const NAME: &'static str = if OTHER { "other_ring" } else { "acme_ring" };
    const MATCHES: &'static [Match] = if OTHER { &[] } else { &[Match::compatible("acme,ring")] };
    type Data<'b> = CoherentSlice<'b, u64>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        Ok(dev.dma().coherent_slice(64)?)
    }

    fn quiesce(_: &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// The board with a ring that shares the disk controller's stream, and so its IOMMU group.
fn with_sibling() -> BoardSpec {
    boards::salvator_xs().with(|machine: &Arc<Machine>| {
        let disk = machine.device(SATA).unwrap();
        let mut desc = DeviceDesc::new(RING);
        desc.compatible = vec!["acme,ring".into()];
        desc.suppliers.clone_from(&disk.desc().suppliers);
        // A reset line of its own: without one, it cannot be given away.
        desc.suppliers.retain(|supplier| matches!(supplier.kind, SupplierKind::Iommu | SupplierKind::Reset));
        let reset = desc.suppliers.iter_mut().find(|supplier| supplier.kind == SupplierKind::Reset).unwrap();
        reset.args[0] = 814;
        let _ = machine.add_device(desc);
        machine.register(Ring::<false>);
        machine.register(Ring::<true>);
    })
}

/// Faults and kills on one path, unless `BINDERY_PLANS=FAULTS,KILLS` asks for more.
fn bounds() -> (u32, u32) {
    let asked = std::env::var("BINDERY_PLANS").unwrap_or_default();
    let pair = asked.split_once(',').and_then(|(faults, kills)| Some((faults.parse().ok()?, kills.parse().ok()?)));
    pair.unwrap_or((1, 1))
}

/// Explores a plan and prints its figures. Each of the coverage points `ends` must be reached.
#[track_caller]
fn explore(name: &str, board: BoardSpec, wish: Wish, held: bool, ends: &[&str]) {
    let (faults, kills) = bounds();
    let scenario = scenario(name, board).faults(faults).preemptions(kills);
    let always =
        ["given", "home", "done", "rolled back", "killed", "recover undid the plan", "recover finished the plan"];
    let engine = scenario.engine().require(always).require(ends.iter().copied());
    let report = scenario.run(&engine, |scene| give_and_take(scene, &wish, held));
    let killed = report.coverage.get("killed").copied().unwrap_or(0);
    let failed: u64 = report.coverage.iter().filter(|(name, _)| name.starts_with("fault ")).map(|(_, n)| n).sum();
    println!("{report}  {failed} calls failed, the tool was killed {killed} times\n");
    assert!(report.passed() && report.complete(), "{report}");
}

const HUNG: &[&str] = &["timed out", "recover finds a hanging write"];

#[test]
fn a_hand_over_to_vfio_platform_ends_done_or_undone() {
    let wish = Wish { devices: &[SATA], to: "vfio", hold_siblings: false };
    explore("ee300000.sata to vfio-platform and back", boards::salvator_xs(), wish, false, HUNG);
}

#[test]
fn a_device_that_a_guest_holds_comes_back_or_stays_known() {
    let wish = Wish { devices: &[SATA], to: "vfio", hold_siblings: false };
    explore(
        "ee300000.sata and back from a guest that holds it",
        boards::salvator_xs(),
        wish,
        true,
        &["a guest holds it"],
    );
}

#[test]
fn a_sibling_that_is_held_comes_back_with_its_device() {
    let wish = Wish { devices: &[SATA], to: "vfio", hold_siblings: true };
    explore("a group of two, the sibling held", with_sibling(), wish, false, HUNG);
}

#[test]
fn two_devices_of_a_group_go_and_come_back_as_one() {
    let wish = Wish { devices: &[SATA, RING], to: "vfio", hold_siblings: false };
    explore("a group of two, both given", with_sibling(), wish, false, HUNG);
}

#[test]
fn a_device_goes_to_another_kernel_driver() {
    let wish = Wish { devices: &[RING], to: "other_ring", hold_siblings: false };
    explore("acme-ring to another driver and back", with_sibling(), wish, false, HUNG);
}
