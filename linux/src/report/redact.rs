//! Replacing private values by words that stay the same throughout a text.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Kinds of private values. The word that replaces one is `<KIND-NUMBER>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Private {
    /// The name of the machine or its domain.
    Host,
    /// The name of a person's account.
    User,
    /// A serial number or a world-wide name.
    Serial,
    /// A hardware address.
    Mac,
    /// A network address.
    Address,
    /// An identifier of a file system, partition or machine.
    Uuid,
    /// The name of a volume, pool or file system.
    Volume,
    /// The place where a file system is mounted.
    Mount,
    /// The name of a guest.
    Guest,
}

impl Private {
    /// The word for the kind.
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::User => "user",
            Self::Serial => "serial",
            Self::Mac => "mac",
            Self::Address => "address",
            Self::Uuid => "uuid",
            Self::Volume => "volume",
            Self::Mount => "mount",
            Self::Guest => "guest",
        }
    }
}

/// Replaces values that are known to be private, and those that look so: hardware and network addresses, UUIDs, names
/// of the `naa.` and `eui.` form, and the serial numbers of USB devices in the kernel's log.
#[derive(Debug, Default)]
pub struct Redactor {
    /// Longest first: a name can be part of another.
    known: Vec<(String, Private)>,
    /// The numbers that were given away, by kind and value in lower case.
    numbers: BTreeMap<(Private, String), usize>,
}

impl Redactor {
    /// Replaces these values wherever they stand as words.
    pub fn new(known: impl IntoIterator<Item = (String, Private)>) -> Self {
        let mut known: Vec<(String, Private)> = known
            .into_iter()
            .map(|(value, kind)| (value.trim().to_ascii_lowercase(), kind))
            // A single character would make the text unreadable and hide nothing.
            .filter(|(value, _)| value.len() > 1)
            .collect();
        known.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        known.dedup_by(|a, b| a.0 == b.0);
        Self { known, numbers: BTreeMap::new() }
    }

    /// The line without private values.
    pub fn line(&mut self, line: &str) -> String {
        let mut out = String::with_capacity(line.len());
        let mut rest = line;
        let mut before = None;
        while let Some(first) = rest.chars().next() {
            let starts = !before.is_some_and(is_word) || !is_word(first) || out.ends_with("enx");
            if starts && let Some((length, kind, value)) = self.find(rest, out.as_str()) {
                let number = self.number(kind, value);
                out.extend(["<", kind.word(), "-", &number.to_string(), ">"]);
                before = Some('>');
                rest = &rest[length..];
                continue;
            }
            out.push(first);
            before = Some(first);
            rest = &rest[first.len_utf8()..];
        }
        out
    }

    /// Number of values of each kind that were replaced.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (kind, _) in self.numbers.keys() {
            *counts.entry(kind.word()).or_insert(0) += 1;
        }
        counts
    }

    fn number(&mut self, kind: Private, value: String) -> usize {
        let next = self.numbers.keys().filter(|(other, _)| *other == kind).count() + 1;
        *self.numbers.entry((kind, value)).or_insert(next)
    }

    /// The private value that `text` begins with: its length, kind, and the form by which it is recognised.
    fn find(&self, text: &str, before: &str) -> Option<(usize, Private, String)> {
        let ends = |length: usize| !text[length..].chars().next().is_some_and(is_word);
        for (value, kind) in &self.known {
            let fits = text.get(..value.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(value));
            if fits && ends(value.len()) {
                return Some((value.len(), *kind, value.clone()));
            }
        }
        for (kind, length) in [
            (Private::Uuid, uuid(text)),
            (Private::Serial, eight_pairs(text)),
            (Private::Mac, mac(text)),
            (Private::Serial, world_wide(text)),
            (Private::Serial, usb_serial(text, before)),
            (Private::Address, address(text)),
        ] {
            if let Some(length) = length.filter(|length| ends(*length)) {
                let value = text[..length].to_ascii_lowercase();
                let value = if kind == Private::Mac { value.replace([':', '-'], "") } else { value };
                return Some((length, kind, value));
            }
        }
        // `enx` with the hardware address behind it is an interface's name.
        let bare = before.ends_with("enx").then(|| hex(text)).flatten().filter(|length| *length == 12);
        bare.map(|length| (length, Private::Mac, text[..length].to_ascii_lowercase()))
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric()
}

/// The length of the hexadecimal digits at the beginning.
fn hex(text: &str) -> Option<usize> {
    let length = text.bytes().take_while(u8::is_ascii_hexdigit).count();
    (length > 0).then_some(length)
}

/// The length of digits in groups of these sizes, with `separator` between them.
fn grouped(text: &str, sizes: &[usize], separator: char) -> Option<usize> {
    let mut length = 0;
    for (index, size) in sizes.iter().enumerate() {
        if index > 0 {
            length += text[length..].strip_prefix(separator).map(|_| 1)?;
        }
        (hex(&text[length..])? == *size).then_some(())?;
        length += size;
    }
    Some(length)
}

fn uuid(text: &str) -> Option<usize> {
    grouped(text, &[8, 4, 4, 4, 12], '-')
}

/// The serial number capability of PCI Express, as the kernel and this crate write it.
fn eight_pairs(text: &str) -> Option<usize> {
    grouped(text, &[2; 8], '-')
}

/// Six pairs, or the twenty of `InfiniBand`.
fn mac(text: &str) -> Option<usize> {
    grouped(text, &[2; 20], ':').or_else(|| grouped(text, &[2; 6], ':')).or_else(|| grouped(text, &[2; 6], '-'))
}

fn world_wide(text: &str) -> Option<usize> {
    let digits = ["naa.", "eui."].iter().find_map(|prefix| text.strip_prefix(prefix))?;
    hex(digits).filter(|length| *length >= 8).map(|length| length + 4)
}

fn usb_serial(text: &str, before: &str) -> Option<usize> {
    let serial = before.ends_with("SerialNumber: ");
    serial.then(|| text.find(char::is_whitespace).unwrap_or(text.len())).filter(|length| *length > 0)
}

fn address(text: &str) -> Option<usize> {
    let run = |of: &str| text.find(|c: char| !c.is_ascii_hexdigit() && !of.contains(c)).unwrap_or(text.len());
    // A full stop or a colon behind an address belongs to the sentence.
    let run = |of: &str| text[..run(of)].trim_end_matches('.').len();
    let four = run(".");
    if let Ok(address) = text[..four].parse::<Ipv4Addr>() {
        return (!address.is_unspecified() && !address.is_loopback()).then_some(four);
    }
    let six = run(":.");
    let plain = text[..six].strip_suffix(':').filter(|text| !text.ends_with(':')).unwrap_or(&text[..six]);
    let address = plain.parse::<Ipv6Addr>().ok()?;
    (!address.is_unspecified() && !address.is_loopback()).then_some(plain.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(known: &[(&str, Private)], lines: &[&str]) -> Vec<String> {
        let mut redactor = Redactor::new(known.iter().map(|(value, kind)| ((*value).to_owned(), *kind)));
        lines.iter().map(|line| redactor.line(line)).collect()
    }

    #[test]
    fn one_value_is_one_word_throughout() {
        let known = [("PHLN9000A1", Private::Serial), ("alice", Private::User), ("alices-box", Private::Host)];
        let lines = [
            "nvme-SSD_phln9000a1 of alice",
            "alices-box: PHLN9000A1, 52:54:00:12:34:56",
            "52-54-00-12-34-56 enx525400123456",
        ];
        assert_eq!(
            said(&known, &lines),
            ["nvme-SSD_<serial-1> of <user-1>", "<host-1>: <serial-1>, <mac-1>", "<mac-1> enx<mac-1>"]
        );
    }

    #[test]
    fn what_looks_private_is_replaced_where_nobody_knew_it() {
        let lines = [
            "addr 192.168.7.9/24, fe80::5054:ff:fe12:3456.",
            "uuid:550e8400-e29b-41d4-a716-446655440000",
            "naa.5000c500a1b2c3d4 00-11-22-33-44-55-66-77",
            "usb 1-1: SerialNumber: 0815-XY",
        ];
        assert_eq!(
            said(&[], &lines),
            [
                "addr <address-1>/24, <address-2>.",
                "uuid:<uuid-1>",
                "<serial-1> <serial-2>",
                "usb 1-1: SerialNumber: <serial-3>"
            ]
        );
    }

    #[test]
    fn what_a_reader_needs_stays() {
        let lines = [
            "vfio-pci 0000:02:00.0: enabling device (0000 -> 0002)",
            "DMAR: [DMA Read] Request device [02:00.0] fault addr 0xfffff000",
            "0x00000000fee00000 0x00000000feefffff msi",
            "10000:e1:00.0 8086:0a54 6.1.0-13-amd64 127.0.0.1 :: deadbeef12:34",
            "config 86 80 54 0a 06 04 10 00 00 02 08 01",
            "malice and alice2 are other words",
        ];
        assert_eq!(said(&[("alice", Private::User)], &lines), lines);
    }

    #[test]
    fn counts_are_of_values() {
        let mut redactor = Redactor::new([("bob".to_owned(), Private::User)]);
        redactor.line("bob bob 10.0.0.1 10.0.0.2");
        assert_eq!(redactor.counts(), BTreeMap::from([("address", 2), ("user", 1)]));
    }

    #[test]
    fn any_text_is_taken() {
        for line in ["", "é", "2é:é", "naa.é", "SerialNumber: ", "enxé", "1.2.3.4é"] {
            said(&[("é", Private::User), ("ab", Private::Host)], &[line]);
        }
    }
}
