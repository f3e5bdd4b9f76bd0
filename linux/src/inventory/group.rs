//! IOMMU groups.

use crate::face::{Face, FaceError};

/// An IOMMU group.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// The members' paths in `/sys/devices`.
    pub members: Vec<String>,
    /// Address ranges that cannot be mapped freely.
    pub reserved: Vec<Region>,
}

/// A range of `reserved_regions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// Last address.
    pub end: u64,
    /// `direct`, `direct-relaxable`, `reserved` or `msi`.
    pub kind: String,
}

impl std::fmt::Display for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}-{:#x}, type {}", self.start, self.end, self.kind)
    }
}

impl Group {
    /// The domain type of the group with this name: `DMA`, `DMA-FQ`, `identity`.
    pub fn domain_type(face: &dyn Face, name: &str) -> Option<String> {
        face.try_text(&format!("/sys/kernel/iommu_groups/{name}/type"))
    }

    pub(super) fn read(face: &dyn Face, name: &str, troubles: &mut Vec<FaceError>) -> Self {
        let path = format!("/sys/kernel/iommu_groups/{name}");
        let mut members = Vec::new();
        for member in face.names(&format!("{path}/devices")) {
            match face.resolve(&format!("{path}/devices/{member}")) {
                Ok(target) => members.extend(target),
                Err(error) => troubles.push(error),
            }
        }
        Self { members, reserved: regions(&face.try_text(&format!("{path}/reserved_regions")).unwrap_or_default()) }
    }
}

fn regions(text: &str) -> Vec<Region> {
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (start, end, kind) = (words.next()?, words.next()?, words.next()?);
            Some(Region { start: hex(start)?, end: hex(end)?, kind: kind.into() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_read_line_by_line() {
        let text = "0x00000000bddde000 0x00000000bdddefff direct\nnonsense\n0x0fee00000 0xfeefffff msi\n";
        let regions = regions(text);
        assert_eq!(regions.len(), 2);
        assert_eq!(regions[0].to_string(), "0xbddde000-0xbdddefff, type direct");
    }
}
