//! Errors that make a blob unusable as a whole.

use alloc::string::String;
use alloc::sync::Arc;

/// Error in a device tree blob as a whole. A defect of a single property is a [`Note`](super::Note) instead.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FdtError {
    /// The header or the structure block is malformed.
    #[error("not a valid device tree blob: {0}")]
    Unreadable(String),
    /// The structure block is malformed at this place.
    #[error("not a valid device tree blob: {what} at offset {offset:#x}")]
    Structure {
        /// Defect at this place.
        what: &'static str,
        /// Bytes from the start of the blob.
        offset: usize,
    },
    /// Nodes are nested too deep.
    #[error("{node}: nested more than {limit} deep")]
    TooDeep {
        /// The node below which the limit is passed.
        node: Arc<str>,
        /// Levels below the root that are read.
        limit: usize,
    },
    /// The full paths of all nodes are out of proportion to the blob.
    #[error("{node}: the total length of all paths exceeds the limit")]
    LongPaths {
        /// The node at which the limit is passed.
        node: Arc<str>,
    },
    /// The devices have more references to suppliers and interrupts than the limit. Equal ones of a device count once.
    #[error("{node}: {property}: more than {limit} references to suppliers and interrupts in the tree")]
    TooManyReferences {
        /// The node at which the limit is passed.
        node: Arc<str>,
        /// Its property.
        property: Arc<str>,
        /// References that are read.
        limit: usize,
    },
    /// Following references takes work out of proportion to the blob.
    #[error("{node}: {property}: resolving it takes too many steps")]
    TooMuchWork {
        /// The node at which the limit is passed.
        node: Arc<str>,
        /// Its property.
        property: Arc<str>,
    },
}
