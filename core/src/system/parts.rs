//! Tables of higher floors, looked up by type.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::{Any, type_name};

/// The tables of a machine: one of each type, for as long as the machine lives.
///
/// The module of a table adds an accessor to [`System`](super::System) and is the only one that names its type.
#[derive(Default)]
pub(crate) struct Parts(Vec<Box<dyn Any + Send + Sync>>);

impl Parts {
    /// Adds the table of type `T`. Lookups are linear, so the most used tables come first.
    pub(crate) fn with<T: Default + Any + Send + Sync>(self) -> Self {
        self.and(T::default())
    }

    /// Adds `part`.
    pub(crate) fn and<T: Any + Send + Sync>(mut self, part: T) -> Self {
        self.0.push(Box::new(part));
        self
    }

    /// The table of type `T`.
    ///
    /// # Panics
    ///
    /// If the machine was created without one: a bug of the core, not of its users.
    pub(super) fn get<T: Any>(&self) -> &T {
        match self.0.iter().find_map(|part| part.downcast_ref()) {
            Some(part) => part,
            None => panic!("a machine without {}", type_name::<T>()),
        }
    }
}
