//! Fields of structures in DMA memory.

use core::fmt;
use core::marker::PhantomData;

/// Field `F` of the structure `T`: its offset and its type, both known at compile time. Made by [`field!`](crate::field).
pub struct Field<T, F> {
    /// In bytes from the start of the structure.
    pub(super) offset: u64,
    types: PhantomData<fn(&T) -> F>,
}

impl<T, F> Field<T, F> {
    /// For [`field!`](crate::field): `_get` ties the types to the field at `offset`.
    ///
    /// # Panics
    ///
    /// At compile time, if the field is not inside `T`.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(offset: usize, _get: fn(&T) -> F) -> Self {
        assert!(offset + size_of::<F>() <= size_of::<T>(), "the field is not inside the structure");
        Self { offset: offset as u64, types: PhantomData }
    }
}

impl<T, F> Clone for Field<T, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, F> Copy for Field<T, F> {}

impl<T, F> fmt::Debug for Field<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} of {}", core::any::type_name::<F>(), self.offset, core::any::type_name::<T>())
    }
}

/// Names a field of a structure for [`CoherentSlice::read_field`](crate::dma::CoherentSlice::read_field) and
/// [`write_field`](crate::dma::CoherentSlice::write_field): `field!(Completion, status)`, `field!(Header, word.low)`. Its type
/// is `Copy`. A wrong name or type does not compile; there is nothing to check when it is used.
#[macro_export]
macro_rules! field {
    ($of:ty, $($name:tt).+) => {
        const { $crate::dma::Field::<$of, _>::new(::core::mem::offset_of!($of, $($name).+), |value: &$of| value.$($name).+) }
    };
}
