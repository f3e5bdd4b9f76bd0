//! The boot loader left a display scanning out of reserved memory (`memory-region`, `iommu-addresses`). Its IOMMU's driver
//! binds; the display's own driver is not there yet.
use bindery::binding::Bound;
use bindery::driver::*;
use super::kernel::*;
struct Display;
impl Driver for Display {
    const NAME: &'static str = "display";
    const MATCHES: &'static [Match] = &[Match::compatible("t,display")];
    type Data<'b> = ();
    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        dev.log(format_args!("memory-region {:?}", dev.references("memory-region").collect::<Vec<_>>()));
        dev.dma().coherent(4096)?;
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiet, Busy> { Ok(Quiet::stopped()) }
}
#[test]
fn scan_out() {
    let rig = rig_with(Default::default(), include_bytes!("trees/r16_boot_framebuffer.dtb"));
    let see = |r: &Rig| r.board.translate(0, 20, 0x4810_0000, false);
    println!("R16 at boot the display reads its frame: {:?}", see(&rig));
    rig.machine.settle();
    println!("R16 after the IOMMU's driver has bound: {:?}; waiting {:?}", see(&rig), rig.machine.waiting().iter().filter(|w| w.device.contains("display")).collect::<Vec<_>>());
    rig.machine.register(Display);
    rig.machine.settle();
    println!("R16 with its driver bound ({:?}): {:?}", rig.driver("feb00000.display"), see(&rig));
    for s in rig.story().iter().filter(|s| s.contains("display")) { println!("    {s}"); }
    println!("R16 {}", rig.verdict());
    assert!(matches!(see(&rig), Some(Ok(_))), "R16: firmware's mapping is not kept");
}
