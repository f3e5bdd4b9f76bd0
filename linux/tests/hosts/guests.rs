//! Devices of which guests hold a part, and devices that come in several parts.

use crate::common::{Host, gives};

const BASE: &str = "iommu dmar0; drv pci pcieport; vfio_stack; proc 1 systemd
    pci sys/devices/pci0000:00 0000:00:1c.0 060400 8086 a110 1; bind $P pci pcieport; group 3 DMA-FQ $P; RP=$P";

#[test]
fn a_mediated_device_that_a_guest_holds_refuses_its_parent() {
    let host = |holder: &str| {
        Host::made_by(&format!(
            "{BASE}; drv pci i915 i915; drv mdev vfio_mdev; U=4b20d080-1b54-4048-85b3-a6a62d165c01
             pci sys/devices/pci0000:00 0000:00:02.0 030000 8086 9bc5; bind $P pci i915; group 1 DMA-FQ $P; reset_by $P flr
             f $P/$U/mdev_type/name x; bind $P/$U mdev vfio_mdev; link $P/$U/iommu_group sys/kernel/iommu_groups/20
             link sys/kernel/iommu_groups/20/devices/$U $P/$U; vfio_node 20 4 $P/$U; {holder}"
        ))
    };
    let by_group = host("proc 70 qemu-system-x86; fd 70 30 /dev/vfio/20");
    by_group.give("0000:00:02.0").refused(4, &["qemu-system-x86 (70)", "4b20d080-1b54-4048-85b3-a6a62d165c01"]);
    let by_device = host("proc 70 qemu-system-x86; fd 70 30 /dev/vfio/devices/vfio4");
    by_device.give("0000:00:02.0").refused(4, &["qemu-system-x86 (70)", "4b20d080-1b54-4048-85b3-a6a62d165c01"]);
    gives(&host("").give("0000:00:02.0"), "0000:00:02.0");
}

#[test]
fn a_queue_of_a_card_that_a_guest_has_by_vdpa_is_in_use() {
    let host = Host::made_by(&format!(
        "{BASE}; drv pci mlx5_core mlx5_core
         pci $RP 0000:03:00.2 020000 15b3 101e; bind $P pci mlx5_core; group 9 DMA-FQ $P; reset_by $P flr
         net $P ens1v0 02:00:00:17:00:04 down; f $P/vdpa0/vhost-vdpa-0/dev 508:0; node dev/vhost-vdpa-0 c 508 0
         proc 70 qemu-system-x86; fd 70 25 /dev/vhost-vdpa-0"
    ));
    host.give("0000:03:00.2").refused(4, &["/dev/vhost-vdpa-0 is held by qemu-system-x86 (70)"]);
}

#[test]
fn a_usb_device_that_a_guest_has_keeps_its_controller() {
    let host = Host::made_by(&format!(
        "{BASE}; drv pci xhci_hcd xhci_hcd
         pci $RP 0000:04:00.0 0c0330 1b21 2142; bind $P pci xhci_hcd; group 9 DMA-FQ $P; reset_by $P flr
         f $P/usb3/3-1/dev 189:257; f $P/usb3/3-1/uevent 'DEVNAME=bus/usb/003/002'; node dev/bus/usb/003/002 c 189 257
         proc 70 qemu-system-x86; fd 70 25 /dev/bus/usb/003/002"
    ));
    host.give("0000:04:00.0").refused(4, &["/dev/bus/usb/003/002 is held by qemu-system-x86 (70)"]);
}

#[test]
fn a_physical_function_on_vfio_is_not_taken_back_under_a_guests_function() {
    let host = Host::made_by(&format!(
        "{BASE}; drv pci ice ice
         pci $RP 0000:05:00.0 020000 8086 159b; PF=$P; bind $P pci vfio-pci; f $P/driver_override vfio-pci; group 9 DMA-FQ $P
         vfio_node 9 9 $P; f $P/sriov_numvfs 1; f $P/sriov_totalvfs 4; f $P/sriov_drivers_autoprobe 0
         pci $RP 0000:05:01.0 020000 8086 1889; bind $P pci vfio-pci; f $P/driver_override vfio-pci; group 10 DMA-FQ $P
         vfio_node 10 10 $P; link $P/physfn $PF; link $PF/virtfn0 $P
         proc 70 qemu-system-x86; fd 70 25 /dev/vfio/devices/vfio10"
    ));
    let said = host.bindctl("plan --to host 0000:05:00.0");
    said.refused(4, &["0000:05:01.0 is held by qemu-system-x86 (70)"]);
}

#[test]
fn four_functions_of_one_card_go_together_and_the_driverless_one_needs_no_unbind() {
    let host = Host::made_by(&format!(
        "{BASE}; drv pci nvidia nvidia; drv pci snd_hda_intel snd_hda_intel; drv pci xhci_hcd xhci_hcd
         pci $RP 0000:01:00.0 030000 10de 1e84; A=$P; bind $P pci nvidia
         pci $RP 0000:01:00.1 040300 10de 10f8; B=$P; bind $P pci snd_hda_intel
         pci $RP 0000:01:00.2 0c0330 10de 1ad8; C=$P; bind $P pci xhci_hcd
         pci $RP 0000:01:00.3 0c8000 10de 1ad9; D=$P; group 15 DMA-FQ $A $B $C $D"
    ));
    let one = host.give("0000:01:00.0");
    one.refused(5, &["0000:01:00.1 is in the same group", "0000:01:00.2 is in the same group"]);
    one.does_not_name("0000:01:00.3");
    let all = host.give("0000:01:00.0 0000:01:00.1 0000:01:00.2 0000:01:00.3");
    assert_eq!(all.exit, 0, "{}", all.text);
    let steps: Vec<String> = all.json["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| format!("{} {}", s["device"].as_str().unwrap(), s["do"].as_str().unwrap()))
        .collect();
    let last_unbind = steps.iter().rposition(|s| s.ends_with(" unbind")).unwrap();
    assert!(last_unbind < steps.iter().position(|s| s.ends_with(" bind")).unwrap(), "{steps:?}");
    assert!(!steps.contains(&"0000:01:00.3 unbind".to_owned()) && steps.contains(&"0000:01:00.3 bind".to_owned()));
    assert!(all.undo().iter().all(|step| *step != "0000:01:00.3 bind to vfio-pci"), "{:?}", all.undo());
}

#[test]
fn a_device_that_another_tool_left_halfway_needs_only_the_rest() {
    let host = Host::made_by(&format!(
        "{BASE}; drv pci nvme nvme
         pci $RP 0000:02:00.0 010802 8086 0a54; f $P/driver_override vfio-pci; group 11 DMA-FQ $P; reset_by $P flr"
    ));
    let said = host.give("0000:02:00.0");
    said.planned(&["0000:02:00.0 bind", "0000:02:00.0 verify-driver", "0000:02:00.0 verify-node"]);
    assert_eq!(said.undo(), ["0000:02:00.0 unbind from vfio-pci"], "the override was there before");
}

#[test]
fn a_link_that_only_orders_power_does_not_refuse() {
    let host = Host::made_by(&format!(
        "{BASE}; drv pci nvidia nvidia; drv pci snd_hda_intel snd_hda_intel
         pci $RP 0000:01:00.0 030000 10de 1e84; A=$P; bind $P pci nvidia; group 15 DMA-FQ $P; reset_by $P flr
         pci $RP 0000:01:00.1 040300 10de 10f8; bind $P pci snd_hda_intel; group 16 DMA-FQ $P; reset_by $P flr
         L=sys/devices/virtual/devlink/pci:0000:01:00.0--pci:0000:01:00.1; f $L/status 'not tracked'
         link $L/consumer $P; link $L/supplier $A; link $A/consumer:pci:0000:01:00.1 $L"
    ));
    gives(&host.give("0000:01:00.0"), "0000:01:00.0");
}
