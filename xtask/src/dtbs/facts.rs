//! What a device of a tree has, found a second time by other code than the core's: registers through `ranges`, interrupts,
//! windows and coherence of DMA, and suppliers.

use std::collections::BTreeSet;

use super::source::{Id, Source, cells};

/// A device's facts, as text where that is simplest to compare.
pub(super) struct Facts {
    pub(super) registers: Vec<String>,
    pub(super) interrupts: Vec<(Id, Vec<u32>)>,
    pub(super) coherent: bool,
    /// Windows of the nearest bus that has some; `None` when this reader does not follow the path to memory.
    pub(super) windows: Option<Vec<String>>,
    /// Property and node of each supplier.
    pub(super) suppliers: BTreeSet<(String, String)>,
    /// Properties whose suppliers are not compared: a reference of them leads through a map of another node.
    pub(super) mapped: BTreeSet<String>,
}

/// The facts of a device. `owners` has the nearest device at or above each node.
pub(super) fn of(tree: &Source, id: Id, owners: &[Option<Id>]) -> Facts {
    let interrupts = interrupts(tree, id);
    let mut mapped = BTreeSet::new();
    let suppliers = suppliers(tree, id, owners, &interrupts, &mut mapped);
    Facts {
        registers: registers(tree, id),
        interrupts,
        coherent: coherent(tree, id),
        windows: windows(tree, id),
        suppliers,
        mapped,
    }
}

/// Cells of addresses and sizes of the nodes below `bus`.
fn layout(tree: &Source, bus: Id) -> (usize, usize) {
    let kind = tree.words(bus, "device_type");
    let name = tree.nodes[bus].name.split('@').next().unwrap_or_default();
    if name == "pcie" || kind.iter().any(|k| k == "pci" || k == "pciex") {
        return (3, 2);
    }
    if name == "isa" {
        return (2, 1);
    }
    (tree.inherited(bus, "#address-cells"), tree.inherited(bus, "#size-cells"))
}

fn number(cells: &[u32]) -> u128 {
    cells.iter().fold(0, |n, c| n << 32 | u128::from(*c))
}

/// Flags and number of an address; a third cell holds flags.
fn split(tree: &Source, bus: Id, address: &[u32]) -> (u32, u128) {
    match (layout(tree, bus), address.len()) {
        ((3, 2), 3) if tree.cell(bus, "#address-cells") == Some(3) || !tree.words(bus, "device_type").is_empty() => {
            let pci = tree.words(bus, "device_type").iter().any(|k| k == "pci" || k == "pciex")
                || tree.nodes[bus].name.split('@').next() == Some("pcie");
            (if pci { address[0] & 0x0300_0000 } else { address[0] }, number(&address[1..]))
        }
        (_, 3) => (address[0], number(&address[1..])),
        (_, 2) if tree.nodes[bus].name.split('@').next() == Some("isa") => (address[0] & 1, number(&address[1..])),
        _ => (0, number(address)),
    }
}

/// Translates an address below `bus` to the root by this property (`ranges` or `dma-ranges`).
fn translate(tree: &Source, mut bus: Id, mut address: (u32, u128), property: &str) -> Option<u128> {
    while let Some(parent) = tree.nodes[bus].parent {
        let ranges: Vec<u32> = cells(tree.prop(bus, property)?).collect();
        let ((a, s), (pa, _)) = (layout(tree, bus), layout(tree, parent));
        if s == 0 || a == 0 || pa == 0 {
            return None;
        }
        address = if ranges.is_empty() {
            (0, address.1)
        } else {
            ranges.chunks_exact(a + pa + s).find_map(|entry| {
                let (flags, from) = split(tree, bus, &entry[..a]);
                let (up, to) = split(tree, parent, &entry[a..a + pa]);
                let offset = address.1.checked_sub(from).filter(|o| *o < number(&entry[a + pa..]))?;
                (flags == address.0).then_some((up, to + offset))
            })?
        };
        bus = parent;
    }
    (layout(tree, bus).1 != 0).then_some(address.1)
}

fn registers(tree: &Source, id: Id) -> Vec<String> {
    let (Some(reg), Some(bus)) = (tree.prop(id, "reg"), tree.nodes[id].parent) else { return Vec::new() };
    let reg: Vec<u32> = cells(reg).collect();
    let (a, s) = layout(tree, bus);
    if a == 0 || s == 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    for entry in reg.chunks_exact(a + s) {
        let (flags, at) = split(tree, bus, &entry[..a]);
        let len = number(&entry[a..]);
        // First and last byte must come out at the same distance; what lies between them is not looked at.
        let first = translate(tree, bus, (flags, at), "ranges");
        let last = len.checked_sub(1).and_then(|more| translate(tree, bus, (flags, at + more), "ranges"));
        match (first, last) {
            (Some(first), Some(last)) if last == first + len - 1 && last <= u128::from(u64::MAX) => {
                found.push(format!("{first:#x}+{len:#x}"));
            }
            _ => break,
        }
    }
    found
}

fn interrupt_parent(tree: &Source, mut id: Id) -> Option<Id> {
    for _ in 0..128 {
        id = match tree.cell(id, "interrupt-parent") {
            Some(phandle) => tree.phandle(phandle)?,
            None => tree.nodes[id].parent?,
        };
        if tree.prop(id, "#interrupt-cells").is_some() {
            return Some(id);
        }
    }
    None
}

/// Controller and specifier of each interrupt, up to the first that leads nowhere.
fn interrupts(tree: &Source, id: Id) -> Vec<(Id, Vec<u32>)> {
    let mut found = Vec::new();
    let unit: Vec<u32> = tree.prop(id, "reg").map(|r| cells(r).collect()).unwrap_or_default();
    if let Some(value) = tree.prop(id, "interrupts-extended") {
        let value: Vec<u32> = cells(value).collect();
        let mut at = 0;
        while at < value.len() {
            if value[at] == 0 {
                at += 1;
                continue;
            }
            let Some(parent) = tree.phandle(value[at]) else { break };
            let Some(count) = tree.cell(parent, "#interrupt-cells") else { break };
            let Some(args) = value.get(at + 1..at + 1 + count as usize) else { break };
            let Some(end) = route(tree, parent, args.to_vec(), unit.clone()) else { break };
            found.push(end);
            at += 1 + count as usize;
        }
    } else if let Some(value) = tree.prop(id, "interrupts") {
        let Some(parent) = interrupt_parent(tree, id) else { return found };
        let count = tree.cell(parent, "#interrupt-cells").unwrap_or(0) as usize;
        let value: Vec<u32> = cells(value).collect();
        for args in value.chunks_exact(count.max(1)) {
            let Some(end) = route(tree, parent, args.to_vec(), unit.clone()) else { break };
            found.push(end);
        }
    }
    found
}

/// Controllers whose map has a format of their own.
const OWN_MAPS: [&str; 5] =
    ["realtek,rtl-intc", "fsl,ls1021a-extirq", "fsl,ls1043a-extirq", "fsl,ls1088a-extirq", "renesas,rza1-irqc"];

fn route(tree: &Source, mut at: Id, mut args: Vec<u32>, mut unit: Vec<u32>) -> Option<(Id, Vec<u32>)> {
    for _ in 0..64 {
        let controller = tree.prop(at, "interrupt-controller").is_some();
        let own = tree.words(at, "compatible").iter().any(|c| OWN_MAPS.contains(&c.as_str()));
        let map = tree.prop(at, "interrupt-map").filter(|_| !(controller && own));
        let Some(map) = map else {
            if controller {
                return Some((at, args));
            }
            at = interrupt_parent(tree, at)?;
            continue;
        };
        let map: Vec<u32> = cells(map).collect();
        let address = tree.inherited(at, "#address-cells");
        let mask: Vec<u32> = tree.prop(at, "interrupt-map-mask").map(|m| cells(m).collect()).unwrap_or_default();
        let mut wanted: Vec<u32> = (0..address).map(|n| unit.get(n).copied().unwrap_or(0)).collect();
        wanted.extend(&args);
        let mut hit = None;
        let mut from = 0;
        while from < map.len() {
            let key = map.get(from..from + wanted.len())?;
            let parent = tree.phandle(*map.get(from + wanted.len())?)?;
            let start = from + wanted.len() + 1;
            let wide = tree.cell(parent, "#address-cells").unwrap_or(0) as usize;
            let deep = tree.cell(parent, "#interrupt-cells")? as usize;
            let above = map.get(start..start + wide + deep)?;
            let masked = |n: usize| mask.get(n).copied().unwrap_or(u32::MAX);
            if tree.nodes[parent].enabled && (0..wanted.len()).all(|n| (key[n] ^ wanted[n]) & masked(n) == 0) {
                hit = Some((parent, above[..wide].to_vec(), above[wide..].to_vec()));
                break;
            }
            from = start + wide + deep;
        }
        match hit {
            None if controller => return Some((at, args)),
            None => return None,
            Some((parent, _, passed)) if parent == at && controller => return Some((at, passed)),
            Some((parent, place, passed)) => (at, unit, args) = (parent, place, passed),
        }
    }
    None
}

/// The next node towards memory: the interconnect called `dma-mem`, or the parent.
fn towards_memory(tree: &Source, id: Id) -> Option<Id> {
    let named = tree.words(id, "interconnect-names").iter().position(|n| n == "dma-mem");
    let by_name = named.and_then(|nth| {
        let found = references(tree, tree.prop(id, "interconnects")?, &Some("#interconnect-cells"));
        found.get(nth).copied()
    });
    by_name.or(tree.nodes[id].parent)
}

fn coherent(tree: &Source, id: Id) -> bool {
    let mut at = Some(id);
    for _ in 0..80 {
        let Some(here) = at else { break };
        if tree.prop(here, "dma-coherent").is_some() {
            return true;
        }
        if tree.prop(here, "dma-noncoherent").is_some() {
            return false;
        }
        at = towards_memory(tree, here);
    }
    false
}

fn windows(tree: &Source, id: Id) -> Option<Vec<String>> {
    let mut found = None;
    let mut missing = false;
    for (distance, bus) in tree.upwards(id).skip(1).enumerate() {
        let parent = tree.nodes[bus].parent;
        if tree.words(bus, "interconnect-names").iter().any(|n| n == "dma-mem") {
            return None;
        }
        match (tree.prop(bus, "dma-ranges"), parent) {
            (_, None) => {}
            // A bus without windows below one that has some: its translation is a question of rules, not of reading.
            (Some(value), _) if missing && !value.is_empty() => return None,
            (Some(value), Some(parent)) if !value.is_empty() && found.is_none() => {
                let ((a, s), (pa, _)) = (layout(tree, bus), layout(tree, parent));
                let all: Vec<u32> = cells(value).collect();
                if a == 0 || s == 0 || pa == 0 || !all.len().is_multiple_of(a + pa + s) {
                    return None;
                }
                let mut list = Vec::new();
                for entry in all.chunks_exact(a + pa + s) {
                    let (_, from) = split(tree, bus, &entry[..a]);
                    let (flags, to) = split(tree, parent, &entry[a..a + pa]);
                    let len = number(&entry[a + pa..]);
                    list.push((from, flags, to, len));
                }
                found = Some((parent, list));
            }
            (None, Some(_)) if distance > 0 => missing = true,
            _ => {}
        }
    }
    if tree.words(id, "interconnect-names").iter().any(|n| n == "dma-mem") {
        return None;
    }
    let Some((parent, list)) = found else { return Some(Vec::new()) };
    // Only paths on which every further bus translates nothing, or is the root.
    if tree.upwards(parent).any(|b| tree.prop(b, "dma-ranges").is_some_and(|r| !r.is_empty())) {
        return None;
    }
    Some(list.into_iter().map(|(from, _, to, len)| format!("{from:#x}>{to:#x}+{len:#x}")).collect())
}

/// Cells behind each reference: none, by a property of the target, or the rest of the value.
type Count = Option<&'static str>;

/// The properties that name suppliers.
fn count(property: &str) -> Option<Count> {
    let listed: &[(&str, Count)] = &[
        ("access-controllers", Some("#access-controller-cells")),
        ("backlight", None),
        ("clocks", Some("#clock-cells")),
        ("dmas", Some("#dma-cells")),
        ("extcon", None),
        ("hwlocks", Some("#hwlock-cells")),
        ("interconnects", Some("#interconnect-cells")),
        ("io-backends", Some("#io-backend-cells")),
        ("io-channels", Some("#io-channel-cells")),
        ("iommus", Some("#iommu-cells")),
        ("leds", None),
        ("mboxes", Some("#mbox-cells")),
        ("msi-parent", Some("#msi-cells")),
        ("nvmem-cells", Some("#nvmem-cell-cells")),
        ("panel", None),
        ("phys", Some("#phy-cells")),
        ("power-domains", Some("#power-domain-cells")),
        ("power-supplies", None),
        ("pses", Some("#pse-cells")),
        ("pwms", Some("#pwm-cells")),
        ("resets", Some("#reset-cells")),
        ("wakeup-parent", None),
        ("gpio", Some("#gpio-cells")),
        ("gpios", Some("#gpio-cells")),
    ];
    if let Some((_, count)) = listed.iter().find(|(name, _)| *name == property) {
        return Some(*count);
    }
    let ends = |suffix: &str| property.len() > suffix.len() && property.ends_with(suffix);
    match property.strip_prefix("pinctrl-") {
        Some(number) if number.len() == 1 && "012345678".contains(number) => Some(None),
        _ if ends("-supply") => Some(None),
        _ if property.ends_with(",nr-gpios") => None,
        _ if ends("-gpio") || ends("-gpios") => Some(Some("#gpio-cells")),
        _ => None,
    }
}

/// Targets of the references in a value, up to the first that leads nowhere.
fn references(tree: &Source, value: &[u8], count: &Count) -> Vec<Id> {
    let value: Vec<u32> = cells(value).collect();
    let (mut at, mut found) = (0, Vec::new());
    while at < value.len() {
        let phandle = value[at];
        at += 1;
        if phandle == 0 {
            continue;
        }
        let Some(target) = tree.phandle(phandle) else {
            // References without cells behind them can be told apart even then.
            if count.is_some() {
                break;
            }
            continue;
        };
        let more = match count {
            None => 0,
            Some(name @ ("#gpio-cells" | "#iommu-cells")) => match tree.cell(target, name) {
                Some(more) => more as usize,
                None => break,
            },
            Some(name) => tree.cell(target, name).unwrap_or(0) as usize,
        };
        if at + more > value.len() || more > 16 {
            break;
        }
        at += more;
        found.push(target);
    }
    found
}

fn suppliers(
    tree: &Source,
    id: Id,
    owners: &[Option<Id>],
    interrupts: &[(Id, Vec<u32>)],
    through_maps: &mut BTreeSet<String>,
) -> BTreeSet<(String, String)> {
    let mut all: Vec<(String, Id)> = Vec::new();
    let hog = tree.prop(id, "gpio-hog").is_some();
    for (property, value) in &tree.nodes[id].props {
        match property.as_str() {
            "interrupts-extended" => all.extend(interrupts.iter().map(|(c, _)| (property.clone(), *c))),
            "interrupts" if tree.prop(id, "interrupts-extended").is_none() => {
                all.extend(interrupts.iter().map(|(c, _)| (property.clone(), *c)));
            }
            "gpio" | "gpios" if hog => {}
            name => {
                let Some(count) = count(name) else { continue };
                let targets = references(tree, value, &count);
                // Maps of nexus nodes are the core's own tests' matter.
                let stem = count.and_then(|c| c.strip_prefix('#')).and_then(|c| c.strip_suffix("-cells"));
                let mapped = |t: &Id| stem.is_some_and(|s| tree.prop(*t, &format!("{s}-map")).is_some());
                if targets.iter().any(mapped) {
                    through_maps.insert(property.clone());
                }
                all.extend(targets.into_iter().map(|t| (property.clone(), t)));
            }
        }
    }
    // Endpoints belong to the nearest node above them with a compatible.
    let owner_of_port = |at: Id| tree.upwards(at).skip(1).find(|n| tree.prop(*n, "compatible").is_some());
    for (at, node) in tree.nodes.iter().enumerate().skip(id).filter(|(_, n)| n.enabled) {
        if !node.path.starts_with(&tree.nodes[id].path) {
            break;
        }
        if let Some(remote) = tree.cell(at, "remote-endpoint")
            && owner_of_port(at) == Some(id)
            && let Some(far) = tree.phandle(remote).and_then(owner_of_port)
        {
            all.push(("remote-endpoint".into(), far));
        }
    }
    let later: Vec<Id> = tree.prop(id, "post-init-providers").map(|v| references(tree, v, &None)).unwrap_or_default();
    let within = |above: Id, at: Id| tree.upwards(at).any(|n| n == above);
    all.retain(|(_, target)| {
        let owner = owners[*target].unwrap_or(*target);
        tree.nodes[*target].enabled && !within(id, owner) && !within(owner, id) && !later.contains(target)
    });
    all.into_iter().map(|(property, target)| (property, tree.nodes[target].path.clone())).collect()
}
