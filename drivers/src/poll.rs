//! Polling of a register for a short, bounded time.

use core::time::Duration;

use bindery::env::Instant;

/// Reads after which polling ends whatever the clock says, so that it ends when the clock stands still, too.
const READS: u32 = 1 << 20;

/// Calls `done` until it returns true or an error, for at most `timeout` by the clock `now`. Returns false when the time ran
/// out.
///
/// The CPU does not sleep and no interrupts are delivered, so the caller may hold locks; `timeout` should not exceed about
/// a millisecond.
pub(crate) fn poll<E>(
    now: impl Fn() -> Instant,
    timeout: Duration,
    mut done: impl FnMut() -> Result<bool, E>,
) -> Result<bool, E> {
    let deadline = now() + timeout;
    for _ in 0..READS {
        // The clock is read first, so that a poll that was preempted past its deadline still checks once more.
        let late = now() >= deadline;
        if done()? {
            return Ok(true);
        }
        if late {
            break;
        }
        // No pause between reads: a register access takes longer than one.
    }
    Ok(false)
}
