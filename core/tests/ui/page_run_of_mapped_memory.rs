// Pages of DMA memory cannot be taken out of it, nor owned twice: a device may still reach them.

use bindery::dma::DmaMemory;
use bindery::mem::PageRun;

fn taken_out(memory: DmaMemory) -> PageRun {
    memory.run
}

fn doubled(run: &PageRun) -> PageRun {
    run.clone()
}

fn main() {
    let _ = (taken_out, doubled);
}
