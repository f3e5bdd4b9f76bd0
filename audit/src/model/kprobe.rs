//! Kprobe events of the recorder, which stand for `dma:*` on kernels that do not have them.
//!
//! What a call returns comes in an event of its own, so a call that is under way waits in its task. The DMA address of coherent
//! memory is returned through a pointer that no probe can follow: it is where the IOMMU mapped between call and return, and
//! where the IOMMU has no part in it, memory goes by its CPU address.

use super::record::At;
use super::{Model, task::TaskKey};
use crate::event::{Dir, Family, Fields, Op, attrs, number};

/// Most calls that one task can be in.
const MOST_NESTED: usize = 16;
/// Most pieces of memory that go by their CPU address.
const MOST_BY_CPU: usize = 65_536;

/// A call that has not returned.
#[derive(Debug)]
pub(super) struct Call {
    name: String,
    device: String,
    size: u64,
    dir: Dir,
    dma: Option<u64>,
    phys: Option<u64>,
    attrs: u8,
    list: String,
}

impl Call {
    fn op(&self, family: Family) -> Op<'_> {
        Op {
            device: &self.device,
            family,
            dir: self.dir,
            addr: self.dma,
            size: (family != Family::Sg).then_some(self.size),
            virt: None,
            phys: self.phys,
            attrs: self.attrs,
            list: &self.list,
            addrs: "",
            sizes: "",
            whole: true,
        }
    }
}

impl Model {
    /// An event of the probe `bindery_NAME`.
    pub(super) fn kprobe(&mut self, at: At<'_>, name: &str, payload: &str) {
        if let Some(name) = name.strip_suffix("_ret") {
            let Some(call) = self.returned(at.task, name) else { return };
            return self.kprobe_return(at, &call, payload);
        }
        let mut call = Call {
            name: name.to_owned(),
            device: String::new(),
            size: 0,
            dir: Dir::None,
            dma: None,
            phys: None,
            attrs: 0,
            list: String::new(),
        };
        let mut virt = None;
        for (key, value) in Fields::new(payload) {
            match key {
                "dev" => value.trim_matches('"').clone_into(&mut call.device),
                "size" => call.size = number(value).unwrap_or(0),
                "dir" => call.dir = Dir::of_number(number(value)),
                "dma" => call.dma = number(value),
                "virt" => virt = number(value),
                "phys" => call.phys = number(value),
                "attrs" => call.attrs = attrs::of_bits(number(value).unwrap_or(0)),
                "sg" => value.clone_into(&mut call.list),
                _ => {}
            }
        }
        // `(fault)`: the name could not be read.
        if call.device.is_empty() || call.device.starts_with('(') {
            return;
        }
        let family = match name {
            "free" => Family::Coherent,
            "free_pages" => Family::Pages,
            "unmap_sg" => Family::Sg,
            _ => {
                let task = self.task(at.task);
                task.begin_call();
                if task.calls.len() < MOST_NESTED {
                    task.calls.push(call);
                }
                return;
            }
        };
        let by_cpu = virt.filter(|virt| self.by_cpu.remove(virt));
        call.dma = by_cpu.or(call.dma);
        let op = Op { virt, ..call.op(family) };
        self.give(at, &op);
    }

    fn kprobe_return(&mut self, at: At<'_>, call: &Call, payload: &str) {
        let value = |wanted: &str| Fields::new(payload).find(|(key, _)| *key == wanted).map(|(_, value)| value);
        match &*call.name {
            "alloc" | "alloc_pages" => {
                self.heard.dma = true;
                let family = if call.name == "alloc" { Family::Coherent } else { Family::Pages };
                let Some(virt) = value("virt").and_then(number).filter(|virt| *virt != 0) else { return };
                let mapped = self.task(at.task).first_mapped();
                if mapped.is_none() && self.by_cpu.len() < MOST_BY_CPU {
                    self.by_cpu.insert(virt);
                }
                let op = Op { addr: Some(mapped.unwrap_or(virt)), virt: Some(virt), ..call.op(family) };
                self.take(at, &op);
            }
            "map_page" | "map_resource" => {
                self.heard.dma = true;
                let family = if call.name == "map_page" { Family::Single } else { Family::Resource };
                // All-ones is a mapping that failed.
                let Some(addr) = value("dma").and_then(number).filter(|addr| *addr != u64::MAX) else { return };
                self.take(at, &Op { addr: Some(addr), ..call.op(family) });
            }
            "unmap_page" => self.give(at, &call.op(Family::Single)),
            "unmap_resource" => self.give(at, &call.op(Family::Resource)),
            "map_sg" | "map_sgtable" => {
                self.heard.dma = true;
                let number = |key| value(key).and_then(|value| value.parse::<i32>().ok());
                if number("count").is_some_and(|count| count > 0) || number("err") == Some(0) {
                    let addr = self.task(at.task).first_mapped().or(Some(0));
                    self.take(at, &Op { addr, ..call.op(Family::Sg) });
                }
            }
            _ => {}
        }
    }

    /// The call of `name` that returns now. Calls that began after it were left without a return, which was missed.
    fn returned(&mut self, key: TaskKey, name: &str) -> Option<Call> {
        let calls = &mut self.task(key).calls;
        let at = calls.iter().rposition(|call| call.name == name)?;
        calls.truncate(at + 1);
        calls.pop()
    }
}
