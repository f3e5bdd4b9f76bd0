//! The SATA controller of R-Car Gen3 with one disk on its link.

mod ata;
mod command;
mod dma;
mod identify;
mod link;
mod model;
mod regs;
mod transfer;

pub use model::{Knobs, SataTimer, Stop};
pub(crate) use model::{LINE, NAME, Sata};
pub use regs::WINDOW;
