//! Classes of locks where nothing checks their order.

use core::marker::PhantomData;

use super::{Kind, LockLevel};

/// Class of a lock.
pub(in crate::sync) struct LockClass(());

/// Lock that the calling thread holds, until this is dropped.
pub(in crate::sync) struct Held(PhantomData<*const ()>);

/// Section with interrupts disabled.
pub(in crate::sync) struct Disabled(());

/// Section in hard interrupt context.
#[derive(Debug)]
pub(in crate::sync) struct InIrq(());

impl LockClass {
    pub(in crate::sync) const fn here(_: LockLevel) -> Self {
        Self(())
    }

    pub(in crate::sync) const fn at(self, _: LockLevel) -> Self {
        self
    }

    pub(in crate::sync) const fn nesting(self) -> Self {
        self
    }

    #[expect(clippy::unused_self, reason = "the checker uses it")]
    #[inline]
    pub(in crate::sync) fn wanted(&self, _: Kind, _: &'static str) {}

    #[expect(clippy::unused_self, reason = "the checker uses it")]
    #[inline]
    pub(in crate::sync) fn held(&self, _: Kind, _: &'static str) -> Held {
        Held(PhantomData)
    }
}

impl Disabled {
    #[inline]
    pub(in crate::sync) fn begin() -> Self {
        Self(())
    }
}

impl InIrq {
    #[inline]
    pub(in crate::sync) fn begin() -> Self {
        Self(())
    }
}

#[inline]
pub(in crate::sync) fn might_sleep() {}
