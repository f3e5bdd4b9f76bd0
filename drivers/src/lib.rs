//! Drivers for the Bindery core.
#![no_std]
