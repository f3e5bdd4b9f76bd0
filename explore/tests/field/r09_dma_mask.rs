//! A bus that shows memory far up (a PCIe inbound window at 16 GiB), and a driver that sets no mask.

use super::kernel::*;
use bindery::addr::PhysAddr;
use bindery::binding::Bound;
use bindery::device::DmaRange;
use bindery::dma::*;
use bindery::driver::*;
use bindery::machine::Policy;
use std::sync::Mutex;
struct Capture(Option<u32>);
struct Cap<'b> {
    _m: Coherent<'b>,
    s: Mutex<Option<Mapped<'b>>>,
}
impl Driver for Capture {
    const NAME: &'static str = "capture";
    const MATCHES: &'static [Match] = &[Match::compatible("t,capture")];
    type Data<'b> = Cap<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Cap<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        let dma = dev.dma();
        if let Some(bits) = self.0 {
            dma.set_mask(bits)?;
        }
        let m = dma.coherent(4096)?;
        let s = dma.map(dma.buffer(8192)?, Direction::FromDevice).map_err(|r| r.error)?;
        dev.log(format_args!("coherent {} streaming {} bounced {}", m.device_addr(), s.device_addr(), s.is_bounced()));
        Ok(Cap { _m: m, s: Mutex::new(Some(s)) })
    }
    fn quiesce(c: &Cap<'_>) -> Result<Quiesced, QuiesceError> {
        drop(c.s.lock().unwrap().take());
        Ok(Quiesced::stopped())
    }
}
fn play(bits: Option<u32>, translated: bool) -> (Option<&'static str>, Vec<String>) {
    let policy = Policy { untranslated_dma: !translated, ..Policy::default() };
    let rig = rig_with(policy, bindery_sim::salvator::DEVICE_TREE);
    rig.machine.register(Capture(bits));
    rig.machine.settle();
    let mut d = dev("capture", "t,capture");
    d.dma.ranges.push(DmaRange { bus: 0x4_0000_0000, phys: PhysAddr(0x4000_0000), len: 0x4000_0000 });
    rig.machine.add_device(d).unwrap();
    rig.machine.settle();
    assert_eq!(rig.machine.promises().broken(), []);
    assert_eq!(rig.machine.dma_misuses(), []);
    let said = rig.events().into_iter().filter(|s| s.starts_with("capture")).collect();
    (rig.driver("capture"), said)
}

#[test]
fn memory_above_the_mask_is_refused_at_probe_with_the_mask() {
    for bits in [None, Some(30)] {
        let (driver, said) = play(bits, false);
        assert_eq!(driver, None, "mask {bits:?}");
        let last = if bits.is_none() { "0xffffffff" } else { "0x3fffffff" };
        assert!(said.iter().any(|s| s.contains(last)), "mask {bits:?}: {said:?}");
    }
}

#[test]
fn a_mask_that_reaches_the_memory_lets_the_device_bind() {
    assert_eq!(play(Some(35), false).0, Some("capture"));
}
