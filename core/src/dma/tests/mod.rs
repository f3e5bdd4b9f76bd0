//! DMA of bound drivers, on the smallest target there is.

mod board;
mod streaming;
