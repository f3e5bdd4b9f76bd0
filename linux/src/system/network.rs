//! Routes, addresses, and interfaces that stand on others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::face::{Entry, Face, FaceError};
use crate::path;

/// The word for an interface that ports of Open vSwitch stand below.
pub const OPEN_VSWITCH: &str = "Open vSwitch datapath";

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The interface.
    pub interface: String,
    /// True when it leads everywhere.
    pub default: bool,
    /// The destination, as `192.168.1.0/24`.
    pub to: String,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub interface: String,
    /// The address.
    pub address: String,
    /// True when it is only good on the link itself: every IPv6 interface that is up has one.
    pub link_local: bool,
}

/// The network of the reader's namespace.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Routes of both families; local and multicast ones are left out.
    pub routes: Vec<Route>,
    /// Addresses of both families. On a directory, those of IPv4 show by their routes alone.
    pub addresses: Vec<Address>,
    /// The reason why IPv4 addresses are not known, when they could not be read.
    pub unread: Option<FaceError>,
    /// Interfaces that carry sessions of PPP over Ethernet.
    pub pppoe: Vec<String>,
    /// By index of the interface, the number of packet sockets that are bound to it.
    pub packet_sockets: BTreeMap<u32, usize>,
    /// By interface, the interfaces that stand on it (bond, bridge, team, VLAN, macvlan), with a word for how.
    pub above: BTreeMap<String, BTreeSet<(String, &'static str)>>,
    /// Entries of the interfaces' directories, by path in `/sys/devices`.
    pub(crate) listed: BTreeMap<String, Vec<Entry>>,
}

impl Network {
    pub(super) fn read(face: &dyn Face) -> Self {
        let text = |path| face.try_text(path).unwrap_or_default();
        let mut routes = routes(&text("/proc/net/route"));
        routes.extend(routes6(&text("/proc/net/ipv6_route")));
        let mut addresses = addresses6(&text("/proc/net/if_inet6"));
        let unread = face.addresses().map(|text| addresses.extend(addresses4(&text))).err();
        let pppoe = pppoe(&text("/proc/net/pppoe"));
        let packet_sockets = packet_sockets(&text("/proc/net/packet"));
        let mut network = Self { routes, addresses, unread, pppoe, packet_sockets, ..Self::default() };
        for interface in face.names("/sys/class/net") {
            network.read_stack(face, &interface);
        }
        for bond in face.names("/proc/net/bonding") {
            let text = face.try_text(&format!("/proc/net/bonding/{bond}")).unwrap_or_default();
            for slave in text.lines().filter_map(|line| line.strip_prefix("Slave Interface:")) {
                network.stack(slave.trim(), &bond, "bond");
            }
        }
        let vlans = face.try_text("/proc/net/vlan/config").unwrap_or_default();
        for line in vlans.lines() {
            let fields: Vec<&str> = line.split('|').map(str::trim).collect();
            if let [vlan, id, below] = fields[..]
                && id.parse::<u16>().is_ok()
            {
                network.stack(below, vlan, "VLAN");
            }
        }
        network
    }

    fn read_stack(&mut self, face: &dyn Face, interface: &str) {
        let Some(base) = face.resolve(&format!("/sys/class/net/{interface}")).ok().flatten() else { return };
        let Ok(entries) = face.list(&base) else { return };
        let kind = |name: &str| kind(face, &format!("/sys/class/net/{name}"));
        for entry in entries.iter().map(|entry| entry.name.as_str()) {
            if entry == "master" {
                if let Some(path) = face.resolve(&format!("{base}/master")).ok().flatten() {
                    let master = path::name(&path).to_owned();
                    let how = match self::kind(face, &path) {
                        "interface" if face.exists(&format!("{base}/bonding_slave")) => "bond",
                        "interface" if face.exists(&format!("{base}/brport")) => "bridge",
                        how => how,
                    };
                    self.stack(interface, &master, how);
                }
            } else if entry == "brport" {
                if let Some(bridge) = face.link_name(&format!("{base}/brport/bridge")) {
                    self.stack(interface, &bridge, "bridge");
                }
            } else if let Some(upper) = entry.strip_prefix("upper_") {
                self.stack(interface, upper, kind(upper));
            } else if let Some(lower) = entry.strip_prefix("lower_") {
                self.stack(lower, interface, kind(interface));
            } else if entry == "brif" {
                for port in face.names(&format!("{base}/brif")) {
                    self.stack(&port, interface, "bridge");
                }
            } else if entry == "bonding" {
                let slaves = face.try_text(&format!("{base}/bonding/slaves")).unwrap_or_default();
                slaves.split_whitespace().for_each(|slave| self.stack(slave, interface, "bond"));
            }
        }
        self.listed.insert(base, entries);
    }

    fn stack(&mut self, below: &str, above: &str, how: &'static str) {
        let stacked = self.above.entry(below.into()).or_default();
        // One master shows in several places, and not each of them says what it is.
        if how != "interface" {
            stacked.retain(|(name, known)| name != above || *known != "interface");
        } else if stacked.iter().any(|(name, _)| name == above) {
            return;
        }
        stacked.insert((above.into(), how));
    }
}

/// Kind of an interface, from its directory.
fn kind(face: &dyn Face, path: &str) -> &'static str {
    let base = face.resolve(path).ok().flatten().unwrap_or_else(|| path.into());
    let uevent = face.try_text(&format!("{base}/uevent")).unwrap_or_default();
    let devtype = uevent.lines().find_map(|line| line.strip_prefix("DEVTYPE=")).unwrap_or_default();
    match devtype {
        "bond" => "bond",
        "bridge" => "bridge",
        "team" => "team",
        "vlan" => "VLAN",
        "macvlan" | "macvtap" => "macvlan",
        "ipvlan" | "ipvtap" => "ipvlan",
        "vxlan" => "VXLAN",
        "macsec" => "MACsec device",
        "vrf" => "VRF",
        "dsa" => "switch port",
        _ if face.exists(&format!("{base}/bonding")) => "bond",
        _ if face.exists(&format!("{base}/bridge")) => "bridge",
        _ if path::name(&base).starts_with("team") => "team",
        // All bridges of one datapath stand behind this one interface.
        _ if path::name(&base) == "ovs-system" => OPEN_VSWITCH,
        _ => "interface",
    }
}

/// Lines of `/proc/net/route`: interface, then destination, gateway, flags and mask in hexadecimal, host byte order.
pub(super) fn routes(text: &str) -> Vec<Route> {
    const RTF_UP: u32 = 1;
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hex = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
        let (to, flags, mask) = (hex(1)?, hex(3)?, hex(7)?);
        let length = mask.count_ones();
        let to = Ipv4Addr::from(to.swap_bytes());
        (flags & RTF_UP != 0).then(|| Route {
            interface: words[0].into(),
            default: mask == 0 && to.is_unspecified(),
            to: format!("{to}/{length}"),
        })
    };
    text.lines().skip(1).filter_map(read).collect()
}

/// Lines of `/proc/net/ipv6_route`: destination, length, ..., flags, interface.
fn routes6(text: &str) -> Vec<Route> {
    const RTF_UP: u32 = 1;
    const RTF_REJECT: u32 = 0x0200;
    const RTF_LOCAL: u32 = 0x8000_0000;
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (to, interface) = (words.first()?, *words.get(9)?);
        let length = u32::from_str_radix(words.get(1)?, 16).ok()?;
        let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
        let to = Ipv6Addr::from(u128::from_str_radix(to, 16).ok()?);
        let skip = flags & RTF_UP == 0 || flags & (RTF_REJECT | RTF_LOCAL) != 0;
        let skip = skip || interface == "lo" || to.is_multicast() || to.is_unicast_link_local();
        let route = Route { interface: interface.into(), default: length == 0, to: format!("{to}/{length}") };
        (!skip).then_some(route)
    };
    text.lines().filter_map(read).collect()
}

/// Lines of `/proc/net/pppoe`: session, address of the other end, interface.
fn pppoe(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).map(Into::into).collect()
}

/// Lines of `/proc/net/packet`: address, references, type, protocol, index of the interface (0 for all of them).
fn packet_sockets(text: &str) -> BTreeMap<u32, usize> {
    let mut found = BTreeMap::new();
    let bound = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(4)?.parse().ok());
    for index in bound.filter(|index| *index != 0) {
        *found.entry(index).or_default() += 1;
    }
    found
}

/// Lines of an interface and its address.
fn addresses4(text: &str) -> Vec<Address> {
    let read = |line: &str| {
        let (interface, address) = line.split_once(' ')?;
        let address: Ipv4Addr = address.parse().ok()?;
        Some(Address { interface: interface.into(), address: address.to_string(), link_local: address.is_link_local() })
    };
    text.lines().filter_map(read).collect()
}

/// Lines of `/proc/net/if_inet6`: address, index, length, scope, flags, interface.
fn addresses6(text: &str) -> Vec<Address> {
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = Ipv6Addr::from(u128::from_str_radix(words.first()?, 16).ok()?);
        Some(Address {
            interface: (*words.get(5)?).into(),
            address: address.to_string(),
            link_local: address.is_unicast_link_local(),
        })
    };
    text.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_in_both_families() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\n\
                    eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\n";
        let found = routes(text);
        assert!(found[0].default && !found[1].default);
        assert_eq!(found[1].to, "192.168.2.0/24");
        let zero = "0".repeat(32);
        let text = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 1 0 00000003 eth0\n{zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n"
        );
        let found = routes6(&text);
        assert_eq!(found.len(), 1);
        assert!(found[0].default && found[0].interface == "eth0");
    }
}
