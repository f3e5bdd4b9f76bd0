//! A driver for the ring of a made-up device, twice: as it was written first, and mended.

pub mod first;
pub mod mended;
