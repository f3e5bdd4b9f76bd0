//! Vital product data of PCI devices: part and serial numbers that need no driver.

use std::time::Duration;

use super::Device;
use crate::face::Face;

/// Deadline of reading it: devices answer four bytes at a time, some of them in milliseconds.
const VPD_DEADLINE: Duration = Duration::from_secs(2);

/// PCI Local Bus Specification 3.0, appendix I: names of large resources, and the small one that ends them.
const IDENTIFIER: u8 = 0x02;
const READ_ONLY: u8 = 0x10;
const END: u8 = 0x0f;

/// Vital product data, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vpd {
    /// The product's name.
    pub name: Option<String>,
    /// The part number, keyword `PN`.
    pub part: Option<String>,
    /// The serial number, keyword `SN`.
    pub serial: Option<String>,
}

impl Vpd {
    /// Reads the data of a device; `None` when it has none, or does not answer in time. Only root can read it.
    pub fn read(face: &dyn Face, device: &Device) -> Option<Self> {
        let file = device.attribute("vpd");
        if device.bus != "pci" || !face.exists(&file) {
            return None;
        }
        face.read_within(&file, VPD_DEADLINE).ok().map(|bytes| parse(&bytes))
    }
}

fn parse(mut bytes: &[u8]) -> Vpd {
    let mut vpd = Vpd::default();
    while let Some((tag, data, rest)) = resource(bytes) {
        match tag {
            IDENTIFIER => vpd.name = text(data),
            READ_ONLY => fields(data, &mut vpd),
            END => break,
            _ => {}
        }
        bytes = rest;
    }
    vpd
}

/// The first resource: its name, its data, and what follows.
fn resource(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    if tag & 0x80 == 0 {
        let (data, rest) = rest.split_at_checked(usize::from(tag & 7))?;
        return Some((tag >> 3 & 0xf, data, rest));
    }
    let (length, rest) = rest.split_at_checked(2)?;
    let (data, rest) = rest.split_at_checked(u16::from_le_bytes([length[0], length[1]]).into())?;
    Some((tag & 0x7f, data, rest))
}

/// Fields: a keyword of two letters, a length, and the value.
fn fields(mut data: &[u8], vpd: &mut Vpd) {
    while let [a, b, length, rest @ ..] = data {
        let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { return };
        match [*a, *b] {
            [b'P', b'N'] => vpd.part = text(value),
            [b'S', b'N'] => vpd.serial = text(value),
            _ => {}
        }
        data = rest;
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"\x82\x04\x00Card\x90\x13\x00PN\x04AB-1SN\x05X0815RV\x01\x00\x78";

    #[test]
    fn name_part_and_serial_are_read() {
        let vpd = parse(GOOD);
        assert_eq!(vpd.name.as_deref(), Some("Card"));
        assert_eq!((vpd.part.as_deref(), vpd.serial.as_deref()), (Some("AB-1"), Some("X0815")));
    }

    #[test]
    fn data_that_is_cut_or_garbage_ends_quietly() {
        for length in 0..GOOD.len() {
            parse(&GOOD[..length]);
        }
        assert_eq!(parse(&[0xff; 64]), Vpd::default());
        assert_eq!(parse(&[0; 64]), Vpd::default());
    }
}
