// Owning a `PageRun` proves that the pages came from an allocator and that no device reaches them: it cannot be made
// up.

use std::sync::Arc;

use bindery::addr::PhysAddr;
use bindery::mem::{PageRun, PageAllocator};

fn made_up(allocator: Arc<dyn PageAllocator>) -> PageRun {
    PageRun { base: PhysAddr(0x1000), pages: 1, allocator }
}

fn main() {
    let _ = made_up;
}
