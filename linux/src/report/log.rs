//! The part of the kernel's log that is about a device.

/// Words of what gives devices away and of what translates for them.
const WORDS: [&str; 8] = ["vfio", "iommu", "dmar:", "amd-vi", "smmu", "ipmmu", "deferred probe", "pcieport"];

/// True when a record of the log names one of `names`, or says something of VFIO or an IOMMU.
pub fn about(record: &str, names: &[String]) -> bool {
    let text = record.to_ascii_lowercase();
    WORDS.iter().any(|word| text.contains(word)) || names.iter().any(|name| has(&text, &name.to_ascii_lowercase()))
}

/// True when `name` stands in `text`, and is not a part of a longer name: `sda` is not `sdab`.
fn has(text: &str, name: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !name.is_empty()
        && text
            .match_indices(name)
            .any(|(at, _)| !is_word(text[..at].chars().next_back()) && !is_word(text[at + name.len()..].chars().next()))
}

/// A record as `dmesg` shows it. Lines of properties that follow it are left out.
pub fn line(record: &str) -> String {
    let first = record.lines().next().unwrap_or_default();
    let Some((head, text)) = first.split_once(';') else { return first.into() };
    let micros = head.split(',').nth(2).and_then(|field| field.parse::<u64>().ok());
    match micros {
        Some(micros) => format!("[{:5}.{:06}] {text}", micros / 1_000_000, micros % 1_000_000),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_about_the_device_are_chosen() {
        let names = ["0000:02:00.0".to_owned(), "02:00.0".into(), "sda".into()];
        for record in [
            "6,1,2,-;nvme 0000:02:00.0: x",
            "4,1,2,-;x\n DEVICE=+pci:0000:02:00.0",
            "3,1,2,-;DMAR: [DMA Write] Request device [02:00.0]",
            "6,1,2,-; sda: sda1",
            "6,1,2,-;VFIO - User Level meta-driver",
        ] {
            assert!(about(record, &names), "{record}");
        }
        assert!(!about("6,1,2,-;sdab is other, and so is 0000:02:00.01", &names));
        assert!(!about("6,1,2,-;usb 1-1: new device", &names));
    }

    #[test]
    fn a_record_is_shown_with_its_time() {
        assert_eq!(line("6,339,5140900,-;a; b\n SUBSYSTEM=pci"), "[    5.140900] a; b");
        assert_eq!(line("garbage"), "garbage");
        assert_eq!(line(""), "");
    }
}
