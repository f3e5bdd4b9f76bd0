//! The disk controller at register level.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod dma;
mod link;
mod misuse;
mod stop;

use std::time::Duration;

use common::*;

const READY: u32 = 0x50;
const MS: Duration = Duration::from_millis(1);
/// CONTROL1 while the transfer is [`stopped`].
const STOPPED: u32 = 1 << 16 | 1 << 11 | 1 << 3 | 1 << 2 | 2;

/// Controller up, no translation.
fn up() -> Bench {
    let b = bench();
    b.sata_on();
    b
}

fn bytes_of_sector(n: u16) -> Vec<u8> {
    n.to_le_bytes().repeat(256)
}

/// A transfer of 256 sectors, stopped in the middle.
fn stopped() -> Bench {
    let b = up();
    b.prds(&[(DATA.0 as u32, 0x2_0000)]);
    b.dma(TABLE.0 as u32, false, 0, 256);
    b.sleep_us(300);
    assert_eq!(b.dma_status() & 1, 1);
    b
}
