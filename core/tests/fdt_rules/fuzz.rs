//! Property tests: no input causes a panic or an endless loop.

use std::time::{Duration, Instant};

use bindery::device::Nodes;
use bindery::firmware::fdt;
use proptest::prelude::*;

const BOARD: &[u8] = include_bytes!("../../../sim/boards/salvator-xs.dtb");
/// A description of the board takes well under a millisecond. The limit only has to tell "soon" from "never".
const SOON: Duration = Duration::from_mins(1);

/// Small numbers, which may be phandles or tokens, as often as any.
fn odd_cell() -> impl Strategy<Value = u32> {
    prop_oneof![0..200_u32, any::<u32>(), Just(u32::MAX)]
}

/// Describes the blob and checks the invariants of any description.
fn try_out(blob: &[u8]) -> Result<(), TestCaseError> {
    let start = Instant::now();
    let mut nodes = Nodes::new();
    if let Ok(description) = fdt::describe(blob, &mut nodes) {
        // Every number means a node, and what is linked is enabled.
        for device in &description.devices {
            for supplier in &device.suppliers {
                prop_assert!(nodes.get(supplier.node).enabled && nodes.get(supplier.target).enabled);
                prop_assert!(Some(supplier.node) != device.node);
            }
            prop_assert!(device.node.is_some_and(|n| nodes.get(n).enabled));
        }
    }
    prop_assert!(start.elapsed() < SOON);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_of_the_board(flips in prop::collection::vec((0..BOARD.len(), any::<u8>()), 1..12)) {
        let mut blob = BOARD.to_vec();
        for (at, value) in flips {
            blob[at] = value;
        }
        try_out(&blob)?;
    }

    #[test]
    fn changed_cells_behind_the_header(
        cells in prop::collection::vec((14..BOARD.len() / 4, odd_cell()), 1..8),
    ) {
        let mut blob = BOARD.to_vec();
        for (at, value) in cells {
            blob[at * 4..at * 4 + 4].copy_from_slice(&value.to_be_bytes());
        }
        try_out(&blob)?;
    }

    #[test]
    fn a_cut_out_piece(start in 0..BOARD.len(), len in 1..400_usize) {
        let mut blob = BOARD.to_vec();
        blob.drain(start..(start + len).min(BOARD.len()));
        let size = blob.len() as u32;
        if let Some(total) = blob.get_mut(4..8) {
            total.copy_from_slice(&size.to_be_bytes());
        }
        try_out(&blob)?;
    }

    #[test]
    fn random_bytes(mut blob in prop::collection::vec(any::<u8>(), 0..600), valid_start in any::<bool>()) {
        if valid_start {
            let header = &BOARD[..40.min(blob.len())];
            blob[..header.len()].copy_from_slice(header);
        }
        try_out(&blob)?;
    }
}
