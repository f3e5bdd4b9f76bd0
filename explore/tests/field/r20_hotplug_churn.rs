//! Devices come and go for a long time, each under a new name (as USB and PCI hot-plug make them).

use super::kernel::*;

#[test]
fn what_comes_and_goes_under_new_names_leaves_nothing_bound_waiting_or_held() {
    let rig = rig();
    rig.board.keep_events(0);
    rig.machine.settle();
    let (devices, before) = (rig.machine.devices().len(), rig.machine.footprint());
    for n in 0..8000 {
        let (parent, child) = (format!("hub-{n}"), format!("hot-{n}"));
        let node = rig.machine.add_device(dev(&parent, "t,hub")).unwrap().node();
        let mut below = dev(&child, "t,hot");
        below.parent = Some(node);
        rig.machine.add_device(below).unwrap();
        rig.machine.settle();
        assert!(rig.machine.remove_device(&parent));
        assert!(rig.machine.device(&child).is_none(), "its children go with it");
    }
    assert_eq!((rig.machine.devices().len(), rig.machine.footprint()), (devices, before));
    assert_eq!(rig.machine.promises().broken(), []);
}
