//! Payloads of a trace's events.

use super::devres::Devres;
use super::field::{Fields, hex, number};
use super::trace::{Dir, Event, Family, Op, attrs};

/// The event that a trace line's `body` is.
pub fn event(body: &str) -> Event<'_> {
    let body = body.trim_start();
    if body.starts_with("<stack trace>") || body.starts_with("kernel_stack:") {
        return Event::StackHead;
    }
    let (name, payload) = match body.split_once(": ") {
        Some((name, payload)) if !name.contains(' ') => (name, payload.trim_start()),
        _ => match body.strip_suffix(':') {
            Some(name) if !name.contains(' ') => (name, ""),
            _ => ("", body),
        },
    };
    let name = name.rsplit(':').next().unwrap_or(name);
    if payload.starts_with("[FAILED TO PARSE]") {
        return Event::Unread;
    }
    match name {
        "" | "function" => return function(payload).unwrap_or(Event::Other(payload)),
        "map" => range(payload, false),
        "unmap" => range(payload, true),
        "devres_log" => devres(payload),
        "console" => Some(Event::Console(payload)),
        "tracing_mark_write" | "print" | "bprint" | "0" => {
            Some(Event::Mark(payload.split_once(": ").map_or(payload, |(_, rest)| rest)))
        }
        "add_device_to_group" | "remove_device_from_group" => group(payload, name.starts_with("add")),
        "attach_device_to_domain" | "detach_device_from_domain" => {
            named(payload, "device=").map(|device| Event::Domain { device, attached: name.starts_with("attach") })
        }
        "io_page_fault" => fault(payload),
        "device_pm_callback_start" => slept(payload),
        "swiotlb_bounced" => bounced(payload),
        "cache_tag_flush_range" | "cache_tag_flush_range_np" => flushed(payload),
        _ => match name.strip_prefix("bindery_") {
            Some(name) => Some(Event::Probe { name, payload }),
            None => name.strip_prefix("dma_").and_then(|verb| dma(verb, payload)),
        },
    }
    .or_else(|| function(body))
    .unwrap_or(Event::Other(name))
}

/// `FUNC <-CALLER`, and trace-cmd's `FUNC <-- CALLER`.
fn function(text: &str) -> Option<Event<'_>> {
    let (name, caller) = text.split_once("<-")?;
    let name = name.trim();
    // With the options sym-addr and func-args an address or the arguments stand behind the name.
    let name = name.split_once(" <").filter(|(_, rest)| rest.ends_with('>')).map_or(name, |(name, _)| name);
    let name = name.split_once('(').filter(|(_, rest)| rest.ends_with(')')).map_or(name, |(name, _)| name.trim_end());
    let caller = caller.trim_start_matches('-').trim();
    let plain = |text: &str| !text.is_empty() && !text.contains([' ', '=']);
    // With the option sym-offset.
    let name = name.split("+0x").next().unwrap_or(name);
    let caller = caller.split_whitespace().next().unwrap_or("").split("+0x").next().unwrap_or("");
    (plain(name) && plain(caller)).then_some(Event::Function { name, caller })
}

fn value<'a>(payload: &'a str, key: &str) -> Option<&'a str> {
    Fields::new(payload).find(|(k, _)| *k == key).map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// The text before the first `key=` of `text`: a device's name may hold blanks (`Fixed MDIO bus.0`).
fn before_fields(text: &str) -> &str {
    let mut from = 0;
    while let Some(equals) = text[from..].find('=').map(|at| at + from) {
        let key = text[..equals].rfind(' ').map_or(0, |blank| blank + 1);
        let name = &text[key..equals];
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return text[..key].trim();
        }
        from = equals + 1;
    }
    text.trim()
}

/// The device's name behind `key`, up to the next field.
fn named<'a>(payload: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = payload.split_once(key)?;
    Some(before_fields(rest)).filter(|name| !name.is_empty())
}

/// `IOMMU: iova=START - END ... unmapped_size=N`; the end is exclusive. Kernels before 5.0 print no end.
fn range(payload: &str, unmap: bool) -> Option<Event<'_>> {
    let (mut start, mut end, mut size, mut unmapped) = (None, None, None, None);
    let mut dash = false;
    for (key, value) in Fields::new(payload) {
        match key {
            "iova" => start = hex(value),
            "size" => size = number(value),
            "unmapped_size" => unmapped = number(value),
            "" if value == "-" => dash = true,
            "" if dash && end.is_none() => end = hex(value),
            _ => {}
        }
    }
    let start = start?;
    let end = end.filter(|end| *end > start).or_else(|| start.checked_add(size?))?;
    Some(if unmap { Event::IommuUnmap { start, end, unmapped } } else { Event::IommuMap { start, end } })
}

fn group(payload: &str, joins: bool) -> Option<Event<'_>> {
    let device = named(payload, "device=")?;
    Some(Event::Group { device, group: value(payload, "groupID").and_then(number), joins })
}

/// `IOMMU:DRIVER DEV iova=0x... flags=0x...`.
fn fault(payload: &str) -> Option<Event<'_>> {
    let iova = value(payload, "iova").and_then(hex)?;
    let (_, device) = before_fields(payload).split_once(' ')?;
    Some(Event::Fault { device: device.trim_start(), iova })
}

/// `DEV OP NODE NAME (N bytes)`.
fn devres(payload: &str) -> Option<Event<'_>> {
    let at = |word: &str| word.as_ptr() as usize - payload.as_ptr() as usize;
    let mut words = payload.split_whitespace();
    words.next()?;
    let Some(op) = words.find(|word| ["ADD", "REM", "REL", "REPLACE"].contains(word)) else {
        // Up to 6.1 the event holds a pointer to the word, which a tool on another machine cannot follow.
        return payload.split_whitespace().nth(1).filter(|word| is_pointer(word)).map(|_| Event::DevresUnread);
    };
    let device = payload[..at(op)].trim();
    let node = words.next()?;
    let name = words.next().unwrap_or("");
    let size = words.next().and_then(|word| word.strip_prefix('(')).and_then(number).unwrap_or(0);
    Some(Event::Devres(Devres { device, op, node: pointer(node), name, size }))
}

/// True for a word that only an address can be.
fn is_pointer(word: &str) -> bool {
    let address = hex(word);
    address.is_some_and(|address| address > u64::from(u32::MAX) || word.starts_with("0x") && word.len() >= 10)
}

/// `dev_name: DEV dma_mask=M dev_addr=A size=N FORCE|NORMAL`, and `DEV` alone in front in newer kernels.
fn bounced(payload: &str) -> Option<Event<'_>> {
    let rest = payload.split_once("dev_name: ").map_or(payload, |(_, rest)| rest);
    let device = before_fields(rest);
    (!device.is_empty()).then(|| Event::Bounced { device, size: value(rest, "size").and_then(number) })
}

/// `DRIVER DEV, parent: PARENT, OPS[EVENT]`. Only the callback that resumes counts: each sleep has one.
fn slept(payload: &str) -> Option<Event<'_>> {
    let (head, rest) = payload.split_once(", parent: ")?;
    let (_, device) = head.split_once(' ')?;
    rest.trim_end().ends_with("[resume]").then(|| Event::Slept { device: device.trim() })
}

/// `UNIT DEV[PASID] type T did N [0xSTART-0xEND] addr 0x... mask 0x...`.
fn flushed(payload: &str) -> Option<Event<'_>> {
    let mut words = payload.split_whitespace();
    let device = words.find_map(|word| word.split_once('[').map(|(device, _)| device).filter(|d| !d.is_empty()))?;
    let (start, last) = words.find_map(|word| word.strip_prefix("[0x")?.trim_end_matches(']').split_once('-'))?;
    Some(Event::Flushed { device, start: hex(start)?, last: hex(last)? })
}

/// A pointer; none when it is hidden (`(____ptrval____)`).
fn pointer(text: &str) -> Option<u64> {
    if text == "(null)" { Some(0) } else { hex(text) }
}

fn dma<'a>(verb: &str, payload: &'a str) -> Option<Event<'a>> {
    let family = match verb.split_once('_').map_or("", |(_, rest)| rest).trim_end_matches("_err") {
        "" => Family::Coherent,
        "pages" => Family::Pages,
        "sgt" => Family::Sgt,
        "page" | "phys" | "single" => Family::Single,
        "resource" => Family::Resource,
        "sg" => Family::Sg,
        _ => return None,
    };
    let mut op = Op {
        device: before_fields(payload),
        family,
        dir: Dir::None,
        addr: None,
        size: None,
        virt: None,
        phys: None,
        attrs: 0,
        list: "",
        addrs: "",
        sizes: "",
        // This one has no attributes, and ends with its list.
        whole: verb == "free_sgt" && payload.ends_with('}'),
    };
    let mut failed = verb.ends_with("_err");
    for (key, value) in Fields::new(payload) {
        match key {
            "" | "device" | "dev" if op.device.is_empty() => op.device = value,
            "dir" => op.dir = Dir::of(value),
            "dma_addr" => op.addr = hex(value),
            "size" => op.size = number(value),
            "virt_addr" => op.virt = pointer(value),
            "phys_addr" => op.phys = hex(value),
            "attrs" => {
                op.attrs = attrs::of(value);
                op.whole = true;
            }
            "phys_addrs" => op.list = value,
            "dma_addrs" => op.addrs = value,
            "sizes" => op.sizes = value,
            "err" => failed = true,
            _ => {}
        }
    }
    if op.device.is_empty() {
        return None;
    }
    if family == Family::Sg {
        op.addr = list(op.addrs).next();
        op.size = Some(list(op.sizes).fold(0, u64::wrapping_add)).filter(|size| *size > 0);
    }
    let take = verb.starts_with("alloc") || verb.starts_with("map");
    let give = verb.starts_with("free") || verb.starts_with("unmap");
    // At all-ones the mapping failed; some kernels log address 0 for an allocation that gave nothing.
    let ones = op.addr.is_some_and(|addr| addr == u64::MAX || addr == u64::from(u32::MAX) && family == Family::Single);
    let nothing = op.virt == Some(0) && matches!(family, Family::Coherent | Family::Pages);
    if !op.whole && op.list.starts_with('{') && !op.list.ends_with('}') {
        op.list = "";
    }
    match (take, give) {
        (true, _) if failed || ones || nothing => Some(Event::Failed(op)),
        (true, _) => Some(Event::Take(op)),
        (_, true) => Some(Event::Give(op)),
        _ => None,
    }
}

/// The numbers of a printed list.
pub(crate) fn list(text: &str) -> impl Iterator<Item = u64> + '_ {
    text.trim_matches(['{', '}']).split(',').filter_map(|word| hex(word.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_read_in_both_spellings() {
        let expected = Event::Function { name: "iommu_dma_free", caller: "dma_free_attrs" };
        assert_eq!(event("iommu_dma_free <-dma_free_attrs"), expected);
        assert_eq!(event("function:             iommu_dma_free <-- dma_free_attrs"), expected);
        assert_eq!(event("ftrace:function: iommu_dma_free <- dma_free_attrs"), expected);
    }

    #[test]
    fn a_mapping_is_read_with_fields_in_another_order() {
        let Event::Take(op) = event("dma_map_phys: 0000:00:04.0 size=8 x=y attrs=MMIO dma_addr=ffffb000 dir=TO_DEVICE")
        else {
            panic!("no mapping")
        };
        assert_eq!((op.addr, op.size, op.dir, op.attrs), (Some(0xffffb000), Some(8), Dir::ToDevice, attrs::MMIO));
    }

    #[test]
    fn failed_mappings_are_no_mappings() {
        let text = "dma_map_page: d dir=TO_DEVICE dma_addr=ffffffffffffffff size=8 phys_addr=3d246000 attrs=";
        assert!(matches!(event(text), Event::Failed(_)));
        assert!(matches!(event("dma_alloc: d dma_addr=0 size=8 virt_addr=0000000000000000"), Event::Failed(_)));
        assert!(matches!(event("dma_map_sg_err: d dir=X dma_addrs={0x1} err=-5 attrs="), Event::Failed(_)));
    }

    #[test]
    fn ranges_end_before_their_end() {
        let text = "unmap: IOMMU: iova=0x00000000fffa0000 - 0x00000000fffb7000 size=94208 unmapped_size=0";
        assert_eq!(event(text), Event::IommuUnmap { start: 0xfffa0000, end: 0xfffb7000, unmapped: Some(0) });
        assert_eq!(
            event("map: IOMMU: iova=0x1000 paddr=0x5 size=4096"),
            Event::IommuMap { start: 0x1000, end: 0x2000 }
        );
    }

    #[test]
    fn managed_resources_are_read_with_hidden_pointers_and_names() {
        let event = event("devres_log: 1e788000.serial REL (____ptrval____) (null) (24 bytes)");
        assert_eq!(
            event,
            Event::Devres(Devres { device: "1e788000.serial", op: "REL", node: None, name: "(null)", size: 24 })
        );
    }

    #[test]
    fn bounces_and_flushes_name_their_device() {
        let bounced =
            event("swiotlb_bounced: dev_name: 0000:00:04.0 dma_mask=ffffffff dev_addr=10fb21000 size=4096 NORMAL");
        assert_eq!(bounced, Event::Bounced { device: "0000:00:04.0", size: Some(4096) });
        let flush = "cache_tag_flush_range: dmar0 0000:00:04.0[0] type iotlb did 23 [0xfffa0000-0xfffa0fff] addr 0xfffa0000 mask 0x0";
        assert_eq!(event(flush), Event::Flushed { device: "0000:00:04.0", start: 0xfffa0000, last: 0xfffa0fff });
    }

    #[test]
    fn an_operation_that_is_a_pointer_is_counted_and_not_guessed() {
        let text = "devres_log: 0000:00:03.0 0xffffffff8270cb5f 0xffff88800123 dmam_release (32 bytes)";
        assert_eq!(event(text), Event::DevresUnread);
    }

    #[test]
    fn events_that_are_not_known_are_other() {
        assert_eq!(event("sched_switch: prev_comm=a <-b"), Event::Other("sched_switch"));
        assert_eq!(event(""), Event::Other(""));
        assert_eq!(event("map: nothing of it"), Event::Other("map"));
    }
}
