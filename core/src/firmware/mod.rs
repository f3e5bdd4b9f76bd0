//! What firmware says of the machine, turned into device descriptions: device tree blobs.

pub mod fdt;
