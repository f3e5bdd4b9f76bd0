//! The command on fake hosts: a directory that a script has filled.
//!
//! `fake/` holds hosts told after public reports, by the reports' subjects; other hosts stand beside their tests.

mod bad_input;
mod below;
mod commands;
mod common;
mod desired;
mod embed;
mod functions;
mod guests;
mod names;
mod network;
mod outside;
mod report;
mod reported;
mod shared_groups;
mod situations;
mod storage;
mod vfio;
mod viable;
