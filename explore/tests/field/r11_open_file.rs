//! A file is open on the flash while its controller's driver is unbound, and used afterwards.

use super::kernel::*;
use bindery_drivers::sata_rcar::SataRcar;
#[test]
fn open_file() {
    let rig = rig();
    rig.machine.settle();
    let file = rig.machine.client::<SataRcar>(SATA).unwrap();
    let mut b = [0; 512];
    assert!(matches!(file.call(|p| p.read(1, &mut b)), Ok(Ok(()))));
    rig.machine.unbind(SATA, "sata_rcar").unwrap();
    let r = file.call(|p| p.read(1, &mut b).is_ok());
    rig.machine.bind(SATA, "sata_rcar").unwrap();
    let r2 = file.call(|p| p.read(1, &mut b).is_ok());
    println!("R11 after unbind {r:?}, after bind again {r2:?}; {}", rig.verdict());
    assert!(r.is_err() && r2.is_err());
}
