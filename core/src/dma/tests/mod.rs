//! Tests of DMA by bound drivers, on a minimal fake target.

mod adopted;
mod arena;
mod board;
mod coherent_cache;
mod doorbell;
mod elements;
mod flushes;
mod ioas;
mod lazy;
mod lazy_lease;
mod lease;
mod listed;
mod pool;
mod ranges;
mod reach;
mod resource;
mod ring;
mod scatter;
mod scoped;
mod sequences;
mod sourced;
mod states;
mod streaming;
mod streams;
mod unseen;
mod whole;
