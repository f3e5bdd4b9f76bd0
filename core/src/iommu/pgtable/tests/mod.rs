//! The promises of the page tables, checked through RAM as hardware sees it.

mod board;
mod layout;
mod lease;
mod model;
mod ranges;
