//! Messages of the kernel's own DMA API debugging.

use super::fault::{after, word};
use super::field::{hex, number};
use crate::find::cut;

/// The kind of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DmaApiKind {
    /// Memory is freed that was not allocated, or at an invalid address.
    NotAllocated,
    /// Size, function, CPU address, count of entries, direction or attributes differ.
    Differs(&'static str),
    /// Mappings are left at release.
    Pending,
    /// A mapping's error was not checked.
    Unchecked,
    /// Mappings share a cache line, which harms only where DMA is not coherent with the caches.
    Overlap,
    /// Another misuse of the API: memory that must not be mapped, a wrong sync.
    Misuse,
    /// Debugging is off or has stopped.
    Off,
    /// Another message.
    Note,
}

/// A message of DMA API debugging.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DmaApi {
    /// Kind.
    pub kind: DmaApiKind,
    /// Driver.
    pub driver: Option<String>,
    /// Device.
    pub device: Option<String>,
    /// Device address.
    pub addr: Option<u64>,
    /// Size at mapping, or the only one.
    pub size: Option<u64>,
    /// Size at unmapping.
    pub unmap_size: Option<u64>,
    /// Count of mappings that are left.
    pub count: Option<u64>,
    /// The message's own words.
    pub words: String,
}

/// The entry that a message about mappings that are left shows in a line of its own: address and size.
pub(super) fn leaked(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let rest = text.strip_prefix("One of leaked entries details:")?;
    let key = |name: &str| after(rest, name).map(word);
    Some((key("address=").and_then(hex), key("[size=").and_then(number)))
}

/// The message in `text`, which holds `DMA-API: `; `prefix` is the driver and the device that stand before it.
pub(super) fn dma_api(text: &str, prefix: Option<(&str, &str)>) -> Option<DmaApi> {
    // Kernels that print the function in front.
    let keys = ["DMA-API: ", "dma_debug_device_change: "];
    let (head, rest) = keys.into_iter().find_map(|key| cut(text, key))?;
    // A driver with its device, or nothing: somebody who writes about the words puts others before them.
    if !head.trim().is_empty() && !head.trim_end().ends_with(':') {
        return None;
    }
    let (mut driver, mut device, mut words) = (None, None, rest);
    if let Some((head, tail)) = rest.split_once(": ") {
        let mut names = head.split_whitespace();
        if let (Some(first), Some(second), None) = (names.next(), names.next(), names.next()) {
            (driver, device, words) = (Some(first.to_owned()), Some(second.to_owned()), tail);
        }
    }
    if device.is_none() {
        // Old kernels put them in front, whatever the device's name looks like.
        let before = text.split("DMA-API: ").next().unwrap_or("").trim().strip_suffix(':').unwrap_or("");
        let mut names = before.split_whitespace();
        let named = match (names.next(), names.next(), names.next()) {
            (Some(first), Some(second), None) => Some((first, second)),
            _ => prefix,
        };
        driver = named.map(|(first, _)| first.to_owned());
        device = named.map(|(_, second)| second.to_owned());
    }
    let key = |name: &str| after(words, name).map(word);
    let kind = kind_of(words);
    let plain = words.split(" [").next().unwrap_or(words).trim().to_owned();
    Some(DmaApi {
        kind,
        driver,
        device,
        addr: key("address=").and_then(hex),
        size: key("map size=").or_else(|| key("[size=")).and_then(number),
        unmap_size: key("unmap size=").and_then(number),
        count: key("count=").and_then(number),
        words: plain,
    })
}

fn kind_of(words: &str) -> DmaApiKind {
    let has = |text: &str| words.contains(text);
    if has("pending DMA allocations") {
        DmaApiKind::Pending
    } else if has("check map error") {
        DmaApiKind::Unchecked
    } else if has("free") && (has("not allocated") || has("invalid DMA memory address")) {
        DmaApiKind::NotAllocated
    } else if has("frees DMA") && has("different size") {
        DmaApiKind::Differs("size")
    } else if has("frees DMA") && has("wrong function") {
        DmaApiKind::Differs("function")
    } else if has("frees DMA") && has("different CPU address") {
        DmaApiKind::Differs("CPU address")
    } else if has("frees DMA") && has("entry count") {
        DmaApiKind::Differs("count of entries")
    } else if has("frees DMA") && has("direction") {
        DmaApiKind::Differs("direction")
    } else if has("frees DMA") && has("attributes") {
        DmaApiKind::Differs("attributes")
    } else if has("debugging disabled") || has("dma-debug disabled") || has("disabling") || has("disabled due to") {
        DmaApiKind::Off
    } else if has("overlapping mappings aren't supported") {
        DmaApiKind::Overlap
    } else if has("exceeded ") && has("overlapping mappings of cacheline") {
        // A counter of the debugging itself is full.
        DmaApiKind::Note
    } else if ["maps memory from", "mapping memory", "sync", "overlapping", "cacheline", "mapping sg", "device driver"]
        .iter()
        .any(|text| has(text))
    {
        DmaApiKind::Misuse
    } else {
        DmaApiKind::Note
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_of_prefix_and_device_are_read() {
        let new = "DMA-API: exeth 1e670000.ethernet: device driver frees DMA memory with different size \
                   [device address=0x0000000081f7f8c2] [map size=1536 bytes] [unmap size=42 bytes]";
        let new = dma_api(new, None).unwrap();
        assert_eq!(new.kind, DmaApiKind::Differs("size"));
        assert_eq!(
            (new.device.as_deref(), new.size, new.unmap_size),
            (Some("1e670000.ethernet"), Some(1536), Some(42))
        );
        let old = "DMA-API: device driver tries to free DMA memory it has not allocated [device address=0x1000] [size=5 bytes]";
        let old = dma_api(old, Some(("exeth", "1e670000.ethernet"))).unwrap();
        assert_eq!((old.kind, old.addr, old.size), (DmaApiKind::NotAllocated, Some(0x1000), Some(5)));
        assert_eq!(old.driver.as_deref(), Some("exeth"));
    }
}
