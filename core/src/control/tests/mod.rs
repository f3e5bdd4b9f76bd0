//! The control tree over the smallest target there is.

mod errors;
mod faults;
mod files;
mod holders;
mod life;
mod world;
