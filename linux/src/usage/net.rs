//! Users of network interfaces, through bonds, bridges, teams and VLANs.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{Below, Interface, Scene};
use crate::inventory::Device;
use crate::obstacle::{Class, Findings, Obstacle};
use crate::path;
use crate::system::OPEN_VSWITCH;

/// `IFF_UP` of `if.h`.
const IFF_UP: u32 = 1;
/// PCI classes of network controllers that always make an interface: Ethernet, and other (wireless).
const INTERFACE_CLASSES: [u16; 2] = [0x0200, 0x0280];

pub(super) fn find(scene: Scene<'_>, device: &Device, below: &Below, findings: &mut Findings) {
    for interface in &below.interfaces {
        examine(scene, device, interface, findings);
    }
    missing(scene, device, below, findings);
}

fn examine(scene: Scene<'_>, device: &Device, interface: &Interface, findings: &mut Findings) {
    let name = interface.name.as_str();
    let label = device.label();
    let mut use_of = |kind: &'static str, what: String, remedy: String| {
        findings.obstacle(Obstacle::new(&label, Class::InUse, kind, what, remedy));
    };
    let mut idle = true;
    let network = &scene.system.network;
    // The interface itself, then everything that stands on it.
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut waiting = vec![(name, String::new())];
    while let Some((current, way)) = waiting.pop() {
        if !seen.insert(current) {
            continue;
        }
        for (above, how) in network.above.get(current).into_iter().flatten() {
            let kind = match *how {
                "bond" => "bond",
                "bridge" => "bridge",
                "team" => "team",
                OPEN_VSWITCH => "openvswitch",
                _ => "stacked",
            };
            let remedy = match *how {
                OPEN_VSWITCH => format!("ovs-vsctl del-port {current}"),
                "bond" | "bridge" | "team" | "VRF" | "interface" => format!("ip link set {current} nomaster"),
                "switch port" => format!("unbind the switch that has the port {above}"),
                // They stand on one interface, and are nothing without it.
                _ => format!("ip link delete {above}"),
            };
            idle = false;
            use_of(kind, format!("{current} is in the {how} {above}{way}"), remedy);
            waiting.push((above, format!(", which stands on {name}")));
        }
        let on = if way.is_empty() { current.to_owned() } else { format!("{current}{way}") };
        let routes: Vec<_> = network.routes.iter().filter(|r| r.interface == current).collect();
        if routes.iter().any(|r| r.default) {
            idle = false;
            use_of(
                "default-route",
                format!("the default route goes over {on}"),
                format!("move the default route: ip route del default dev {current}"),
            );
        }
        if network.pppoe.iter().any(|below| below == current) {
            idle = false;
            use_of("pppoe", format!("{on} carries a PPPoE session"), "end the session: poff".into());
        }
        let up = flags(scene, interface, current).map_or(!routes.is_empty(), |flags| flags & IFF_UP != 0);
        if !up {
            continue;
        }
        let local: Vec<&str> = routes.iter().filter(|r| !r.default).map(|r| r.to.as_str()).collect();
        let addresses = network.addresses.iter().filter(|a| a.interface == current && !a.link_local);
        let addresses: Vec<&str> = addresses.map(|a| a.address.as_str()).collect();
        if !addresses.is_empty() || !local.is_empty() {
            let what = match (addresses.is_empty(), local.is_empty()) {
                (false, _) => format!("address {}", addresses.join(", ")),
                _ => format!("an address and routes to {}", local.join(", ")),
            };
            idle = false;
            use_of("up", format!("{on} is up with {what}"), format!("ip link set {current} down"));
        }
    }
    if idle && flags(scene, interface, name).is_some_and(|flags| flags & IFF_UP != 0) {
        let index = scene.face.try_text(&format!("{}/ifindex", interface.path));
        let sockets = index.and_then(|index| network.packet_sockets.get(&index.trim().parse().ok()?).copied());
        let sockets = match sockets {
            None => String::new(),
            Some(1) => "; 1 packet socket is bound to it".into(),
            Some(sockets) => format!("; {sockets} packet sockets are bound to it"),
        };
        if let Some(error) = &network.unread {
            let what = format!("{name} is up, and its addresses are not known: {error}");
            let remedy = format!("ip link set {name} down");
            findings.obstacle(Obstacle::new(&label, Class::CannotTell, "addresses", what, remedy));
        } else {
            findings.warn(format!("the interface {name} is up, without an address, a route or a master{sockets}"));
        }
    }
    findings.remark(format!("the interface {name} vanishes with the driver"));
}

/// Flags of the interface called `name`, which is `known` or stands on it.
fn flags(scene: Scene<'_>, known: &Interface, name: &str) -> Option<u32> {
    let base = match known {
        Interface { name: own, path } if own == name => path.clone(),
        _ => scene.face.resolve(&format!("/sys/class/net/{name}")).ok().flatten()?,
    };
    let text = scene.face.try_text(&format!("{base}/flags"))?;
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// A network driver without an interface: sysfs shows only the interfaces of the reader's own namespace.
fn missing(scene: Scene<'_>, device: &Device, below: &Below, findings: &mut Findings) {
    let Some(driver) = device.driver.as_deref() else { return };
    if device.is_on_vfio() || matches!(driver, "pci-stub" | "uio_pci_generic" | "igb_uio") {
        return;
    }
    let by_class = device.class16().is_some_and(|class| INTERFACE_CLASSES.contains(&class))
        && below.interfaces.is_empty()
        && below.classes.is_empty();
    let mut places: Vec<&str> = below.empty_net.iter().map(|p| path::parent(p)).collect();
    if by_class && places.is_empty() {
        places.push(&device.path);
    }
    for place in places {
        let whose =
            if place == device.path { driver.to_owned() } else { format!("a driver below it ({})", path::name(place)) };
        let mut what = format!(
            "{whose} is bound, but its net/ is empty: the interface must be in another network namespace, \
             and its use cannot be ruled out"
        );
        let mut remedy = "move the interface back: ip link set NAME netns 1, inside its namespace".to_owned();
        for namespace in scene.system.namespaces.iter().filter(|n| !n.interfaces.is_empty()) {
            let who = scene.system.who(namespace.pid);
            let _ =
                write!(what, "; process {} ({}) has {} there", namespace.pid, comm(&who), list(&namespace.interfaces));
            if !namespace.default_routes.is_empty() {
                let _ = write!(what, " and a default route over {}", namespace.default_routes.join(", "));
            }
            remedy =
                format!("end process {}, or: nsenter -t {} -n ip link set NAME netns 1", namespace.pid, namespace.pid);
        }
        findings.obstacle(Obstacle::new(&device.label(), Class::CannotTell, "other-namespace", what, remedy));
    }
}

fn comm(who: &str) -> &str {
    who.rsplit_once(" (").map_or(who, |(comm, _)| comm)
}

fn list(interfaces: &[String]) -> String {
    let word = if interfaces.len() == 1 { "an interface" } else { "interfaces" };
    format!("{word} {}", interfaces.join(", "))
}
