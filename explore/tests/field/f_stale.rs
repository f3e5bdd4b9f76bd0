//! Handles that were kept past their binding, and names and numbers of another machine: each is this machine's, this
//! device's and this binding's, or is refused, and the next owner does not feel it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::dma::*;
use bindery::addr::DeviceAddr;
use bindery::binding::{Bound, MmioHandle};
use bindery::dma::DmaMemory;
use bindery::driver::*;
use bindery::env::Width;
use bindery::iommu::Prot;
use bindery::irq::IrqHandle;
use bindery::power::{ResetLine, SupplyError, SupplyUse};
use bindery_drivers::vfio::{Session, Vfio};

/// Handles that a driver can keep for ever.
struct Kept {
    regs: MmioHandle,
    irq: IrqHandle,
    clock: SupplyUse,
    reset: ResetLine,
}

/// Binds to the disk controller by `driver_override`, and hands its handles out.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Kept>>>);

impl Driver for Keeper {
    const NAME: &'static str = "keeper";
    const MATCHES: &'static [Match] = &[];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        let (regs, irq) = (dev.mmio(0)?.handle(), dev.irq(0)?.handle());
        let kept = Kept { regs, irq, clock: dev.clock(0)?, reset: dev.reset_line().expect("it has one") };
        self.0.lock().unwrap().push(kept);
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// The disk controller in the keeper's hands.
fn kept() -> (Rig, Keeper) {
    let (r, keeper) = (rig(), Keeper::default());
    r.machine.settle();
    r.machine.register(keeper.clone());
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r.machine.device(SATA).unwrap().set_driver_override(Some("keeper"));
    r.machine.bind(SATA, "keeper").unwrap();
    (r, keeper)
}

#[test]
fn handles_that_a_driver_keeps_reach_nothing_of_the_next_owners() {
    for next in ["keeper", "sata_rcar", "vfio-platform"] {
        let (r, keeper) = kept();
        let old = keeper.0.lock().unwrap().pop().unwrap();
        assert!(old.regs.read(0x100, Width::W32).is_ok() && old.irq.set_masked(true) && old.irq.set_masked(false));
        r.machine.unbind(SATA, "keeper").unwrap();
        r.machine.device(SATA).unwrap().set_driver_override(Some(next));
        r.machine.bind(SATA, next).unwrap();
        let (claims, lines) = (r.machine.claims(), format!("{:?}", r.machine.interrupt_lines()));
        assert!(old.regs.read(0x100, Width::W32).is_err(), "P5, {next}");
        assert!(old.regs.write(0x100, Width::W32, u64::MAX).is_err(), "P5, {next}");
        assert!(!old.irq.set_masked(true), "{next}: a line that others have is not masked");
        assert_eq!(old.clock.enable(), Err(SupplyError::Gone), "{next}");
        assert_eq!(old.clock.disable(), Err(SupplyError::Gone), "{next}: nor switched off");
        assert!(
            old.reset.hold().is_err() && old.reset.pulse().is_err(),
            "{next}: nor is the next owner's device reset"
        );
        assert_eq!((r.machine.claims(), format!("{:?}", r.machine.interrupt_lines())), (claims, lines), "{next}");
        drop(old);
        assert_eq!(r.driver(SATA), Some(next));
        assert_eq!(r.machine.promises().broken(), [], "{next}");
    }
}

const AT: DeviceAddr = DeviceAddr(0x10_0000);

/// Everything that a session can be asked for, refused.
fn refuses_all(s: &Session, ram: &Arc<DmaMemory>) {
    assert!(s.read(0, 0, Width::W32).is_err() && s.write(0, 0, Width::W32, 1).is_err());
    assert!(s.map(AT, ram, 0, 4096, Prot::READ).is_err() && s.unmap(AT, 4096).is_err());
    assert!(s.reset().is_err() && s.set_masked(0, true).is_err());
    assert!(s.on_interrupt(0, || ()).is_err() && s.on_request(|| ()).is_err());
    assert!(s.is_revoked());
}

#[test]
fn a_session_that_was_cut_off_does_nothing_to_the_next_one() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let client = r.machine.client::<Vfio>(SATA).unwrap();
    let ram = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    let cut = r.open(SATA).unwrap();
    cut.map(AT, &ram, 0, 4096, Prot::READ).unwrap();
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    assert!(Vfio::open(&client).is_err(), "a handle to the driver of the last binding");
    refuses_all(&cut, &ram);
    r.machine.bind(SATA, "vfio-platform").unwrap();
    assert!(Vfio::open(&client).is_err(), "it is another binding's now");
    let next = r.open(SATA).unwrap();
    next.map(AT, &ram, 0, 4096, Prot::READ).unwrap();
    refuses_all(&cut, &ram);
    drop(cut);
    assert_eq!(r.reach(SATA_UTLB, AT.0, false), Some(ram.phys()), "the next one's map stands");
    assert!(r.open(SATA).is_err(), "and it is still open");
    next.unmap(AT, 4096).unwrap();
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn names_and_memory_of_one_machine_mean_nothing_in_another() {
    let (r, other) = (rig(), rig());
    for machine in [&r.machine, &other.machine] {
        machine.settle();
    }
    r.machine.fulfil("firmware.bin");
    assert!(r.machine.is_fulfilled("firmware.bin") && !other.machine.is_fulfilled("firmware.bin"));
    r.give(SATA);
    let holder = other.machine.claims().into_iter().find(|c| c.holder.contains("sata")).unwrap();
    assert!(holder.holder.contains("sata_rcar"), "the other machine's device is its own driver's: {holder:?}");
    let session = r.open(SATA).unwrap();
    let theirs = DmaMemory::allocate(other.machine.memory(), 4096).unwrap();
    assert!(session.map(AT, &theirs, 0, 4096, Prot::READ).is_err());
    assert!(other.machine.client::<Vfio>(SATA).is_none());
    drop(session);
    drop(other);
    r.sleep(Duration::from_millis(50));
    assert_eq!(r.machine.promises().broken(), []);
}
