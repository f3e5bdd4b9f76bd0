//! The control tree over the smallest target there is.

mod errors;
mod faults;
mod files;
mod fixture;
mod holders;
mod lifecycle;
