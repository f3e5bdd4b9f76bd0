//! The kernel's events and messages, typed.

mod devres;
mod dma_api;
mod fault;
mod field;
mod frame;
mod function;
mod log;
mod message;
mod payload;
mod trace;

pub use devres::Devres;
pub use dma_api::{DmaApi, DmaApiKind};
pub(crate) use fault::AMD;
pub use fault::{Fault, FaultDevice, Suppressed};
pub use field::{Fields, hex, number};
pub use frame::frame;
pub use function::{Backend, Call, call_of};
pub(crate) use log::{is_bdf, is_device};
pub use log::{message, message_about};
pub use message::{DomainType, Message, Stack, Turn};
pub use payload::event;
pub use trace::{Dir, Event, Family, Op, attrs};
