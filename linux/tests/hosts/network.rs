//! Users of network interfaces.

use crate::common::{Host, gives};

const DEVICE: &str = "0000:04:00.0";

#[test]
fn an_interface_that_is_down_can_go() {
    gives(&Host::with_card("down", "").give(DEVICE), DEVICE);
}

#[test]
fn an_interface_that_is_up_without_an_address_is_only_warned_about() {
    let said = Host::with_card("up", "").give(DEVICE);
    gives(&said, DEVICE);
    said.names(&["eth9 is up, without an address"]);
}

#[test]
fn an_address_of_either_family_refuses() {
    let four = "add proc/net/route 'eth9\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0'";
    Host::with_card("up", four).give(DEVICE).refused(4, &["eth9 is up", "192.168.2.0/24", "ip link set eth9 down"]);
    let six = "add proc/net/if_inet6 '20010db8000000000000000000000001 02 40 00 80 eth9'";
    Host::with_card("up", six).give(DEVICE).refused(4, &["eth9 is up with address 2001:db8::1"]);
    let link_local = "add proc/net/if_inet6 'fe800000000000000000000000000001 02 40 20 80 eth9'";
    gives(&Host::with_card("up", link_local).give(DEVICE), DEVICE);
}

#[test]
fn a_default_route_of_ipv6_refuses() {
    let zero = "00000000000000000000000000000000";
    let lines =
        format!("add proc/net/ipv6_route '{zero} 00 {zero} 00 fe800000000000000000000000000001 400 1 0 3 eth9'");
    Host::with_card("up", &lines).give(DEVICE).refused(4, &["default route goes over eth9"]);
}

#[test]
fn a_bond_that_carries_the_default_route_is_named_with_it() {
    let lines = "f $X/bond0/flags 0x1003; f $X/bond0/bonding/slaves eth9; link sys/class/net/bond0 $X/bond0
        link $P/net/eth9/master $X/bond0; d $P/net/eth9/bonding_slave; default_route bond0";
    let said = Host::with_card("up", lines).give(DEVICE);
    said.refused(4, &["eth9 is in the bond bond0", "default route goes over bond0", "nomaster"]);
}

#[test]
fn a_bridge_a_team_and_a_vlan_are_users() {
    let bridge = "d $X/br0/bridge; f $X/br0/flags 0x1003; link sys/class/net/br0 $X/br0
        link $P/net/eth9/master $X/br0; link $P/net/eth9/brport/bridge $X/br0";
    Host::with_card("up", bridge).give(DEVICE).refused(4, &["eth9 is in the bridge br0"]);
    let team = "f $X/team0/flags 0x1003; link sys/class/net/team0 $X/team0
        link $P/net/eth9/master $X/team0; link $P/net/eth9/upper_team0 $X/team0";
    Host::with_card("down", team).give(DEVICE).refused(4, &["eth9 is in the team team0"]);
    let vlan = "add proc/net/vlan/config 'eth9.7  | 7  | eth9'; default_route eth9.7";
    Host::with_card("up", vlan).give(DEVICE).refused(4, &["VLAN eth9.7", "default route goes over eth9.7"]);
}

#[test]
fn an_adapter_deep_below_in_another_namespace_is_not_told_idle() {
    let lines = "drv usb cdc_ncm cdc_ncm; drv pci xhci_hcd xhci_pci
        pci $RP 0000:05:00.0 0c0330 1022 1639; bind $P pci xhci_hcd; group 26 DMA-FQ $P
        d $P/usb1/1-2/1-2:1.0/net; bind $P/usb1/1-2/1-2:1.0 usb cdc_ncm";
    Host::with_card("down", lines).give("0000:05:00.0").refused(4, &["net/ is empty", "1-2:1.0"]);
}

#[test]
fn a_kernel_console_on_a_serial_card_refuses() {
    let lines = "drv pci serial 8250_pci; pci $RP 0000:05:00.0 070002 1c00 3253; bind $P pci serial; group 26 DMA-FQ $P
        f $P/tty/ttyS4/dev 4:68; f proc/consoles 'ttyS4                -W- (EC p a)    4:68'";
    Host::with_card("down", lines).give("0000:05:00.0").refused(4, &["the kernel's console ttyS4"]);
}

#[test]
fn framebuffers_of_the_driver_and_of_the_firmware_refuse() {
    let card = "drv pci amdgpu amdgpu; pci $RP 0000:05:00.0 030000 1002 73bf; bind $P pci amdgpu; group 26 DMA-FQ $P";
    let own = format!(
        "{card}; f $P/graphics/fb0/dev 29:0; f sys/class/vtconsole/vtcon1/name '(M) frame buffer device'
        f sys/class/vtconsole/vtcon1/bind 1"
    );
    Host::with_card("down", &own).give("0000:05:00.0").refused(4, &["fb0 is the console's framebuffer", "vtcon1/bind"]);
    let firmware = format!(
        "{card}; f $P/boot_vga 1; D=sys/devices/platform/efi-framebuffer.0; f $D/driver_override '(null)'
        drv platform efi-framebuffer; bind $D platform efi-framebuffer; d sys/bus/platform/devices
        link sys/bus/platform/devices/efi-framebuffer.0 $D
        f proc/iomem '  f0000000-f0000fff : BOOTFB'"
    );
    let said = Host::with_card("down", &firmware).give("0000:05:00.0");
    said.refused(4, &["the firmware's framebuffer (efi-framebuffer.0"]);
}
