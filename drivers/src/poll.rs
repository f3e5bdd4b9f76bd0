//! Waiting for a register to change, for a time that is short and bounded.

use core::time::Duration;

use bindery::env::Instant;

/// Reads after which a wait ends whatever the clock says, so that a clock that stands still ends it, too.
const READS: u32 = 1 << 20;

/// Calls `done` until it says true or an error, for at most `timeout` of the time that `now` tells. True when it said so.
///
/// It does not let the CPU sleep and delivers no interrupts, so it may be called with locks held; keep `timeout` in the
/// range of a millisecond.
pub(crate) fn poll<E>(
    now: impl Fn() -> Instant,
    timeout: Duration,
    mut done: impl FnMut() -> Result<bool, E>,
) -> Result<bool, E> {
    let deadline = now() + timeout;
    for _ in 0..READS {
        // The clock is read first: a wait that was held up for long still looks once more before it gives up.
        let late = now() >= deadline;
        if done()? {
            return Ok(true);
        }
        if late {
            break;
        }
        // No pause: a read of a register takes longer than one.
    }
    Ok(false)
}
