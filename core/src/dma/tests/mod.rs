//! DMA of bound drivers, on the smallest target there is.

mod board;
mod ioas;
mod lazy;
mod pool;
mod reach;
mod resource;
mod scatter;
mod states;
mod streaming;
