//! Tests of areas and patterns.

use super::*;

#[test]
fn areas_fit_the_disk_and_do_not_overlap_when_there_is_room() {
    for capacity in [1, 2, 3, 143, 144, 145, 65_536] {
        let (host, guest) = Area::of(capacity);
        assert!(host.sectors >= 1 && guest.lba + guest.sectors == capacity, "{capacity}");
        assert!(capacity == 1 || host.lba + host.sectors == guest.lba, "{capacity}");
    }
}

#[test]
fn every_sector_of_a_pattern_differs_and_says_whose_it_is() {
    let area = Area { lba: 5, sectors: 3 };
    let bytes = pattern("host", area);
    assert_eq!(bytes.len(), 3 * 512);
    assert!(bytes.starts_with(b"bindery: host, sector 5\n"));
    assert_ne!(bytes[100..512], bytes[612..1024]);
    assert_ne!(bytes, pattern("guest", area));
}

#[test]
fn the_first_difference_is_found() {
    assert_eq!(first_difference(b"abc", b"abc"), None);
    assert_eq!(first_difference(b"abc", b"abd"), Some(2));
    assert_eq!(first_difference(b"abc", b"ab"), Some(2));
}
