//! Tests of the control tree on the fake env.

mod buses;
mod errors;
mod faults;
mod files;
mod fixture;
mod holders;
mod iommu;
mod lifecycle;
mod replay;
