//! Plans and the command itself on a kernel that lives in memory: with each write failing, and with the command ending at
//! each moment.

mod commands;
mod crash;
mod face;
mod faults;
mod hand_over;
mod hang;
mod kernel;
mod meanwhile;
mod scenario;
