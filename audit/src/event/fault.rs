//! Faults that IOMMUs report, in the words of their drivers.

use super::field::{hex, number};
use crate::find::{cut, find, has};

/// Device of a fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FaultDevice {
    /// A device by name.
    Named(String),
    /// A stream of an IOMMU; which device that is needs evidence.
    Stream {
        /// The IOMMU.
        iommu: String,
        /// The stream's number.
        stream: Option<u64>,
    },
}

/// Name of AMD's IOMMU where the log does not say which one it is.
pub(crate) const AMD: &str = "AMD-Vi";

/// A fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Device that made the access.
    pub device: FaultDevice,
    /// Address, where it is known.
    pub addr: Option<u64>,
    /// True for a write, where the record says so.
    pub write: Option<bool>,
    /// The record's own words for the cause.
    pub cause: String,
    /// The IOMMU's kind.
    pub by: &'static str,
}

/// Messages that the kernel did not print, of one function.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suppressed {
    /// The function whose messages they were.
    pub function: String,
    /// Number of messages.
    pub count: u64,
}

/// The fault that `text` reports; `device` is the device of the message's prefix.
pub(super) fn fault(text: &str, prefix: Option<&str>) -> Option<Fault> {
    vtd(text)
        .or_else(|| amd(text, prefix))
        .or_else(|| smmu_v3_named(text, prefix))
        .or_else(|| smmu_v2(text, prefix))
        .or_else(|| {
            let (speaker, words) = speaker(text)?;
            sysmmu(text, words).or_else(|| numbered(speaker, words)).or_else(|| tegra(text, speaker, words))
        })
        .or_else(|| other(text, prefix))
}

/// The name before the message: `30f0000.iommu` of `sun50i-iommu 30f0000.iommu: ...`, whatever it looks like.
fn speaker(text: &str) -> Option<(&str, &str)> {
    let (head, words) = cut(text, ": ")?;
    let mut names = head.split_whitespace();
    let (first, second) = (names.next()?, names.next()?);
    (names.next().is_none() && first.len() < 40).then_some((second, words))
}

/// `exynos-sysmmu IOMMU: DEVICE: [READ] PAGE FAULT occurred at 0x...`; older kernels do not print the direction.
fn sysmmu(text: &str, words: &str) -> Option<Fault> {
    let (cause, addr) = cut(words, " occurred at ").filter(|_| has(text, "sysmmu"))?;
    let (device, cause) = cut(cause, ": ")?;
    let write = cause.contains("[WRITE]").then_some(true).or_else(|| cause.contains("[READ]").then_some(false));
    let addr = Some(hex(word(addr))?);
    Some(Fault { device: FaultDevice::Named(device.to_owned()), addr, write, cause: cause.to_owned(), by: "SysMMU" })
}

/// The faults of IOMMUs that number their devices: Apple's DART, virtio's, RISC-V's and Allwinner's.
fn numbered(iommu: &str, words: &str) -> Option<Fault> {
    let decimal = |rest: &str| word(rest).parse::<u64>().ok();
    let place = |rest: &str| hex(word(rest));
    let (stream, addr, write, by);
    if let Some(rest) = words.strip_prefix("translation fault: status:") {
        (by, write) = ("DART", None);
        stream = after(rest, "stream:").and_then(decimal);
        addr = after(rest, ") at ").and_then(place);
    } else if let Some((_, rest)) = cut(words, "fault from EP ") {
        by = "virtio-iommu";
        stream = decimal(rest);
        addr = after(rest, " at ").and_then(place);
        let access = after(rest, "[").and_then(|rest| rest.split(']').next()).unwrap_or("");
        write = access.contains('W').then_some(true).or_else(|| access.contains('R').then_some(false));
    } else if let Some(rest) = words.strip_prefix("Fault ").filter(|rest| rest.contains(" iotval: ")) {
        by = "RISC-V IOMMU";
        stream = after(rest, "devid: ").map(word).and_then(number);
        addr = after(rest, "iotval: ").and_then(place);
        // Causes of the specification: faults of reads are 5, 13 and 21, those of writes 7, 15 and 23.
        write = match decimal(rest) {
            Some(5 | 13 | 21) => Some(false),
            Some(7 | 15 | 23) => Some(true),
            _ => None,
        };
    } else if let Some(rest) = words.strip_prefix("Page fault for ") {
        by = "an IOMMU";
        stream = after(rest, "(master ").and_then(decimal);
        addr = place(rest);
        write = after(rest, "dir ").map(|dir| dir.starts_with("wr"));
    } else {
        return None;
    }
    let cause = words.split(" at ").next().unwrap_or(words).to_owned();
    Some(Fault { device: FaultDevice::Stream { iommu: iommu.to_owned(), stream }, addr, write, cause, by })
}

/// `tegra-mc MC: CLIENT: read @0x...: Page fault (SMMU translation error [--S])`. What else the memory controller refuses is no
/// matter of translation.
fn tegra(text: &str, mc: &str, words: &str) -> Option<Fault> {
    if !(text.starts_with("tegra-mc ") && has(words, "SMMU translation error")) {
        return None;
    }
    let (client, words) = cut(words, ": ")?;
    let (access, rest) = words.split_once('@')?;
    let addr = Some(hex(rest.split(':').next()?)?);
    let cause = format!("client {client}, {}", rest.split_once(": ").map_or("", |(_, words)| words));
    let device = FaultDevice::Stream { iommu: mc.to_owned(), stream: None };
    Some(Fault { device, addr, write: Some(access.contains("write")), cause, by: "Tegra SMMU" })
}

/// `DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0x... [fault reason 0x05] TEXT`.
fn vtd(text: &str) -> Option<Fault> {
    let at = find(text, "DMAR:")?;
    let rest = &text[at..];
    let kind = &rest[rest.find('[')? + 1..];
    let kind = &kind[..kind.find(']')?];
    let write = if kind.contains("Write") {
        true
    } else if kind.contains("Read") {
        false
    } else {
        return None;
    };
    let device = after(rest, "equest device [")?.split(']').next()?;
    let addr = after(rest, "fault addr ").and_then(|rest| hex(word(rest)));
    let cause = after(rest, "[fault reason ")
        .and_then(|rest| rest.split_once(']'))
        .map_or_else(String::new, |(code, words)| format!("{} (reason {code})", words.trim()).trim().to_owned());
    Some(Fault { device: FaultDevice::Named(full_bdf(device)), addr, write: Some(write), cause, by: "VT-d" })
}

/// `AMD-Vi: Event logged [IO_PAGE_FAULT device=... domain=... address=... flags=...]`.
fn amd(text: &str, prefix: Option<&str>) -> Option<Fault> {
    let rest = after(text, "AMD-Vi:").or_else(|| after(text, "IO_PAGE_FAULT").map(|_| text)).or_else(|| {
        // The reverse map's, which says no more than the device.
        after(text, "Event logged [RMP_").filter(|_| prefix.is_some())
    })?;
    if let Some(addr) = after(rest, "gpa=").map(|rest| rest.split([',', ' ', ']']).next().unwrap_or("")).and_then(hex) {
        let device = FaultDevice::Named(prefix?.to_owned());
        return Some(Fault { device, addr: Some(addr), write: None, cause: "RMP_PAGE_FAULT".into(), by: AMD });
    }
    let other =
        ["INVALID_DEVICE_REQUEST", "ILLEGAL_DEV_TABLE_ENTRY", "PAGE_TAB_HARDWARE_ERROR", "DEV_TAB_HARDWARE_ERROR"];
    if let Some(event) = other.into_iter().find(|event| rest.contains(event)) {
        let device = after(rest, "device=").map(|rest| full_bdf(word(rest)))?;
        let addr = after(rest, "address=").map(word).and_then(hex);
        return Some(Fault { device: FaultDevice::Named(device), addr, write: None, cause: event.to_owned(), by: AMD });
    }
    let rest = after(rest, "IO_PAGE_FAULT")?;
    let key = |name: &str| after(rest, name).map(|rest| rest.split([' ', ']']).next().unwrap_or(""));
    let name = key("device=").map(full_bdf).or_else(|| prefix.map(str::to_owned));
    let device = name.map_or_else(|| FaultDevice::Stream { iommu: AMD.to_owned(), stream: None }, FaultDevice::Named);
    let flags = key("flags=").and_then(hex).unwrap_or(0);
    // Bit 5 is the direction, but only for a page that is present (bit 4).
    let write = (flags & 1 << 4 != 0).then_some(flags & 1 << 5 != 0);
    let addr = key("address=").and_then(hex);
    Some(Fault { device, addr, write, cause: format!("flags {flags:#06x}"), by: AMD })
}

/// `event: F_TRANSLATION client: DEV sid: 0x300 ssid: 0x0 iova: 0x... ipa: 0x...`; others have no `iova`.
fn smmu_v3_named(text: &str, prefix: Option<&str>) -> Option<Fault> {
    let rest = after(text, "event: ")?;
    let addr = after(rest, "iova: ").and_then(|rest| hex(word(rest)));
    if addr.is_none() && !(rest.contains(" client: ") && rest.contains(" sid: ")) {
        return None;
    }
    let client = after(rest, "client: ").map(word).filter(|client| !client.is_empty() && !client.starts_with('('));
    let stream = after(rest, "sid: ").and_then(|rest| hex(word(rest)));
    let device = match client {
        Some(client) => FaultDevice::Named(client.to_owned()),
        None => FaultDevice::Stream { iommu: prefix.unwrap_or("").to_owned(), stream },
    };
    Some(Fault { device, addr, write: None, cause: word(rest).to_owned(), by: "SMMUv3" })
}

/// `Unhandled context fault: fsr=..., iova=..., fsynr=..., cbfrsynra=..., cb=N`.
fn smmu_v2(text: &str, prefix: Option<&str>) -> Option<Fault> {
    if let Some(stream) =
        after(text, "Blocked unknown Stream ID ").and_then(|rest| hex(word(rest).trim_end_matches(';')))
    {
        let device = FaultDevice::Stream { iommu: prefix?.to_owned(), stream: Some(stream) };
        return Some(Fault { device, addr: None, write: None, cause: "unknown stream".into(), by: "SMMUv2" });
    }
    let rest = after(text, "context fault")?;
    let addr = after(rest, "iova=").and_then(|rest| hex(word(rest)))?;
    let stream = after(rest, "cbfrsynra=").and_then(|rest| hex(word(rest))).map(|frsynra| frsynra & 0xffff);
    // Bit 4 of FSYNR0 is the direction.
    let write = after(rest, "fsynr=").and_then(|rest| hex(word(rest))).map(|fsynr| fsynr & 1 << 4 != 0);
    let device = FaultDevice::Stream { iommu: prefix.unwrap_or("").to_owned(), stream };
    Some(Fault { device, addr: Some(addr), write, cause: "context fault".into(), by: "SMMUv2" })
}

/// IPMMU's `Unhandled fault: status 0x... iova 0x...`, and what other IOMMUs say in words of their own.
fn other(text: &str, prefix: Option<&str>) -> Option<Fault> {
    let prefix = prefix?;
    let lower = text.to_ascii_lowercase();
    let known = has(&lower, "unhandled fault") || has(&lower, "page fault") || has(&lower, "iommu fault");
    let fault = (known || has(&lower, "fault type")) && has(&lower, "iova") || has(&lower, "page fault at 0x");
    if !fault {
        return None;
    }
    let place = ["iova=", "iova: ", "iova ", "page fault at "].into_iter().find_map(|key| after(&lower, key))?;
    let addr = hex(word(place))?;
    let write = if has(&lower, "write") {
        Some(true)
    } else if has(&lower, "read") {
        Some(false)
    } else {
        None
    };
    let by = if has(&lower, "unhandled fault: status") { "IPMMU" } else { "an IOMMU" };
    let device = FaultDevice::Stream { iommu: prefix.to_owned(), stream: None };
    Some(Fault { device, addr: Some(addr), write, cause: "unhandled fault".into(), by })
}

/// `FUNC: N callbacks suppressed`.
pub(super) fn suppressed(text: &str) -> Option<Suppressed> {
    let head = text.trim().strip_suffix("callbacks suppressed")?;
    let (function, count) = head.rsplit_once(": ")?;
    let function = function.rsplit(' ').next().unwrap_or(function).to_owned();
    Some(Suppressed { function, count: count.trim().parse().ok()? })
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "as for `find`")]
pub(super) fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    find(text, key).map(|at| &text[at + key.len()..])
}

pub(super) fn word(text: &str) -> &str {
    text.trim_start().split([' ', ',', ']', ')', ';', '[']).next().unwrap_or("")
}

/// A PCI address with its domain: older kernels print `02:00.0`.
pub(super) fn full_bdf(text: &str) -> String {
    // Some 5.13 kernels print `0x00:0x02.0`.
    let plain = text.trim().replace("0x", "");
    let text = plain.as_str();
    if text.len() == 7 && text.as_bytes()[2] == b':' { format!("0000:{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str, prefix: Option<&str>) -> (String, Option<u64>, Option<bool>) {
        let fault = fault(text, prefix).unwrap();
        match fault.device {
            FaultDevice::Named(name) => (name, fault.addr, fault.write),
            FaultDevice::Stream { iommu, stream } => (format!("{iommu}/{stream:x?}"), fault.addr, fault.write),
        }
    }

    #[test]
    fn faults_are_read_in_the_words_of_each_iommu() {
        let dev = |name: &str| name.to_owned();
        let vtd =
            "DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE";
        assert_eq!(named(vtd, None), (dev("0000:00:1f.6"), Some(0xfd3a4000), Some(true)));
        let old = "DMAR: [DMA Read] Request device [02:00.0] PASID ffffffff fault addr fe000000 [fault reason 06] PTE";
        assert_eq!(named(old, None), (dev("0000:02:00.0"), Some(0xfe000000), Some(false)));
        let amd = "AMD-Vi: Event logged [IO_PAGE_FAULT device=09:00.2 domain=0x0000 address=0x20000000 flags=0x0020]";
        assert_eq!(named(amd, None), (dev("0000:09:00.2"), Some(0x20000000), None));
        let amd = "AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000b address=0xfc189000 flags=0x0030]";
        assert_eq!(named(amd, Some("0000:01:00.0")), (dev("0000:01:00.0"), Some(0xfc189000), Some(true)));
        let v3 = "event: F_TRANSLATION client: 0000:03:00.0 sid: 0x300 ssid: 0x0 iova: 0xfdf43000 ipa: 0x0";
        assert_eq!(named(v3, Some("2b400000.iommu")), (dev("0000:03:00.0"), Some(0xfdf43000), None));
        let v2 = "Unhandled context fault: fsr=0x402, iova=0xfdf43000, fsynr=0x10, cbfrsynra=0x804, cb=3";
        assert_eq!(named(v2, Some("5000000.iommu")), (dev("5000000.iommu/Some(804)"), Some(0xfdf43000), Some(true)));
        let ipmmu = "Unhandled fault: status 0x00000101 iova 0xfffff000";
        assert_eq!(named(ipmmu, Some("e67b0000.mmu")), (dev("e67b0000.mmu/None"), Some(0xfffff000), None));
    }

    #[test]
    fn other_messages_are_no_faults() {
        for text in
            ["DMAR: DRHD: handling fault status reg 2", "AMD-Vi: Interrupt remapping enabled", "NIC Link is Down"]
        {
            assert_eq!(fault(text, Some("d")), None, "{text}");
        }
    }
}
