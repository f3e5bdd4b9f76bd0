// Owning a `PageRun` says that the pages came from an allocator and that no device reaches them: nobody makes one up.

use std::sync::Arc;

use bindery::addr::PhysAddr;
use bindery::mem::{PageRun, PageAllocator};

fn made_up(source: Arc<dyn PageAllocator>) -> PageRun {
    PageRun { base: PhysAddr(0x1000), pages: 1, source }
}

fn main() {
    let _ = made_up;
}
