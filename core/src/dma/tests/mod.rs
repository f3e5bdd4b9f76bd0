//! DMA of bound drivers, on the smallest target there is.

mod board;
mod lazy;
mod pool;
mod reach;
mod resource;
mod scatter;
mod streaming;
