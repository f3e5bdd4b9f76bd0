//! Virtual functions.

use crate::common::Host;

const HOST: &str = "iommu dmar1; drv pci iavf iavf; drv pci ice ice; drv pci pcieport; vfio_stack; proc 1 systemd
    pci sys/devices/pci0000:3a 0000:3a:00.0 060400 8086 2030 1; bind $P pci pcieport; group 40 DMA-FQ $P; RP=$P
    pci $RP 0000:3b:00.0 020000 8086 1593; PF=$P; bind $P pci ice; group 41 DMA-FQ $P; net $P ens3f0 02:00:00:3b:00:00 down
    f $PF/sriov_totalvfs 8; f $PF/sriov_numvfs 1; f $PF/sriov_drivers_autoprobe 1
    pci $RP 0000:3b:01.0 020000 8086 1889; bind $P pci iavf; group 42 DMA-FQ $P; net $P v0 02:00:00:3b:01:00 down
    link $P/physfn $PF; link $PF/virtfn0 $P";

#[test]
fn functions_are_not_probed_before_their_overrides_are_back() {
    let said = Host::made_by(HOST).give("0000:3b:00.0");
    let undo = said.undo();
    let at = |what: &str| undo.iter().position(|u| u.contains(what)).unwrap_or_else(|| panic!("{what}: {undo:?}"));
    assert!(at("sriov_numvfs 0 to 1") < at("bind to iavf"));
    assert!(at("bind to iavf") < at("sriov_drivers_autoprobe 1"));
    assert_eq!(said.json["steps"][0]["do"], "sriov_drivers_autoprobe");
}

#[test]
fn a_function_and_its_parent_are_not_given_together() {
    Host::made_by(HOST).give("0000:3b:00.0 0000:3b:01.0").refused(3, &["is a virtual function of 0000:3b:00.0"]);
}
