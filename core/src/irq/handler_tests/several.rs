//! Several lines of one device.

use alloc::format;
use alloc::vec::Vec;

use super::{Count, LINE, machine};
use crate::description::Resource;
use crate::device::DeviceDesc;
use crate::driver::IrqReturn;
use crate::env::{IrqLine, IrqSink as _, Trigger};
use crate::sync::HardIrq;

const LINES: [IrqLine; 3] = [LINE, IrqLine(LINE.0 + 1), IrqLine(LINE.0 + 2)];

/// Each with a threaded part, in every combination of those that the controller does not have and those that the driver releases early.
#[test]
fn each_line_of_a_device_is_served_until_it_is_released_itself() {
    for (refused, released) in (0..8_u32).flat_map(|refused| (0..8_u32).map(move |released| (refused, released))) {
        let case = format!("refused {refused:#b}, released {released:#b}");
        let served: [Count; 3] = Default::default();
        let counts = served.clone();
        let (env, machine) = machine(Trigger::LevelHigh, 0, move |dev| {
            let groups: Vec<_> = LINES.iter().map(|_| dev.devres_group()).collect();
            for (index, (group, count)) in groups.iter().zip(&counts).enumerate() {
                let count = count.clone();
                let added =
                    group.bound().request_threaded_irq(index, || IrqReturn::WakeThread, move || count.add()).is_ok();
                assert_eq!(added, refused >> index & 1 == 0);
            }
            for (index, group) in groups.into_iter().enumerate() {
                if released >> index & 1 != 0 {
                    group.release();
                }
            }
            Ok(())
        });
        let lacks = LINES.iter().enumerate().filter(|(index, _)| refused >> index & 1 != 0).map(|(_, line)| *line);
        env.no_lines.lock().unwrap().extend(lacks);
        let mut desc = DeviceDesc::new("several");
        desc.compatible.push("acme,scripted".into());
        desc.resources.extend(LINES.map(|line| Resource::Irq { line, trigger: Trigger::LevelHigh }));
        let device = machine.add_device(desc).unwrap();
        machine.settle();
        assert_eq!(device.driver(), Some("scripted"), "{case}");
        let has = |index: usize| (refused | released) >> index & 1 == 0;
        let listed: Vec<_> = machine.interrupt_lines().iter().map(|line| IrqLine(line.line)).collect();
        let kept: Vec<_> = (0..3).filter(|index| has(*index)).map(|index| LINES[index]).collect();
        assert_eq!(listed, kept, "{case}");
        for round in 1..3 {
            {
                let _trap = HardIrq::enter();
                for line in LINES {
                    env.raise(line);
                }
            }
            machine.timer();
            for (index, count) in served.iter().enumerate() {
                assert_eq!(count.get(), if has(index) { round } else { 0 }, "{case}: line {index}");
                assert_eq!(env.enabled.lock().unwrap().contains(&LINES[index]), has(index), "{case}: line {index}");
            }
        }
        machine.unbind("several", "scripted").unwrap();
        assert_eq!(machine.interrupt_lines(), []);
        assert_eq!(machine.promises().broken(), [], "{case}");
    }
}
