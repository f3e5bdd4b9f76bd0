// `Flushed` and `Unreachable` are proofs: only the core makes them, when a `Translation` reports a confirmed flush.

use bindery::dma::Unreachable;
use bindery::iommu::Flushed;

fn main() {
    let _flushed = Flushed(());
    let _ = core::any::type_name::<Unreachable>();
}
