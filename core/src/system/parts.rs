//! Tables of higher floors, looked up by type.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::{Any, TypeId, type_name};

/// The tables of a machine: one of each type, for as long as the machine lives.
///
/// The module of a table adds an accessor to [`System`](super::System) and is the only one that names its type.
#[derive(Default)]
pub(crate) struct Parts(Vec<(TypeId, Box<dyn Any + Send + Sync>)>);

impl Parts {
    /// Adds the table of type `T`. Lookups are linear, so the most used tables come first.
    pub(crate) fn with<T: Default + Any + Send + Sync>(self) -> Self {
        self.and(T::default())
    }

    /// Adds `part`.
    pub(crate) fn and<T: Any + Send + Sync>(mut self, part: T) -> Self {
        self.0.push((TypeId::of::<T>(), Box::new(part)));
        self
    }

    /// The table of type `T`.
    ///
    /// # Panics
    ///
    /// If the machine was created without one: a bug of the core, not of its users.
    #[inline]
    pub(super) fn get<T: Any>(&self) -> &T {
        // By the type that is recorded beside each: asking a table for its own is a call.
        let found = self.0.iter().find(|(id, _)| *id == TypeId::of::<T>()).and_then(|(_, part)| part.downcast_ref());
        found.unwrap_or_else(|| absent(type_name::<T>()))
    }
}

#[cold]
fn absent(table: &str) -> ! {
    panic!("a machine without {table}")
}
