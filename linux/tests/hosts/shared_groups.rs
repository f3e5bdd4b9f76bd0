//! Groups and functions as boards, cards and hypervisors make them.

use crate::common::{Host, gives};

/// The functions of a chipset that share one group, and these lines. Paths in `$LPC`, `$SMB`, `$SND`, `$SPI`.
fn chipset(lines: &str) -> Host {
    Host::made_by(&format!(
        "iommu dmar0; vfio_stack; proc 1 systemd; H=sys/devices/pci0000:00
         drv pci lpc_ich lpc_ich; drv pci i801_smbus i2c_i801; drv pci snd_hda_intel snd_hda_intel; drv pci intel-spi spi_intel_pci
         pci $H 0000:00:1f.0 060100 8086 7a84; LPC=$P; bind $P pci lpc_ich
         pci $H 0000:00:1f.3 040300 8086 7ad0; SND=$P; bind $P pci snd_hda_intel; reset_by $P pm
         pci $H 0000:00:1f.4 0c0500 8086 7aa3; SMB=$P; bind $P pci i801_smbus
         pci $H 0000:00:1f.5 0c8000 8086 7aa4; SPI=$P; bind $P pci intel-spi
         group 17 DMA-FQ $LPC $SND $SMB $SPI
         {lines}"
    ))
}

#[test]
fn onboard_sound_shares_its_group_with_the_chipsets_bridge_and_buses() {
    let host = chipset("");
    let siblings =
        ["0000:00:1f.0", "lpc_ich", "0000:00:1f.4", "i801_smbus", "0000:00:1f.5", "intel-spi", "--hold-siblings"];
    host.give("0000:00:1f.3").refused(5, &siblings);
}

#[test]
fn a_clock_below_a_held_bridge_that_somebody_has_open_is_in_use() {
    let clock = "f $LPC/rtc_cmos/rtc/rtc0/dev 251:0; link $LPC/rtc_cmos/rtc/rtc0/subsystem sys/class/rtc; node dev/rtc0 c 251 0";
    let host = chipset(&format!("{clock}; proc 700 chronyd; fd 700 4 /dev/rtc0"));
    host.give("0000:00:1f.3 --hold-siblings").refused(4, &["0000:00:1f.0", "/dev/rtc0 is held by chronyd (700)"]);
    let host = chipset(clock);
    let held = host.give("0000:00:1f.3 --hold-siblings");
    assert_eq!(held.exit, 0, "{}", held.text);
    assert_eq!(held.undo().len(), 3 + 3, "three siblings come back: {:?}", held.undo());
}

#[test]
fn a_program_on_the_bus_of_a_held_sibling_is_named() {
    let host = chipset(
        "f $SMB/i2c-3/i2c-dev/i2c-3/dev 89:3; link $SMB/i2c-3/i2c-dev/i2c-3/subsystem sys/class/i2c-dev; node dev/i2c-3 c 89 3
         proc 4400 openrgb; fd 4400 9 /dev/i2c-3",
    );
    host.give("0000:00:1f.3 --hold-siblings").refused(4, &["0000:00:1f.4", "/dev/i2c-3 is held by openrgb (4400)"]);
}

#[test]
fn a_virtual_function_without_isolation_shares_the_group_of_its_physical_one() {
    let host = Host::made_by(
        "iommu dmar0; vfio_stack; drv pci igb igb; drv pci igbvf igbvf; proc 1 systemd
         pci sys/devices/pci0000:00 0000:01:00.0 020000 8086 1521; PF=$P; bind $P pci igb; net $P eno1 02:00:00:01:00:00 down
         f $PF/sriov_totalvfs 7; f $PF/sriov_numvfs 1; f $PF/sriov_drivers_autoprobe 1
         pci sys/devices/pci0000:00 0000:01:10.0 020000 8086 1520; VF=$P; bind $P pci igbvf; net $P eno1v0 02:00:00:01:10:00 down
         link $VF/physfn $PF; link $PF/virtfn0 $VF; reset_by $VF flr; group 9 DMA-FQ $PF $VF",
    );
    host.give("0000:01:10.0").refused(5, &["0000:01:00.0 is in the same group (9)", "igb"]);
    // Its parent cannot be held: the function itself would vanish.
    let held = host.give("0000:01:10.0 --hold-siblings");
    assert_ne!(held.exit, 0, "{}", held.text);
    held.names(&["0000:01:00.0"]);
}

#[test]
fn members_of_a_group_without_a_driver_do_not_block_and_are_counted() {
    let host = Host::with_card(
        "down",
        "for n in 0 1 2; do pci sys/devices/pci0000:00 0000:00:18.$n 060000 1022 1440
           link $P/iommu_group sys/kernel/iommu_groups/25; link sys/kernel/iommu_groups/25/devices/0000:00:18.$n $P; done",
    );
    let said = host.give("0000:04:00.0");
    gives(&said, "0000:04:00.0");
    assert_eq!(said.json["devices"][0]["group_size"], 4);
}

#[test]
fn a_member_on_a_bus_without_an_override_blocks_with_its_driver() {
    let lines = "d sys/bus/host1x/devices; drv host1x tegra-sor tegra_sor; d sys/devices/platform/sor0
        link sys/bus/host1x/devices/sor0 sys/devices/platform/sor0; bind sys/devices/platform/sor0 host1x tegra-sor
        link sys/devices/platform/sor0/iommu_group sys/kernel/iommu_groups/25
        link sys/kernel/iommu_groups/25/devices/sor0 sys/devices/platform/sor0";
    let said = Host::with_card("down", lines).give("0000:04:00.0");
    said.refused(5, &["sor0", "tegra-sor"]);
    assert_eq!(said.json["devices"][0]["group_size"], 2);
}

#[test]
fn a_device_of_a_management_complex_gets_the_vfio_driver_of_its_bus() {
    let lines = "drv fsl-mc fsl_mc_dprc dprc; drv fsl-mc vfio-fsl-mc vfio_fsl_mc; raw sys/bus/fsl-mc/drivers_probe ''
        D=sys/devices/platform/soc/80c000000.fsl-mc/dprc.1/dprc.2; f $D/driver_override '(null)'
        link $D/subsystem sys/bus/fsl-mc; link sys/bus/fsl-mc/devices/dprc.2 $D; bind $D fsl-mc fsl_mc_dprc; group 5 DMA $D";
    let said = Host::with_card("down", lines).give("fsl-mc/dprc.2");
    assert_eq!(said.exit, 0, "{}", said.text);
    said.names(&["vfio-fsl-mc"]);
}

#[test]
fn a_device_that_user_space_already_drives_through_uio_is_in_use() {
    let lines = "drv pci uio_pci_generic uio_pci_generic; rm -r $R/$P/net $R/sys/bus/pci/drivers/tg3/0000:04:00.0 $R/sys/class/net/eth9
        bind $P pci uio_pci_generic; f $P/uio/uio0/dev 240:0; link $P/uio/uio0/subsystem sys/class/uio; node dev/uio0 c 240 0";
    let busy = Host::with_card("down", &format!("{lines}; proc 5000 reactor_0; fd 5000 30 /dev/uio0"));
    busy.give("0000:04:00.0").refused(4, &["/dev/uio0 is held by reactor_0 (5000)"]);
    gives(&Host::with_card("down", lines).give("0000:04:00.0"), "0000:04:00.0");
}

#[test]
fn an_override_of_another_tool_comes_back_with_the_device() {
    let said = Host::with_card("down", "f $P/driver_override tg3").give("0000:04:00.0");
    gives(&said, "0000:04:00.0");
    assert_eq!(
        said.undo(),
        ["0000:04:00.0 unbind from vfio-pci", "0000:04:00.0 driver_override tg3", "0000:04:00.0 bind to tg3"]
    );
}

#[test]
fn a_guest_that_resets_its_neighbour_is_told_before() {
    let lines = "reset_by $P bus; pci $RP 0000:04:00.1 020000 14e4 1658; bind $P pci vfio-pci; group 26 DMA-FQ $P; reset_by $P bus
        f $P/driver_override vfio-pci; vfio_node 26 4 $P; proc 5120 qemu-system-x86; fd 5120 31 /dev/vfio/26";
    let said = Host::with_card("down", lines).give("0000:04:00.0");
    gives(&said, "0000:04:00.0");
    said.names(&["also resets 0000:04:00.1"]);
}

#[test]
fn under_xen_the_machines_iommu_is_xens() {
    let host = Host::made_by(
        "vfio_stack; drv pci e1000e e1000e; proc 1 systemd; f sys/hypervisor/type xen; d sys/class/iommu; d sys/kernel/iommu_groups
         pci sys/devices/pci0000:00 0000:03:00.0 020000 8086 10d3; bind $P pci e1000e; net $P eth0 02:00:00:03:00:00 down",
    );
    host.give("0000:03:00.0").refused(5, &["Xen", "xl pci-assignable-add"]);
}

#[test]
fn a_controller_that_hides_others_is_not_held_for_one_of_them() {
    let host = Host::made_by(
        "iommu dmar0; drv pci nvme nvme; drv pci vmd vmd; drv pci pcieport; vfio_stack; proc 1 systemd
         pci sys/devices/pci0000:00 0000:00:0e.0 010400 8086 9a0b; VMD=$P; bind $P pci vmd; reset_by $P flr
         pci $VMD/pci10000:e0 10000:e0:06.0 060400 8086 9a09 1; B=$P; bind $P pci pcieport
         pci $B 10000:e1:00.0 010802 144d a80a; D=$P; bind $P pci nvme; reset_by $P flr; nvme $P 0 S1 'Example SSD'
         group 8 DMA-FQ $VMD $B $D",
    );
    for more in ["", " --hold-siblings"] {
        host.give(&format!("10000:e1:00.0{more}")).refused(5, &["0000:00:0e.0", "cannot be held", "hangs below"]);
    }
    host.give("10000:e1:00.0 0000:00:0e.0").refused(3, &["vanishes first"]);
}
