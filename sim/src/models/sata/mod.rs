//! The SATA controller of R-Car Gen3 with one disk on its link.

mod ata;
mod command;
mod dma;
mod identify;
mod link;
mod model;
mod regs;
mod transfer;

pub(crate) use model::{LINE, NAME, Sata};
pub use model::{SataFaults, SataTimer, Stop};
pub use regs::WINDOW;
