//! System sleep: suppliers must be resumed before their consumers. `Driver` has no suspend and resume yet
//! (docs/decisions/0008-suspend-and-resume.md); the nearest thing is to unbind a supplier and to bind it again.

use super::kernel::*;

const CPG: &str = "e6150000.clock-controller";

#[test]
fn a_supplier_that_goes_takes_its_consumers_along_and_they_come_back_after_it() {
    let rig = rig();
    rig.machine.settle();
    let bound = || -> Vec<String> {
        let devices = rig.machine.devices();
        devices.iter().filter(|d| d.driver().is_some()).map(|d| d.name().to_string()).collect()
    };
    let before = bound();
    let file = rig.machine.client::<bindery_drivers::sata_rcar::SataRcar>(SATA).unwrap();
    rig.machine.unbind(CPG, "renesas-cpg-mssr").unwrap();
    assert!(!bound().iter().any(|d| d == SATA), "its consumer is asleep, too");
    assert!(rig.machine.probe(CPG).unwrap());
    rig.machine.settle();
    assert_eq!(bound(), before);
    assert!(file.call(|_| ()).is_err(), "files are lost: this is no suspend");
    assert_eq!(rig.machine.promises().broken(), []);
}
