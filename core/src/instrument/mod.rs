//! What a test or an explorer observes and decides: places where a call can fail, and places that a walk counts.

mod coverage_point;
mod fault_point;

pub use coverage_point::CoveragePoint;
pub use fault_point::FaultPoint;
