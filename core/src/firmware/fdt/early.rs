//! Nodes that Linux serves before it makes devices, and makes no device of.
//!
//! `of_irq_init` and `of_clk_init` mark the nodes whose `compatible` is in the tables of `IRQCHIP_DECLARE` and
//! `CLK_OF_DECLARE` as populated (linux-6.12 `drivers/of/irq.c`, `drivers/clk/clk.c`), and `of_platform_populate` leaves
//! those out. Drivers that register later (`IRQCHIP_PLATFORM_DRIVER_BEGIN`, platform drivers) are not in the tables.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::supplier::nth_reference;
use super::tree::{Idx, Tree};

/// Interrupt controllers of machines with device trees (`IRQCHIP_DECLARE` in linux-6.12 `drivers/irqchip`).
const INTERRUPT_CONTROLLERS: [&str; 52] = [
    "allwinner,sun4i-a10-ic",
    "allwinner,suniv-f1c100s-ic",
    "apple,aic",
    "apple,aic2",
    "arm,arm11mp-gic",
    "arm,arm1176jzf-devchip-gic",
    "arm,cortex-a15-gic",
    "arm,cortex-a7-gic",
    "arm,cortex-a9-gic",
    "arm,eb11mp-gic",
    "arm,gic-400",
    "arm,gic-v3",
    "arm,gic-v5",
    "arm,pl190-vic",
    "arm,pl192-vic",
    "arm,pl390",
    "arm,tc11mp-gic",
    "arm,versatile-fpga-irq",
    "arm,versatile-sic",
    "atmel,at91rm9200-aic",
    "atmel,sama5d2-aic",
    "atmel,sama5d3-aic",
    "atmel,sama5d4-aic",
    "brcm,bcm2835-armctrl-ic",
    "brcm,bcm2836-armctrl-ic",
    "brcm,bcm2836-l1-intc",
    "fsl,avic",
    "fsl,imx31-avic",
    "fsl,tzic",
    "hisilicon,hip04-intc",
    "ingenic,jz4740-intc",
    "marvell,armada-370-xp-mpic",
    "marvell,mpic",
    "marvell,orion-bridge-intc",
    "marvell,orion-intc",
    "mrvl,mmp-intc",
    "mrvl,mmp2-intc",
    "nvidia,tegra20-ictlr",
    "nxp,lpc3220-mic",
    "qcom,msm-8660-qgic",
    "qcom,msm-qgic2",
    "riscv,cpu-intc",
    "riscv,plic0",
    "samsung,exynos4210-combiner",
    "sifive,plic-1.0.0",
    "snps,dw-apb-ictl",
    "st,spear300-shirq",
    "st,stm32-exti",
    "ti,am33xx-intc",
    "ti,omap2-intc",
    "ti,omap3-intc",
    "thead,c900-plic",
];

/// The nodes of the tree of which Linux makes no device, by index.
pub(super) fn nodes(tree: &Tree<'_>) -> Vec<bool> {
    let mut early = vec![false; tree.len()];
    let is = |node: Idx, words: &[&str]| tree.strings(node, "compatible").any(|s| s.is_ok_and(|s| words.contains(&s)));
    let mut factors: BTreeMap<Idx, Vec<Idx>> = BTreeMap::new();
    let mut found = Vec::new();
    for node in tree.all() {
        if is(node, &["fixed-clock"]) || tree.has(node, "interrupt-controller") && is(node, &INTERRUPT_CONTROLLERS) {
            found.push(node);
        } else if is(node, &["fixed-factor-clock"])
            && let Some(parent) = nth_reference(tree, node, "clocks", "#clock-cells", 0)
        {
            factors.entry(parent).or_default().push(node);
        }
    }
    // A divider of an early clock is one, too (`of_fixed_factor_clk_setup`).
    while let Some(node) = found.pop() {
        early[node.0 as usize] = true;
        found.extend(factors.remove(&node).into_iter().flatten());
    }
    early
}
