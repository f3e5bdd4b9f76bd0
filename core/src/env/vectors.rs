//! Messages that devices send as interrupts.

use super::IrqLine;
use crate::addr::PhysAddr;
use crate::description::DeviceDesc;

/// Request of a device for messages ([`Env::alloc_vectors`](super::Env::alloc_vectors)).
#[derive(Clone, Copy, Debug)]
pub struct VectorRequest<'a> {
    /// The device that sends them, and the receiver that firmware names ([`messages`](DeviceDesc::messages)).
    pub device: &'a DeviceDesc,
    /// Number that it can use, 1 or more.
    pub count: usize,
    /// It has one address for all and counts the data up from a multiple of their number, which is a power of two (MSI).
    pub consecutive: bool,
    /// The address has 64 bits.
    pub wide: bool,
    /// CPUs that the messages are for, in turn; a hint.
    pub cpus: &'a [usize],
}

/// A message: a write of `data` to `address` raises `line`, an edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vector {
    /// The line by which it is delivered.
    pub line: IrqLine,
    /// Physical address of the doorbell, a multiple of four.
    pub address: PhysAddr,
    /// What is written there, in 32 bits.
    pub data: u32,
}
