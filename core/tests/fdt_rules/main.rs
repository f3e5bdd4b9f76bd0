//! Reading of device trees, rule by rule, on small trees.

mod addresses;
mod bad;
mod blob;
mod dma;
mod fuzz;
mod interrupts;
mod messages;
mod population;
mod regions;
mod suppliers;
