//! Buffers that a driver streams: in a mapping arena, by themselves, or lent for the time of a call.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bindery::addr::PAGE_SIZE;
use bindery::binding::Bound;
use bindery::dma::{Arena, ArenaSlot, Direction, DmaBuffer, DmaError, Mapped};
use bindery::driver::ProbeError;

use super::ring::PAGE;

/// Slots of an arena.
const SLOTS: u32 = 4;

/// How a buffer is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum How {
    /// Three pages in an arena.
    Pages,
    /// A list of two buffers in a slot of an arena.
    List,
    /// A page of somebody else's in an arena.
    Adopted,
    /// One page by itself.
    Alone,
}

/// What the driver of a device asks of its surroundings, by the name of the device, if it streams buffers.
pub(super) type AroundOf = Arc<dyn Fn(&str) -> Option<Around> + Send + Sync>;
/// Device addresses and pages of a mapping.
pub(super) type Places = Vec<(u64, u64)>;

/// What a driver that streams asks of its surroundings.
#[derive(Clone)]
pub(super) struct Around {
    /// Compares what is free with what devices reach.
    pub(super) look: Arc<dyn Fn(&str) + Send + Sync>,
    /// Pages that devices reach.
    pub(super) reached: Arc<dyn Fn() -> BTreeSet<u64> + Send + Sync>,
    /// A page that somebody else lends.
    pub(super) lend: Arc<dyn Fn() -> Option<DmaBuffer> + Send + Sync>,
}

impl Around {
    /// Has the binding of `dev` look when all that is acquired later has ended, and before all that is acquired earlier has.
    pub(super) fn look_between(
        &self,
        dev: Bound<'_>,
        when: &'static str,
    ) -> Result<(), bindery::binding::ResourceError> {
        let look = Arc::clone(&self.look);
        dev.action("look", move || look(when))
    }
}

/// A mapping.
enum Handle<'b> {
    Slot(ArenaSlot),
    Alone(Mapped<'b>),
}

#[derive(Default)]
struct Inside<'b> {
    arena: Option<Arena<'b>>,
    /// Oldest first.
    live: VecDeque<(Handle<'b>, Places, How)>,
}

/// The mappings of one binding.
pub(super) struct Streams<'b> {
    dev: Bound<'b>,
    pub(super) around: Around,
    /// `None` while another CPU is in it.
    inside: Mutex<Option<Inside<'b>>>,
}

/// Refusal of a driver that does one thing at a time.
const BUSY: &str = "another CPU maps";

impl<'b> Streams<'b> {
    /// Makes an arena, and has the binding look before and after it ends.
    pub(super) fn between_looks(dev: Bound<'b>, around: Around) -> Result<Self, ProbeError> {
        around.look_between(dev, "when the arena has ended")?;
        let inside = Inside { arena: Some(dev.dma().arena(SLOTS)?), live: VecDeque::new() };
        around.look_between(dev, "before the arena ends")?;
        Ok(Self { dev, around, inside: Mutex::new(Some(inside)) })
    }

    /// Calls `act` with all of it, unless another CPU is in it. No lock is held meanwhile, so that others may run.
    fn with<R>(&self, act: impl FnOnce(&mut Inside<'b>) -> Result<R, String>) -> Result<R, String> {
        let place = || self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = place().take();
        let Some(mut inside) = taken else { return Err(BUSY.into()) };
        let result = act(&mut inside);
        *place() = Some(inside);
        result
    }

    /// Maps one more buffer, and says where.
    pub(super) fn map(&self, how: How) -> Result<Places, String> {
        let text = |error: DmaError| error.to_string();
        self.with(|inside| {
            let dma = self.dev.dma();
            let mut list = Vec::new();
            match how {
                How::Adopted => list.extend((self.around.lend)()),
                How::Pages => list.push(dma.buffer(3 * PAGE).map_err(text)?),
                How::List => list.extend([dma.buffer(PAGE).map_err(text)?, dma.buffer(PAGE).map_err(text)?]),
                How::Alone => list.push(dma.buffer(PAGE).map_err(text)?),
            }
            let pages: Vec<u64> = list.iter().flat_map(pages).collect();
            let (handle, places) = if how == How::Alone {
                let buffer = list.pop().ok_or("no buffer")?;
                let mapped = dma.map(buffer, Direction::Bidirectional).map_err(|refused| refused.error.to_string())?;
                let at = mapped.device_addr().0;
                (Handle::Alone(mapped), pages.iter().map(|page| (at, *page)).collect())
            } else {
                if inside.arena.is_none() {
                    inside.arena = Some(dma.arena(SLOTS).map_err(text)?);
                }
                let arena = inside.arena.as_mut().ok_or("no arena")?;
                let slot = if list.len() == 1 {
                    let buffer = list.pop().ok_or("no buffer")?;
                    arena.map(buffer, Direction::Bidirectional).map_err(|refused| refused.error.to_string())?
                } else {
                    arena.map_sg(&mut list, Direction::Bidirectional).map_err(text)?
                };
                let segments = arena.segments(slot).map_err(text)?;
                let at = segments.flat_map(|(at, len)| (at.0..at.0 + len).step_by(PAGE_SIZE as usize));
                (Handle::Slot(slot), at.zip(pages).collect::<Places>())
            };
            inside.live.push_back((handle, places.clone(), how));
            Ok(places)
        })
    }

    /// Unmaps what was mapped first, and frees its buffers.
    pub(super) fn unmap(&self, gone: impl FnOnce(&Places)) -> Result<(), String> {
        self.with(|inside| {
            let Some((handle, places, _)) = inside.live.pop_front() else { return Err("nothing is mapped".into()) };
            gone(&places);
            let result = match (handle, &mut inside.arena) {
                (Handle::Alone(mapped), _) => mapped.unmap().map(drop),
                (Handle::Slot(slot), Some(arena)) => arena.unmap_many([slot], &mut Vec::new()),
                (Handle::Slot(_), None) => Ok(()),
            };
            (self.around.look)("when a buffer was unmapped");
            result.map_err(|error| error.to_string())
        })
    }

    /// Unmaps all of it: the arena's with one flush.
    pub(super) fn unmap_all(&self, gone: impl Fn(&Places)) -> Result<(), String> {
        self.with(|inside| {
            let (mut slots, mut result) = (Vec::new(), Ok(()));
            for (handle, places, _) in inside.live.drain(..) {
                gone(&places);
                match handle {
                    Handle::Slot(slot) => slots.push(slot),
                    Handle::Alone(mapped) => result = mapped.unmap().map(drop).and(result),
                }
            }
            if let Some(arena) = &mut inside.arena {
                result = result.and(arena.unmap_many(slots, &mut Vec::new()));
            }
            (self.around.look)("when all buffers were unmapped");
            result.map_err(|error| error.to_string())
        })
    }

    /// Gives the arena back before the binding ends, with all that it maps.
    pub(super) fn release(&self, gone: impl Fn(&Places)) -> Result<(), String> {
        self.with(|inside| {
            let Some(arena) = inside.arena.take() else { return Err("no arena".into()) };
            inside.live.retain(|(handle, places, _)| {
                let is_slot = matches!(handle, Handle::Slot(_));
                if is_slot {
                    gone(places);
                }
                !is_slot
            });
            let result = arena.release();
            (self.around.look)("when the arena was released");
            result.map_err(|error| error.to_string())
        })
    }

    /// Forgets the arena. Returns the pages that are lost with it.
    pub(super) fn forget(&self) -> Result<BTreeSet<u64>, String> {
        self.with(|inside| {
            let Some(arena) = inside.arena.take() else { return Err("no arena".into()) };
            std::mem::forget(arena);
            let mut lost = BTreeSet::new();
            inside.live.retain(|(handle, places, _)| {
                let is_slot = matches!(handle, Handle::Slot(_));
                lost.extend(places.iter().map(|(_, page)| *page).filter(|_| is_slot));
                !is_slot
            });
            Ok(lost)
        })
    }

    /// Device address of the newest buffer in the arena.
    pub(super) fn newest(&self) -> Option<u64> {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = inside.as_ref()?.live.back()?;
        newest.1.first().map(|(at, _)| *at)
    }

    /// How the buffers are mapped, oldest first, and whether there is an arena. `None` while another CPU is in it.
    pub(super) fn live(&self) -> Option<(Vec<How>, bool)> {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = inside.as_ref()?;
        Some((inside.live.iter().map(|(_, _, how)| *how).collect(), inside.arena.is_some()))
    }
}

/// The pages of a buffer.
fn pages(buffer: &DmaBuffer) -> impl Iterator<Item = u64> + use<> {
    let first = buffer.phys().0;
    (first..first + buffer.len()).step_by(PAGE as usize)
}
