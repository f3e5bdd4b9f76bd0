//! Splitting and joining of device address ranges into segments within a device's limits.

use super::SegmentLimits;
use crate::addr::DeviceAddr;

/// Iterator over the segments of a list, in order: (first address, bytes).
///
/// Adjacent ranges are joined and long ones split, so that each segment is as long as the limits allow.
#[derive(Clone, Debug)]
pub struct Segments<I> {
    ranges: I,
    limits: SegmentLimits,
    /// Remaining part of the current range.
    rest: Option<(DeviceAddr, u64)>,
}

impl<I: Iterator<Item = (DeviceAddr, u64)>> Segments<I> {
    /// Segments of `ranges` within `limits`. Empty ranges are skipped; no range may wrap.
    pub(super) fn new(ranges: I, limits: SegmentLimits) -> Self {
        Self { ranges, limits, rest: None }
    }

    /// The current range, or the next one that is not empty.
    fn range(&mut self) -> Option<(DeviceAddr, u64)> {
        match self.rest.take() {
            None => self.ranges.find(|(_, len)| *len > 0),
            rest => rest,
        }
    }
}

impl<I: Iterator<Item = (DeviceAddr, u64)>> Iterator for Segments<I> {
    type Item = (DeviceAddr, u64);

    fn next(&mut self) -> Option<(DeviceAddr, u64)> {
        let SegmentLimits { max_segment_size, segment_boundary } = self.limits;
        let (first, mut current) = self.range()?;
        let to_boundary = match segment_boundary {
            0 => u64::MAX,
            boundary => boundary - (first.0 & (boundary - 1)),
        };
        let room = max_segment_size.min(to_boundary);
        let mut len = 0;
        loop {
            let take = current.min(room - len);
            let end = first.0.wrapping_add(len + take);
            len += take;
            if take < current {
                self.rest = Some((DeviceAddr(end), current - take));
                break;
            }
            let Some(next) = self.range() else { break };
            if next.0.0 != end || len == room {
                self.rest = Some(next);
                break;
            }
            current = next.1;
        }
        Some((first, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn cut(ranges: &[(u64, u64)], max_segment_size: u64, segment_boundary: u64) -> Vec<(u64, u64)> {
        let ranges = ranges.iter().map(|(a, l)| (DeviceAddr(*a), *l));
        Segments::new(ranges, SegmentLimits { max_segment_size, segment_boundary }).map(|(a, l)| (a.0, l)).collect()
    }

    #[test]
    fn neighbours_are_joined_and_long_ranges_cut() {
        assert_eq!(cut(&[(0x1000, 0x1000), (0x2000, 0x1000)], 0x10000, 0), [(0x1000, 0x2000)]);
        assert_eq!(cut(&[(0x1000, 0x800), (0x2000, 0x1000)], 0x10000, 0), [(0x1000, 0x800), (0x2000, 0x1000)]);
        assert_eq!(cut(&[(0x1000, 0x2800)], 0x1000, 0), [(0x1000, 0x1000), (0x2000, 0x1000), (0x3000, 0x800)]);
        assert_eq!(cut(&[(0xf000, 0x3000)], 0x10000, 0x10000), [(0xf000, 0x1000), (0x10000, 0x2000)]);
        assert_eq!(cut(&[(0, 0), (5, 0)], 1, 1), []);
        assert_eq!(cut(&[(u64::MAX - 1, 1)], 64, 1 << 63), [(u64::MAX - 1, 1)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..ProptestConfig::default()
        })]
        #[test]
        fn segments_cover_the_ranges_within_the_limits_and_none_could_be_joined(
            lens in prop::collection::vec((0_u64..300, 0_u64..3), 0..12),
            start in 0_u64..1000,
            max in 1_u64..200,
            boundary in prop::option::of(0_u32..9),
        ) {
            let boundary = boundary.map_or(0, |b| 1 << b);
            let mut at = start;
            let mut ranges = Vec::new();
            for (len, gap) in lens {
                at += gap * 64;
                ranges.push((at, len));
                at += len;
            }
            let segments = cut(&ranges, max, boundary);
            let bytes = |list: &[(u64, u64)]| list.iter().flat_map(|(a, l)| *a..a + l).collect::<Vec<_>>();
            prop_assert_eq!(bytes(&segments), bytes(&ranges), "every byte once, in order");
            for (addr, len) in &segments {
                prop_assert!(*len > 0 && *len <= max);
                prop_assert!(boundary == 0 || addr / boundary == (addr + len - 1) / boundary);
            }
            for pair in segments.windows(2) {
                let ((a, l), (b, _)) = (pair[0], pair[1]);
                let at_boundary = boundary != 0 && (a + l) % boundary == 0;
                prop_assert!(a + l != b || l == max || at_boundary, "{:?} could be one", pair);
            }
        }
    }
}
