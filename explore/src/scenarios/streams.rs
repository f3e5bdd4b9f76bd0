//! Steps of drivers that stream buffers, and what is compared between two resources of such a driver.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use bindery::promise::Promise;
use bindery_sim::mmu::Reachable;

use super::effect::Effect;
use super::ring::{Owners, Port};
use super::setup::Setup;
use super::step::Step;
use super::stream::{Around, AroundOf, How, Places, Streams};
use super::topology::DEVICES;
use crate::engine::Violation;

impl Setup {
    /// How the buffers of device `d` are mapped, oldest first, and whether its driver has an arena. `None` when it does not stream.
    pub(super) fn streams_of(&self, d: usize) -> Option<(Vec<How>, bool)> {
        let streams = self.owners.of(DEVICES[d]).map(|held| held.streams);
        streams.filter(|_| self.topology.devices[d].buffers.is_some())
    }

    /// True when nothing of the core's would be lost with the arena of device `d`.
    pub(super) fn can_forget(&self, d: usize) -> bool {
        let streams = self.streams_of(d);
        streams.is_some_and(|(live, arena)| arena && live.iter().all(|how| matches!(how, How::Adopted | How::Alone)))
    }

    /// What the driver of a device asks of its surroundings, if it streams buffers.
    pub(super) fn around(&self) -> AroundOf {
        let (me, topology) = (Weak::clone(&self.me), self.topology.clone());
        Arc::new(move |name| {
            let spec = DEVICES.iter().zip(&topology.devices).find(|(device, _)| **device == name);
            spec.filter(|(_, spec)| spec.buffers.is_some())?;
            let [one, two, three] = [(); 3].map(|()| Weak::clone(&me));
            Some(Around {
                look: Arc::new(move |when| {
                    if let Some(setup) = one.upgrade() {
                        setup.look(when);
                    }
                }),
                reached: Arc::new(move || two.upgrade().map(|setup| setup.reached()).unwrap_or_default()),
                lend: Arc::new(move || {
                    let setup = three.upgrade()?;
                    setup.machine.adopt(setup.board.page_cache().lend()?).ok()
                }),
            })
        })
    }

    /// Pages that some device reaches: by the tables and the IOTLBs, or because nothing translates and it did not stop.
    pub(super) fn reached(&self) -> BTreeSet<u64> {
        let streams = self.topology.devices.iter().flat_map(|device| &device.streams);
        let by_iommu = streams.filter_map(|(i, stream)| match self.iommus[*i].reachable(*stream) {
            Reachable::Pages(pages) => Some(pages),
            Reachable::Everything => None,
        });
        let given = self.owners.stops().given.values().flatten().copied().collect::<Vec<_>>();
        by_iommu.flatten().map(|(_, page)| page).chain(given).collect()
    }

    /// Notes when a page is free that some device reaches. Nothing else happens meanwhile that this does not wait for.
    pub(super) fn look(&self, when: &str) {
        let both = self.env.quietly(|| {
            let mut both: BTreeSet<u64> = BTreeSet::new();
            self.with_free_pages(|free| both.extend(self.reached().intersection(free)));
            both
        });
        let wrong = both.iter().map(|page| {
            let detail = format!("{page:#x} is free {when}, and a device reaches it");
            Violation::new(Promise::UnreachableBeforeFree, "free page reached", detail)
        });
        self.owners.seen().wrong.extend(wrong);
    }

    /// Takes a step of a driver that streams buffers.
    pub(super) fn take_streaming(&self, step: Step) -> Effect {
        match step {
            Step::Map(d, how) => self.with_port(d, |port| Effect::of(port.streaming(|streams| port.map(streams, how)))),
            Step::Unmap(d) => self
                .with_port(d, |port| Effect::of(port.streaming(|streams| streams.unmap(|places| port.gone(places))))),
            Step::UnmapAll(d) => self.with_port(d, |port| {
                Effect::of(port.streaming(|streams| streams.unmap_all(|places| port.gone(places))))
            }),
            Step::ReleaseArena(d) => self
                .with_port(d, |port| Effect::of(port.streaming(|streams| streams.release(|places| port.gone(places))))),
            Step::ForgetArena(d) => self.with_port(d, |port| {
                Effect::of(port.streaming(|streams| {
                    port.owners().seen().lost.extend(streams.forget()?);
                    Ok(())
                }))
            }),
            Step::Copy(d) => {
                let has_line = self.topology.devices[d].line.is_some();
                self.with_port(d, |port| Effect::of(port.use_newest(has_line)))
            }
            Step::Lend(d) => {
                let has_line = self.topology.devices[d].line.is_some();
                self.with_port(d, |port| Effect::of(port.lend(has_line)))
            }
            Step::Nest(d) => self.with_port(d, |port| Effect::of(port.nest())),
            _ => Effect::Refused("no step of a driver that streams".into()),
        }
    }
}

impl<'b> Port<'b> {
    /// Calls `act`, and notes what the driver holds then.
    fn streaming<R>(&self, act: impl FnOnce(&Streams<'b>) -> Result<R, String>) -> Result<R, String> {
        let streams = self.streams.as_ref().ok_or("it does not stream")?;
        let result = act(streams);
        if let Some(live) = streams.live() {
            self.held(|held| held.streams = live);
        }
        result
    }

    pub(super) fn owners(&self) -> &Owners {
        &self.entry.owners
    }

    /// Notes what is wrong.
    pub(super) fn wrong(&self, promise: Promise, kind: &str, detail: String) {
        self.owners().seen().wrong.push(Violation::new(promise, kind, detail));
    }

    fn map(&self, streams: &Streams<'b>, how: How) -> Result<(), String> {
        let places = streams.map(how)?;
        // The device accesses it at once: IOMMUs cache it.
        let _ = (streams.around.reached)();
        self.held(|held| held.maps.extend(&places));
        Ok(())
    }

    /// A mapping at `places` is going.
    fn gone(&self, places: &Places) {
        self.held(|held| held.maps.retain(|place| !places.contains(place)));
    }

    /// Has the device use the buffer that was mapped last.
    fn use_newest(&self, has_line: bool) -> Result<(), String> {
        let at = self.streaming(|streams| Ok(streams.newest()))?.ok_or("nothing is mapped")?;
        self.copy(0, at, has_line)
    }
}
