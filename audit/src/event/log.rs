//! The kernel log's lines as messages.

use super::devres::Devres;
use super::dma_api::{dma_api, leaked};
use super::fault::{after, fault, full_bdf, suppressed, word};
use super::field::{hex, number};
use super::message::{DomainType, Message, Stack, Turn};
use crate::find::{cut, has};

/// The message that `text` is.
pub fn message(text: &str) -> Message<'_> {
    message_about(text, None)
}

/// The message that `text` is, which keys of its record say to be about `device`.
pub fn message_about<'a>(text: &'a str, device: Option<&'a str>) -> Message<'a> {
    let trimmed = text.trim();
    let prefix = device.and_then(|device| named_prefix(trimmed, device)).or_else(|| device_prefix(trimmed));
    let device = prefix.map(|(_, device, _)| device);
    report(trimmed)
        .or_else(|| iommu(trimmed, device))
        .or_else(|| binding(trimmed, prefix))
        .or_else(|| other(trimmed, prefix))
        .unwrap_or(Message::Other)
}

/// Crashes, warnings and hung tasks.
fn report(text: &str) -> Option<Message<'_>> {
    if text.starts_with("---[ end trace") || text.starts_with("---[ end Kernel panic") {
        return Some(Message::CrashEnd);
    }
    // The kernel's first line, and the journal's between two boots.
    if text.starts_with("Linux version ")
        || text.starts_with("Booting Linux on physical CPU ")
        || (text.starts_with("-- Boot ") || text.starts_with("-- Reboot")) && text.ends_with("--")
    {
        return Some(Message::Boot);
    }
    if text.starts_with("INFO: task ")
        && let Some(owner) = after(text, " owned by task ").or_else(|| after(text, " held by task "))
    {
        let (task, pid) = owner.trim_end_matches('.').rsplit_once(':')?;
        return Some(Message::HungOwner { task, pid: pid.parse().ok()? });
    }
    if let Some(rest) = text.strip_prefix("INFO: task ") {
        let (task, after) = rest.split_once(" blocked for more than").or_else(|| rest.split_once(" blocked"))?;
        let _ = after;
        let (task, pid) = task.rsplit_once(':')?;
        return Some(Message::Hung { task, pid: pid.parse().ok()? });
    }
    // A watchdog's: a CPU that a task does not leave.
    if let Some(task) = after(text, "BUG: soft lockup - CPU#").and_then(|rest| rest.split_once('[')) {
        let (task, pid) = task.1.trim_end_matches(']').rsplit_once(':')?;
        return Some(Message::Hung { task, pid: pid.parse().ok()? });
    }
    if text.starts_with("CPU: ") && has(text, " Comm: ") || text.starts_with("Process ") && has(text, "(pid: ") {
        let pid = after(text, "PID: ").or_else(|| after(text, "pid: ")).map(word)?.parse().ok()?;
        let task = after(text, "Comm: ").or_else(|| text.strip_prefix("Process ")).map_or("", word);
        return Some(Message::CrashTask { pid, task });
    }
    if text.starts_with("WARNING: ") && has(text, " at ") {
        return Some(Message::Crash { warning: true });
    }
    if has(text, "Bad page state in process") {
        return Some(Message::BadPage);
    }
    // MIPS names the CPU first, and counts its oopses in brackets.
    let said = text.strip_prefix("CPU ").map_or(text, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let crash = said.trim_start().starts_with("Unable to handle kernel ")
        || text.starts_with("Unhandled kernel unaligned access")
        || text.starts_with("Oops[#")
        || text.starts_with("BUG: ")
        || text.starts_with("Internal error: ")
        || text.starts_with("Oops: ")
        || text.starts_with("kernel BUG at ")
        || text.starts_with("general protection fault")
        || text.starts_with("Kernel panic")
        || text.starts_with("list_del corruption")
        || text.starts_with("list_add corruption")
        || text.starts_with("Unhandled fault: ")
        || text.starts_with("Unhandled prefetch abort: ")
        || text.starts_with("SError Interrupt on CPU")
        || text.starts_with("Bad mode in ");
    crash.then_some(Message::Crash { warning: goes_on(text) })
}

/// True for a `BUG: ` of the kernel's own checks, after which it goes on.
fn goes_on(text: &str) -> bool {
    let Some(bug) = text.strip_prefix("BUG: ") else { return false };
    [
        "sleeping function called from invalid context",
        "scheduling while atomic",
        "using smp_processor_id() in preemptible",
        "using __this_cpu_",
        "workqueue lockup",
        "workqueue leaked",
        "Invalid wait context",
        "MAX_LOCK",
        "MAX_STACK_TRACE_ENTRIES",
        "spinlock lockup",
    ]
    .iter()
    .any(|known| bug.starts_with(known))
}

fn iommu<'a>(text: &'a str, device: Option<&'a str>) -> Option<Message<'a>> {
    if let Some(suppressed) = suppressed(text) {
        return Some(Message::Suppressed(suppressed));
    }
    if let Some(iommu) = device {
        let (_, rest) = cut(text, ": ")?;
        if let Some(number) = rest.trim().strip_prefix("event 0x").and_then(|rest| rest.split(' ').next())
            && has(rest, "received")
        {
            return Some(Message::RecordHead { iommu, event: hex(number)? });
        }
        if text.starts_with("arm-smmu ")
            && let Some(stream) = after(rest, "SID=").map(word).and_then(hex)
            && after(rest, "iova=").is_none()
        {
            return Some(Message::StreamOf { iommu, stream });
        }
        if text.starts_with("arm-smmu ") && rest.trim().starts_with("FSYNR0 ") {
            return Some(Message::Access { iommu, write: has(rest, " WNR ") });
        }
        if text.starts_with("arm-smmu-v3") && has(rest, " stag: ") {
            return Some(Message::Access { iommu, write: has(rest, " write ") });
        }
        let value = rest.trim();
        if value.starts_with("0x") && !value.contains(' ') && text.starts_with("arm-smmu-v3") {
            return Some(Message::RecordWord { iommu, value: hex(value).filter(|_| value.len() == 18) });
        }
    }
    if is_unconfirmed(text) && (device.is_some() || text.starts_with("DMAR") || has(text, "AMD-Vi:")) {
        let named = after(text, "device=").map(|rest| full_bdf(word(rest))).or_else(|| requester(text));
        return Some(Message::Unconfirmed { device: named.filter(|name| !name.is_empty()) });
    }
    if let Some(fault) = fault(text, device) {
        return Some(Message::Fault(fault));
    }
    if let Some(kind) = after(text, "Default domain type: ") {
        return Some(Message::Policy { translated: word(kind) == "Translated" });
    }
    if let Some((device, domain)) = domain_type(text, device) {
        return Some(Message::DomainType { device, domain });
    }
    if text.ends_with("iommu: Detected page leak!") {
        return Some(Message::PageLeak);
    }
    if has(text, "TLB invalidation policy: ") {
        return Some(Message::Strict(has(text, "strict mode")));
    }
    None
}

/// The type of one device's domain. `device` is what the line's prefix names.
fn domain_type<'a>(text: &'a str, device: Option<&'a str>) -> Option<(&'a str, DomainType)> {
    if let Some(rest) = after(text, "Failed to set up IOMMU for device ") {
        let (device, rest) = rest.split_once(';')?;
        return has(rest, "retaining platform DMA ops").then_some((device.trim(), DomainType::Failed));
    }
    // Before 5.3 VT-d named the device behind its words.
    for words in ["Hardware identity mapping for device ", "Software identity mapping for device "] {
        if let Some(device) = after(text, words).map(word).filter(|device| is_device(device)) {
            return Some((device, DomainType::Identity));
        }
    }
    let says = |list: &[&str]| list.iter().any(|words| has(text, words));
    if says(&["Using iommu direct mapping", "Device uses a private identity domain", "64bit DMA uses identity mapping"])
    {
        return device.map(|device| (device, DomainType::Identity));
    }
    if says(&["Using iommu dma mapping", "Device uses a private dma domain", "32bit DMA uses non-identity mapping"]) {
        return device.map(|device| (device, DomainType::Translated));
    }
    None
}

/// True for the words of an IOMMU that does not answer. Whoever writes about them does not begin like its driver.
fn is_unconfirmed(text: &str) -> bool {
    has(text, "Invalidation Time-out") && !has(text, "cleared")
        || has(text, "IOTLB_INV_TIMEOUT")
        || has(text, "Completion-Wait loop timed out")
        || has(text, "CMD_SYNC timeout")
        || has(text, "CMDQ timeout")
        || has(text, "TLB sync timed out")
        || has(text, "QI flush timeout")
}

/// The device of VT-d's `Invalidation Time-out Error: SID 300`, its requester ID; 0 is none.
fn requester(text: &str) -> Option<String> {
    let id = after(text, " Error: SID ").map(word).and_then(hex).filter(|id| (1..=0xffff).contains(id))?;
    Some(format!("0000:{:02x}:{:02x}.{}", id >> 8, id >> 3 & 0x1f, id & 7))
}

fn binding<'a>(text: &'a str, prefix: Option<(&'a str, &'a str, &'a str)>) -> Option<Message<'a>> {
    let error = |rest: &str| word(rest).trim_start_matches('-').parse::<u64>().ok();
    // `DRV: probe of DEV failed with error -N`.
    if let Some((driver, rest)) = cut(text, ": probe of ")
        && let Some((device, rest)) = cut(rest, " failed with error ")
        && !driver.contains(' ')
    {
        return Some(Message::ProbeFailed { driver, device, error: error(rest)? });
    }
    if let Some((head, rest)) = cut(text, ": probe with driver ")
        && let Some((driver, rest)) = cut(rest, " failed with error ")
    {
        return Some(Message::ProbeFailed { driver, device: head.rsplit(' ').next()?, error: error(rest)? });
    }
    if let Some((head, rest)) = cut(text, ": deferred probe pending") {
        return Some(Message::Deferred {
            device: head.rsplit(' ').next()?,
            reason: rest.trim_start_matches([':', ' ']),
        });
    }
    if let Some(head) = text.strip_suffix(": Resources present before probing") {
        return Some(Message::LeftOver { device: head.rsplit(' ').next()? });
    }
    if let Some((device, group)) =
        text.strip_prefix("iommu: Adding device ").and_then(|rest| rest.split_once(" to group "))
    {
        return Some(Message::Group { device, group: number(word(group)), joins: true });
    }
    if let Some((device, group)) =
        text.strip_prefix("iommu: Removing device ").and_then(|rest| rest.split_once(" from group "))
    {
        return Some(Message::Group { device, group: number(word(group)), joins: false });
    }
    let (_, device, words) = prefix?;
    if let Some(group) = words.strip_prefix("Adding to iommu group ") {
        return Some(Message::Group { device, group: number(word(group)), joins: true });
    }
    if let Some(group) = words.strip_prefix("Removing from iommu group ") {
        return Some(Message::Group { device, group: number(word(group)), joins: false });
    }
    if let Some(rest) = words.strip_prefix("Relaying device request to user") {
        let count = rest.trim().trim_start_matches("(#").trim_end_matches(')').parse().ok();
        return Some(Message::VfioRequest { device, count });
    }
    if words.starts_with("No device request channel registered") || words.starts_with("Device is currently in use") {
        return Some(Message::VfioBlocked { device });
    }
    None
}

/// A device that the driver core's dynamic debugging tells of: `bus: 'pci': remove device DEV`.
fn core_debug(text: &str) -> Option<Message<'_>> {
    let (bus, rest) = text.strip_prefix("bus: '")?.split_once("': ")?;
    if let Some(device) = rest.strip_prefix("remove device ").map(str::trim).filter(|device| is_device(device)) {
        return Some(Message::About { driver: bus, device, words: rest, turn: Turn::Leaves });
    }
    let (device, driver) = rest.strip_prefix("really_probe: bound device ")?.split_once(" to driver ")?;
    is_device(device).then(|| Message::About { driver: driver.trim(), device, words: rest, turn: Turn::Arrives })
}

fn other<'a>(text: &'a str, prefix: Option<(&'a str, &'a str, &'a str)>) -> Option<Message<'a>> {
    if has(text, "DMA-API: ") || has(text, "DMA allocations while released") {
        if text.ends_with("DMA-API: Mapped at:") {
            return Some(Message::StackOf(Stack::Mapping));
        }
        return dma_api(text, prefix.map(|(driver, device, _)| (driver, device))).map(Message::DmaApi);
    }
    if let Some(message) = core_debug(text) {
        return Some(message);
    }
    if let Some((addr, size)) = leaked(text) {
        return Some(Message::Leaked { addr, size });
    }
    // KASAN's.
    if text.starts_with("Freed by task ") || text == "Freed:" {
        return Some(Message::StackOf(Stack::Free));
    }
    if text.starts_with("Allocated by task ") || text == "Allocated:" || has(text, "potentially related work creation:")
    {
        return Some(Message::StackOf(Stack::Other));
    }
    if text == "Mapped at:" {
        return Some(Message::StackOf(Stack::Mapping));
    }
    if let Some(rest) = after(text, "nonexistent resource <") {
        let start = rest.split('-').next().and_then(hex)?;
        return Some(Message::NoRegion { start });
    }
    if let Some((head, device)) = cut(text, ": pci function ")
        && is_device(device)
    {
        // NVMe's line names its own number in front.
        let driver = head.split(' ').next().unwrap_or(head);
        return Some(Message::About { driver, device, words: "pci function", turn: Turn::Arrives });
    }
    let (driver, device, words) = prefix?;
    if let Some(rest) = words.strip_prefix("DEVRES ") {
        let mut parts = rest.split_whitespace();
        let (op, node, name) = (parts.next()?, parts.next()?, parts.next()?);
        let size = after(rest, "(").map(word).and_then(number)?;
        return Some(Message::Devres(Devres { device, op, node: hex(node), name, size }));
    }
    if let Some(rest) = after(words, "swiotlb buffer is full") {
        let size = after(rest, "sz: ").map(word).and_then(number)?;
        let total = after(rest, "total ").map(word).and_then(number);
        let used = after(rest, "used ").map(word).and_then(number);
        return Some(Message::SwiotlbFull { device, size, total, used });
    }
    Some(Message::About { driver, device, words, turn: turn(words) })
}

/// Turn of a device's life in its driver's words. Only words that can hardly mean anything else count.
fn turn(words: &str) -> Turn {
    let lower = words.trim().to_ascii_lowercase();
    let any = |list: &[&str]| list.iter().any(|text| has(&lower, text));
    // `port 3 device removed` is about another device.
    let whole = ["device removed", "removed", "unregistered device"].contains(&lower.as_str());
    let bus = lower.starts_with("usb bus ") && lower.ends_with(" deregistered");
    if whole
        || bus
        || any(&[
            "removed phc",
            "driver unloaded",
            "driver removed",
            "driver unbound",
            "unbinding",
            "removing driver",
            "finishing device",
            "remove complete",
            "remove, state ",
        ])
    {
        Turn::Leaves
    } else if any(&[
        "registered phc",
        "added phc",
        "enabling device (",
        "driver loaded",
        "driver bound",
        "pci function",
        "(pci express:",
        "bound to driver",
        "new usb bus registered",
    ]) {
        Turn::Arrives
    } else {
        Turn::None
    }
}

/// Driver, device and words of `DRV DEV[ NAME]: WORDS` and `DEV: WORDS`, for a device whose name is an address.
fn device_prefix(text: &str) -> Option<(&str, &str, &str)> {
    let (head, words) = cut(text, ": ").or_else(|| text.strip_suffix(':').map(|head| (head, "")))?;
    if head.len() > 100 {
        return None;
    }
    let mut names = head.split_whitespace();
    let first = names.next()?;
    let words = words.trim_start();
    if is_device(first) {
        return Some(("", first, words));
    }
    let second = names.next()?;
    if is_device(second) && names.clone().count() <= 2 {
        return Some((first, second, words));
    }
    // `nvme nvme0: pci function 0000:01:00.0` names its device in its words.
    None
}

/// Driver, device and words of `DRV DEV: WORDS`, where `device` is known: its name may hold blanks, and look like no address.
fn named_prefix<'a>(text: &'a str, device: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
    let at = text.find(device)?;
    let (driver, rest) = (text[..at].trim(), &text[at + device.len()..]);
    // A network driver puts the interface's name behind it.
    let (_, words) = cut(rest, ": ").filter(|(name, _)| name.is_empty() || name.starts_with(' '))?;
    (!driver.contains(' ')).then(|| (driver, device, words.trim_start()))
}

/// True for a name that is a device's address: `0000:00:1f.6`, `ee300000.sata`, `soc:sound`.
pub(crate) fn is_device(name: &str) -> bool {
    is_bdf(name) || is_unit(name) || is_auto(name)
}

/// A platform device that firmware tables without addresses describe: `arm-smmu-v3.1.auto`.
fn is_auto(name: &str) -> bool {
    let number = name.strip_suffix(".auto").and_then(|head| head.rsplit_once('.'));
    number.is_some_and(|(head, number)| {
        !head.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// True for the name of a PCI function.
pub(crate) fn is_bdf(name: &str) -> bool {
    let Some((head, function)) = name.rsplit_once('.') else { return false };
    let mut parts = head.split(':');
    let hexes = |part: Option<&str>, least: usize, most: usize| {
        part.is_some_and(|p| (least..=most).contains(&p.len()) && p.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    function.len() == 1
        && function.bytes().all(|byte| byte.is_ascii_hexdigit())
        && hexes(parts.next(), 4, 8)
        && hexes(parts.next(), 2, 2)
        && hexes(parts.next(), 2, 2)
        && parts.next().is_none()
}

fn is_unit(name: &str) -> bool {
    let Some((address, node)) = name.split_once('.') else { return false };
    let address = address.rsplit(':').next().unwrap_or(address);
    (3..=16).contains(&address.len())
        && address.bytes().all(|byte| byte.is_ascii_hexdigit())
        && node.starts_with(|c: char| c.is_ascii_alphabetic())
        && !node.contains("..")
        && node.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_failures_and_deferrals_are_read_in_both_spellings() {
        let failed = Message::ProbeFailed { driver: "sata_rcar", device: "ee300000.sata", error: 22 };
        assert_eq!(message("sata_rcar: probe of ee300000.sata failed with error -22"), failed);
        assert_eq!(message("sata_rcar ee300000.sata: probe with driver sata_rcar failed with error -22"), failed);
        let deferred = |reason| Message::Deferred { device: "ee300000.sata", reason };
        assert_eq!(message("platform ee300000.sata: deferred probe pending"), deferred(""));
        assert_eq!(
            message("platform ee300000.sata: deferred probe pending: (reason unknown)"),
            deferred("(reason unknown)")
        );
    }

    #[test]
    fn a_device_that_the_records_keys_name_may_have_any_name() {
        let about = |text, device| match message_about(text, Some(device)) {
            Message::About { driver, device, turn, .. } => Some((driver, device, turn)),
            _ => None,
        };
        let text = "mdio_bus Fixed MDIO bus.0: driver unloaded";
        assert_eq!(about(text, "Fixed MDIO bus.0"), Some(("mdio_bus", "Fixed MDIO bus.0", Turn::Leaves)));
        assert_eq!(message(text), Message::Other);
        let text = "e1000e 0000:00:1f.6 eth0: removed PHC";
        assert_eq!(about(text, "0000:00:1f.6"), Some(("e1000e", "0000:00:1f.6", Turn::Leaves)));
        assert_eq!(about("NIC Link is Down", "0000:00:1f.6"), None);
    }

    #[test]
    fn groups_policies_and_requests_are_read() {
        let joins = |device, group| Message::Group { device, group: Some(group), joins: true };
        assert_eq!(message("iommu: Adding device ee300000.sata to group 0"), joins("ee300000.sata", 0));
        assert_eq!(message("pci 0000:00:03.0: Adding to iommu group 7"), joins("0000:00:03.0", 7));
        assert_eq!(message("iommu: Default domain type: Translated"), Message::Policy { translated: true });
        let domain = |device, domain| Message::DomainType { device, domain };
        assert_eq!(
            message("Failed to set up IOMMU for device ff0e0000.ethernet; retaining platform DMA ops"),
            domain("ff0e0000.ethernet", DomainType::Failed)
        );
        assert_eq!(
            message("pci 0000:00:02.0: Using iommu direct mapping"),
            domain("0000:00:02.0", DomainType::Identity)
        );
        assert_eq!(
            message("pci 0000:07:00.1: DMAR: Device uses a private dma domain."),
            domain("0000:07:00.1", DomainType::Translated)
        );
        assert_eq!(
            message("DMAR: Hardware identity mapping for device 0000:00:1b.0"),
            domain("0000:00:1b.0", DomainType::Identity)
        );
        let request = "vfio-pci 0000:5e:00.0: Relaying device request to user (#590)";
        assert_eq!(message(request), Message::VfioRequest { device: "0000:5e:00.0", count: Some(590) });
        let hung = "INFO: task bash:7786 blocked for more than 120 seconds.";
        assert_eq!(message(hung), Message::Hung { task: "bash", pid: 7786 });
    }
}
