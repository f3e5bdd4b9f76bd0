//! IOMMU groups.

use crate::face::{Face, FaceError};
use crate::path;

/// An IOMMU group.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// The name, a number.
    pub name: String,
    /// The paths in `/sys/devices` of the members that know `driver_override`.
    pub members: Vec<String>,
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
    /// The domain type: `DMA`, `DMA-FQ`, `identity`.
    pub fn domain_type(&self, face: &dyn Face) -> Option<String> {
        face.try_text(&self.attribute("type"))
    }

    /// Address ranges that cannot be mapped freely.
    pub fn reserved(&self, face: &dyn Face) -> Vec<Region> {
        regions(&face.try_text(&self.attribute("reserved_regions")).unwrap_or_default())
    }

    /// The paths of members on buses without `driver_override`, which cannot be moved.
    pub fn strangers(&self, face: &dyn Face) -> Result<Vec<String>, FaceError> {
        let mut strangers = Vec::new();
        for name in face.names(&self.attribute("devices")) {
            if !self.members.iter().any(|known| path::name(known) == name) {
                strangers.extend(face.resolve(&format!("{}/{name}", self.attribute("devices")))?);
            }
        }
        Ok(strangers)
    }

    /// Number of all members.
    pub fn size(&self, face: &dyn Face) -> usize {
        self.members.len().max(face.names(&self.attribute("devices")).len())
    }

    fn attribute(&self, name: &str) -> String {
        format!("/sys/kernel/iommu_groups/{}/{name}", self.name)
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
