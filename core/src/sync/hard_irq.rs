//! Hard interrupt context.

use core::marker::PhantomData;

/// Section that runs in hard interrupt context: it has interrupted anything on its CPU, so it must take no
/// [`Mutex`](super::Mutex) and wait for nothing.
#[derive(Debug)]
#[must_use = "the context ends when this is dropped"]
pub struct HardIrq(PhantomData<*const ()>);

impl HardIrq {
    /// Enters hard interrupt context on the calling CPU. Calls nest.
    pub fn enter() -> Self {
        Self(PhantomData)
    }
}
