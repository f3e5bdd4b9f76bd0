//! What a driver does for the time of one call: it lends buffers, and groups resources.

use bindery::binding::Devres;
use bindery::dma::{Direction, DmaBuffer, DmaError};
use bindery::promise::Promise;

use super::ring::{PAGE, Port, WORD};

/// What the driver writes to a buffer that it has back.
const OWN: u64 = 0x0123_4567_89ab_cdef;

/// The words of a buffer that the device reads, and writes.
fn words(buffer: &DmaBuffer) -> (u64, u64) {
    let [mut read, mut written] = [[0; 8]; 2];
    buffer.read_bytes(0, &mut read);
    buffer.read_bytes(8, &mut written);
    (u64::from_le_bytes(read), u64::from_le_bytes(written))
}

impl Port<'_> {
    /// Lends two buffers, which the device uses: one is unmapped early, and the handle of the other is forgotten. Both are the
    /// driver's again afterwards.
    pub(super) fn lend(&self, has_line: bool) -> Result<(), String> {
        let streams = self.streams.as_ref().ok_or("it does not stream")?;
        let dma = self.dev.dma();
        // Memory is lost with a handle that is forgotten: somebody else's, if there is any.
        let (first, second) = (&mut dma.buffer(PAGE).map_err(|error| error.to_string())?, (streams.around.lend)());
        let forgets = second.is_some();
        let second = &mut second.map_or_else(|| dma.buffer(PAGE), Ok).map_err(|error| error.to_string())?;
        for buffer in [&mut *first, &mut *second] {
            let bytes = buffer.as_mut_slice();
            bytes[..8].copy_from_slice(&WORD.to_le_bytes());
            bytes[8..16].fill(0);
        }
        let (mut early, mut used, mut has_forgotten) = (None, 0, false);
        let ended = dma.scope(|scope| {
            let refused = |error: DmaError| error.to_string();
            let mapped = scope.map(&mut *first, Direction::Bidirectional).map_err(|r| refused(r.error))?;
            let other = scope.map(&mut *second, Direction::Bidirectional).map_err(|r| refused(r.error))?;
            for at in [mapped.device_addr(), other.device_addr()] {
                self.copy(0, at.0, has_line)?;
                used += 1;
            }
            if forgets {
                std::mem::forget(other);
                has_forgotten = true;
            }
            (streams.around.look)("while a buffer is lent");
            let unmapped = mapped.unmap();
            let is_off = unmapped.is_ok();
            let buffer = unmapped.unwrap_or_else(|refused| refused.returned);
            early = Some((is_off, words(buffer)));
            // It uses it for something else.
            buffer.as_mut_slice()[..8].copy_from_slice(&OWN.to_le_bytes());
            buffer.as_mut_slice()[8..16].copy_from_slice(&OWN.to_le_bytes());
            Ok::<_, String>(())
        });
        let is_off = ended.is_ok();
        let result = ended.unwrap_or_else(|refused| refused.returned.and(Err(refused.error.to_string())));
        let is_copied = |words: (u64, u64)| words == (WORD, !WORD);
        let wrong = |kind: &str, detail: String| self.wrong(Promise::CoherentAtTransfer, kind, detail);
        if let Some((true, words)) = early.filter(|(_, words)| !is_copied(*words)) {
            wrong("lent buffer", format!("a lent buffer has {words:x?} after its unmap"));
        }
        if early.is_some() && words(first) != (OWN, OWN) {
            wrong("buffer changed", format!("a buffer that was the driver's again has {:x?}", words(first)));
        }
        if early.is_some_and(|(is_off, _)| !is_off) {
            self.lend_again(first, has_line);
        }
        if used == 2 && is_off && !is_copied(words(second)) {
            wrong("lent buffer", format!("a lent buffer has {:x?} after the call", words(second)));
        }
        if is_off {
            let reached = (streams.around.reached)();
            if let Some(page) =
                [&*first, &*second].iter().map(|buffer| buffer.phys().0).find(|page| reached.contains(page))
            {
                let detail = format!("{page:#x} was lent, and a device reaches it afterwards");
                self.wrong(Promise::UnreachableBeforeFree, "lent page reached", detail);
            }
        }
        if has_forgotten {
            self.owners().seen().lost.insert(second.phys().0);
        }
        (streams.around.look)("when lent buffers are back");
        result
    }

    /// Lends a buffer that a device could not be taken off when it was given back. The device reads what the driver has written since.
    fn lend_again(&self, buffer: &mut DmaBuffer, has_line: bool) {
        let lent = self.dev.dma().scope(|scope| {
            let mapped =
                scope.map(&mut *buffer, Direction::Bidirectional).map_err(|refused| refused.error.to_string())?;
            self.copy(0, mapped.device_addr().0, has_line)
        });
        if matches!(lent, Ok(Ok(()))) && words(buffer) != (OWN, !OWN) {
            let detail = format!("a buffer that is lent again has {:x?}", words(buffer));
            self.wrong(Promise::CoherentAtTransfer, "lent buffer", detail);
        }
    }

    /// Opens groups of resources in one another. Memory of the innermost one stays when the middle one is closed under its handle, and
    /// goes with the outer one.
    pub(super) fn nest(&self) -> Result<(), String> {
        let outer = self.dev.devres_group();
        let mut kept = None;
        let middle = outer.bound().devres(|middle| {
            let inner = middle.devres(|inner| {
                kept = Some(inner.dma().coherent(PAGE)?);
                Ok::<_, DmaError>(())
            })?;
            // It is never closed by itself.
            std::mem::forget(inner);
            Ok::<_, DmaError>(())
        });
        let result = middle.map(Devres::release);
        drop(kept);
        outer.release();
        result.map_err(|error| error.to_string())
    }
}
