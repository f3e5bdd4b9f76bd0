//! Device links (Linux: `device_link`, `fw_devlink`): suppliers, consumers, and deferred probing.

mod cycles;
mod driver_made;
mod graph;
mod state;

pub(crate) use cycles::RelaxedLink;
pub(crate) use driver_made::NotLinked;
pub(crate) use graph::Graph;
pub use state::{LinkInfo, LinkState};
