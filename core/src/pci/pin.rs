//! Interrupt pins: which line of the machine's controllers a function's pin is.
//!
//! A bridge passes the pins of the devices behind it on as its own, turned by the number of the device (*PCI-to-PCI Bridge Architecture
//! Specification* 1.2, 9.1), and firmware says where those on the host bridge's own bus lead (`interrupt-map`).

use super::problem::{Fault, Problem};
use super::{Function, FunctionId, Topology};
use crate::description::{DeviceDesc, Resource};

/// Cells of a unit address on the bus `pci`; the first one has bus, device and function (*PCI Bus Binding to IEEE 1275* 2.1, 2.2.1.1).
const UNIT_CELLS: usize = 3;

impl Topology {
    /// The function on the host bridge's own bus that the pin of `function` reaches, and its pin there, 1 (INTA) to 4. `None` for a
    /// function without a pin.
    ///
    /// ```
    /// use bindery::pci::{Bridge, Function, FunctionId, Header, Topology};
    ///
    /// let at = |bus, device| FunctionId { segment: 0, bus, device, function: 0 };
    /// let bridge = Bridge { at: at(0, 3), secondary: 1, subordinate: 1, windows: vec![] };
    /// let device = Function {
    ///     at: at(1, 2), interrupt_pin: 4,
    ///     // ...
    /// #   id: (1, 1), subsystem: None, class: 0, revision: 0, header: Header::Device, bars: vec![], capabilities: vec![],
    /// #   port: None, msi: None, msi_x: None, function_reset: false, slot: false,
    /// #   errors: None, containment: None,
    /// };
    /// let found = Topology { functions: vec![device.clone()], bridges: vec![bridge], problems: vec![] };
    /// // INTD of device 2 is the bridge's INTB.
    /// assert_eq!(found.root_pin(&device), Some((at(0, 3), 2)));
    /// ```
    pub fn root_pin(&self, function: &Function) -> Option<(FunctionId, u8)> {
        let (mut at, mut pin) = (function.at, function.interrupt_pin.checked_sub(1)?);
        // Bus numbers only fall on the way up.
        while let Some(bridge) = self.bridge_to(at.bus).filter(|bridge| bridge.at.bus < at.bus) {
            pin = (pin + at.device) % 4;
            at = bridge.at;
        }
        Some((at, pin % 4 + 1))
    }

    /// The interrupt that the pin of `function` is, by the interrupt map of the host bridge that `host` describes. `None` for a
    /// function without a pin.
    ///
    /// # Errors
    ///
    /// The map has no entry for it.
    pub fn interrupt(&self, function: &Function, host: &DeviceDesc) -> Result<Option<Resource>, Problem> {
        let Some((at, pin)) = self.root_pin(function) else { return Ok(None) };
        let mut wanted = [0; UNIT_CELLS + 1];
        wanted[0] = u32::from(at.requester_id()) << 8;
        wanted[UNIT_CELLS] = pin.into();
        let found = host.interrupt_map.as_ref().and_then(|map| map.find(&wanted));
        let fault = Fault::NoInterrupt { pin: function.interrupt_pin, at, root_pin: pin };
        found.map_or(Err(Problem { at: function.at, fault }), |line| Ok(Some(line.clone())))
    }
}
