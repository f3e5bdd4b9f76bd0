//! Devices and groups that cannot be assigned.

use crate::common::{Host, gives};

const DEVICE: &str = "0000:04:00.0";

/// A card, and a second device in its group.
fn with_sibling(class: &str, driver: &str) -> Host {
    let bind = if driver.is_empty() { String::new() } else { format!("drv pci {driver}; bind $P pci {driver}") };
    Host::with_card(
        "down",
        &format!(
            "pci $RP 0000:04:00.1 {class} 14e4 1658; link $P/iommu_group sys/kernel/iommu_groups/25
             link sys/kernel/iommu_groups/25/devices/0000:04:00.1 $P; {bind}"
        ),
    )
}

#[test]
fn a_sibling_on_a_host_driver_refuses_and_can_be_held() {
    let host = with_sibling("010601", "ahci");
    host.give(DEVICE).refused(5, &["0000:04:00.1 is in the same group (25)", "ahci", "--hold-siblings"]);
    let held = host.give(&format!("{DEVICE} --hold-siblings"));
    assert_eq!(held.json["steps"][0]["device"], "0000:04:00.1");
    assert_eq!(held.json["steps"][0]["do"], "unbind");
    assert_eq!(held.undo().last().unwrap(), "0000:04:00.1 bind to ahci");
    let both = host.give(&format!("{DEVICE} 0000:04:00.1"));
    assert_eq!(both.exit, 0, "{}", both.text);
}

#[test]
fn a_held_sibling_is_looked_at_for_users_like_any_device() {
    let host = with_sibling("010601", "ahci");
    host.run(
        "disk sys/devices/pci0000:00/0000:00:1c.0/0000:04:00.1/ata1/host0/target0:0:0/0:0:0:0/block/sdc 8 32
        mount_line '40 30 8:32 / /keep rw - ext4 /dev/sdc rw'",
    );
    host.give(&format!("{DEVICE} --hold-siblings")).refused(4, &["sdc is mounted on /keep", "0000:04:00.1"]);
}

#[test]
fn drivers_that_leave_dma_alone_do_not_block() {
    for driver in ["pcieport", "pci-stub", ""] {
        gives(&with_sibling("060400", driver).give(DEVICE), DEVICE);
    }
    with_sibling("060100", "lpc_ich").give(DEVICE).refused(5, &["lpc_ich"]);
}

#[test]
fn a_device_that_does_not_answer_is_refused() {
    Host::with_card("down", "dead $P").give(DEVICE).refused(5, &["does not answer", "all ones"]);
}

#[test]
fn a_driver_without_an_unbind_file_is_refused() {
    let said = Host::with_card("down", "rm $R/sys/bus/pci/drivers/tg3/unbind").give(DEVICE);
    said.refused(5, &["tg3 cannot be unbound", "suppress_bind_attrs"]);
}

#[test]
fn a_driver_that_is_not_there_gets_a_hint() {
    let host = Host::with_card("down", "");
    host.bindctl(&format!("plan --to vfio_pci {DEVICE}")).refused(5, &["no driver vfio_pci", "did you mean vfio-pci?"]);
    host.bindctl(&format!("plan --to nosuchdriver {DEVICE}")).refused(5, &["no driver nosuchdriver"]);
    host.run("f proc/sys/kernel/osrelease 6.1.0-x; f lib/modules/6.1.0-x/modules.dep 'kernel/vfio-pci.ko:'");
    host.bindctl(&format!("plan --to vfio_pci {DEVICE}")).refused(5, &["did you mean vfio-pci?"]);
    host.run("rm -r $R/sys/bus/pci/drivers/vfio-pci $R/lib");
    host.give(DEVICE).refused(5, &["no driver vfio-pci"]);
}

#[test]
fn a_module_that_brings_the_driver_is_loaded_first() {
    let host = Host::with_card(
        "down",
        "rm -r $R/sys/bus/pci/drivers/vfio-pci; f proc/sys/kernel/osrelease 6.1.0-x
        f lib/modules/6.1.0-x/modules.dep 'kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko'",
    );
    let said = host.give(DEVICE);
    assert_eq!((said.exit, said.json["steps"][0]["do"].as_str()), (0, Some("load-module")), "{}", said.text);
}

#[test]
fn the_variant_driver_that_the_alias_names_is_taken() {
    let host = Host::with_card(
        "down",
        "drv pci mlx5_vfio_pci; f proc/sys/kernel/osrelease 6.1.0-x
        add lib/modules/6.1.0-x/modules.alias 'alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci'
        add lib/modules/6.1.0-x/modules.alias 'alias vfio_pci:v000014E4d00001657sv*sd*bc*sc*i* mlx5_vfio_pci'",
    );
    let said = host.give(DEVICE);
    assert_eq!(said.json["devices"][0]["target"], "mlx5_vfio_pci", "{}", said.text);
}

#[test]
fn a_device_that_cannot_be_reset_has_no_list_of_methods() {
    let host = Host::with_card("down", "pci $RP 0000:05:00.0 010601 1b21 0612; group 26 DMA-FQ $P");
    host.give("0000:05:00.0").names(&["0000:05:00.0 cannot be reset"]);
}

#[test]
fn list_tells_bridges_and_devices_without_a_group() {
    let said = Host::with_card("down", "pci $RP 0000:05:00.0 010601 1b21 0612").bindctl("list --all");
    said.names(&["a bridge: VFIO takes only endpoints", "no IOMMU group"]);
}

#[test]
fn a_bridge_is_refused() {
    Host::with_card("down", "").give("0000:00:1c.0").refused(5, &["is a bridge"]);
}

#[test]
fn a_group_is_unknown_before_the_first_probe_with_a_device_tree() {
    let lines = "d sys/firmware/devicetree/base; drv platform vfio-platform; drv platform sata_rcar
        D=sys/devices/platform/soc/ee300000.sata; f $D/driver_override '(null)'; d sys/bus/platform/devices
        link sys/bus/platform/devices/ee300000.sata $D";
    let said = Host::with_card("down", lines).give("ee300000.sata");
    assert_eq!(said.exit, 0, "{}", said.text);
    said.names(&["unknown until probed"]).does_not_name("no IOMMU on this machine");
    let bound = format!("{lines}; bind $D platform sata_rcar");
    Host::with_card("down", &bound).give("platform/ee300000.sata").refused(5, &["not behind an IOMMU"]);
}

#[test]
fn interrupts_that_are_not_remapped_are_known_beforehand() {
    let lines = "raw proc/interrupts ' 1: 0 IO-APIC 1-edge i8042\\n24: 0 PCI-MSI 1 ahci\\n'";
    let host = Host::with_card("down", lines);
    host.give(DEVICE).refused(5, &["interrupts are not remapped"]);
    host.run("f sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts Y");
    gives(&host.give(DEVICE), DEVICE);
}

#[test]
fn an_isolation_that_is_only_asserted_is_told() {
    let said = Host::with_card("down", "f proc/cmdline 'ro pcie_acs_override=downstream,multifunction'").give(DEVICE);
    said.names(&["asserted, not proven"]);
}

#[test]
fn a_consumer_by_device_link_refuses() {
    let lines = "L=sys/devices/virtual/devlink/pci:0000:04:00.0--pci:0000:04:00.7; f $L/status active
        link 'sys/devices/pci0000:00/0000:00:1c.0/0000:04:00.0/consumer:pci:0000:04:00.7' $L";
    let host = Host::with_card("down", lines);
    host.give(DEVICE).refused(4, &["pci/0000:04:00.7 depends on it"]);
    host.run("f 'sys/devices/virtual/devlink/pci:0000:04:00.0--pci:0000:04:00.7/status' dormant");
    gives(&host.give(DEVICE), DEVICE);
}

#[test]
fn a_consumer_of_what_hangs_below_refuses_unless_it_hangs_below_too() {
    let lines = "C='sys/devices/pci0000:00/0000:00:1c.0/0000:04:00.0'; L=sys/devices/virtual/devlink/phy--mac; f $L/status active
        f $C/mdio/phy1/uevent ''; link $C/mdio/phy1/consumer:platform:mac.1 $L
        link $L/consumer sys/devices/platform/mac.1; f sys/devices/platform/mac.1/uevent ''";
    let host = Host::with_card("down", lines);
    host.give(DEVICE).refused(4, &["platform/mac.1 depends on phy1 below it"]);
    host.run(
        "C='sys/devices/pci0000:00/0000:00:1c.0/0000:04:00.0'; f $C/mac.1/uevent ''
         link sys/devices/virtual/devlink/phy--mac/consumer $C/mac.1",
    );
    gives(&host.give(DEVICE), DEVICE);
}
