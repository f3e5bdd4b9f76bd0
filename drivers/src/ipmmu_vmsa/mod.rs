//! The IPMMU-VMSA of Renesas R-Car Gen3, Gen4 and RZ/G2.
//!
//! A *root* instance holds the translation contexts and walks the page tables; *leaves* hold the micro-TLBs of bus
//! masters and name their root in `renesas,ipmmu-main`. Only leaves translate for devices.
//!
//! A disabled micro-TLB passes addresses through unchanged, so a device is blocked by a context in which nothing is
//! mapped. All blocked devices of a root share one, the highest; DMA domains get contexts from the lowest up. Masters
//! of one leaf share a group.

mod context;
mod fault;
mod leaf;
mod regs;
mod root;

use alloc::sync::Arc;

use bindery::binding::Bound;
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};

use leaf::{Leaf, LeafIommu};
use regs::{GEN3, GEN4, Layout, Regs};
pub use root::Root;

/// The property by which a leaf names its root, with its interrupt bit there.
const MAIN: &str = "renesas,ipmmu-main";

/// The driver of roots and leaves.
#[derive(Debug)]
pub struct IpmmuVmsa;

impl Driver for IpmmuVmsa {
    const NAME: &'static str = "ipmmu-vmsa";
    const MATCHES: &'static [Match] = &[
        Match::compatible("renesas,ipmmu-r8a774a1"),
        Match::compatible("renesas,ipmmu-r8a774b1"),
        Match::compatible("renesas,ipmmu-r8a774c0"),
        Match::compatible("renesas,ipmmu-r8a774e1"),
        Match::compatible("renesas,ipmmu-r8a7795"),
        Match::compatible("renesas,ipmmu-r8a7796"),
        Match::compatible("renesas,ipmmu-r8a77961"),
        Match::compatible("renesas,ipmmu-r8a77965"),
        Match::compatible("renesas,ipmmu-r8a77970"),
        Match::compatible("renesas,ipmmu-r8a77980"),
        Match::compatible("renesas,ipmmu-r8a77990"),
        Match::compatible("renesas,ipmmu-r8a77995"),
        Match::compatible("renesas,ipmmu-r8a779a0"),
        Match::compatible("renesas,rcar-gen4-ipmmu-vmsa"),
    ];
    /// None: the contexts belong to the core, as services and IOMMUs.
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let layout = layout(dev);
        // The root comes first: without it, a leaf is deferred before it touches the hardware.
        let main = dev.references(MAIN).next().map(|(node, _)| node);
        let root = main.map(|node| dev.supplier::<Root>(node)).transpose()?;
        if root.is_none() && dev.property(MAIN).is_some() {
            return Err(ProbeError::Device("renesas,ipmmu-main names no device"));
        }
        let regs = Regs::new(&dev.mmio(0)?.handle(), layout)?;
        match root {
            None => start_root(dev, regs),
            Some(root) if root.layout() == layout => start_leaf(dev, regs, root),
            Some(_) => Err(ProbeError::Device("the root is of another generation")),
        }
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        // No device uses it any more; its only DMA are table walks of contexts, which are disabled.
        Ok(Quiesced::stopped())
    }
}

fn layout(dev: Bound<'_>) -> &'static Layout {
    let gen4 = |c: &Arc<str>| matches!(&**c, "renesas,ipmmu-r8a779a0" | "renesas,rcar-gen4-ipmmu-vmsa");
    if dev.desc().compatible.iter().any(gen4) { &GEN4 } else { &GEN3 }
}

fn start_root(dev: Bound<'_>, regs: Regs) -> Result<(), ProbeError> {
    let root = Root::new(dev, regs)?;
    let last = Arc::clone(&root);
    dev.action("contexts off", move || last.shut_down())?;
    // Interrupt 0 is that of non-secure contexts, the only kind that this driver uses.
    let (here, there, reporter) = (Arc::clone(&root), Arc::clone(&root), dev.iommu_provider().fault_reporter());
    let hard = move || if here.has_fault() { IrqReturn::WakeThread } else { IrqReturn::None };
    // An error means that the registers are gone, and with them the faults.
    dev.request_threaded_irq(0, hard, move || _ = there.handle_faults(&reporter))?;
    dev.provide(root)?;
    Ok(())
}

fn start_leaf(dev: Bound<'_>, regs: Regs, root: Arc<Root>) -> Result<(), ProbeError> {
    let leaf = Leaf::new(dev.name(), regs, root)?;
    let last = Arc::clone(&leaf);
    dev.action("contexts off", move || last.shut_down())?;
    dev.iommu_provider().provide(Arc::new(LeafIommu(leaf)))?;
    Ok(())
}
