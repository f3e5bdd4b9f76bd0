//! Readers of firmware's description of the machine: device tree blobs.

pub mod fdt;
