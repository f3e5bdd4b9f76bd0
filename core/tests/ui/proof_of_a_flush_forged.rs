// `Flushed` and `Unreachable` are proofs: only a confirmed invalidation makes them.

use bindery::dma::Unreachable;
use bindery::iommu::Flushed;

fn main() {
    let _flushed = Flushed(());
    let _default = Flushed::default();
    let _ = core::any::type_name::<Unreachable>();
}
