// A `Gather` yields no proof to drivers, IOMMU drivers included: neither without a flush nor after one.

use bindery::addr::DeviceAddr;
use bindery::iommu::{Gather, IommuError, Translation};

fn without_a_flush() {
    let _proof = Gather::new().confirm();
}

fn after_one(translation: &dyn Translation) -> Result<(), IommuError> {
    let mut gather = Gather::new();
    gather.add(DeviceAddr(0x1000), 4096);
    let proof: () = translation.flush(&mut gather)?;
    let _ = gather.confirm();
    Ok(proof)
}

fn main() {
    let _ = (without_a_flush, after_one);
}
