//! The IPMMU-VMSA of R-Car Gen3: one root that holds the translation contexts, and leaves that hold the micro-TLBs of
//! bus masters.

mod cache;
mod model;
mod regs;
mod walk;

pub use model::{Fault, FaultKind, Leaf};
pub(crate) use model::{Ipmmu, LEAVES, LINE};
pub(crate) use regs::UTLBS;
pub use regs::{CONTEXTS, WINDOW};

/// Instances on the board: the root and its leaves.
pub const INSTANCES: usize = 1 + model::LEAVES.len();
