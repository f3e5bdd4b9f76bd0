//! Small drivers as their authors would write them, each with a model of its device: the face of a driver author is judged by
//! them, and they show how its parts fit together.

mod ahci;
mod board;
mod nvme;
mod smmu;
