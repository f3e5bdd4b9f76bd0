//! Plan of injected faults.

#![forbid(unsafe_code)]

use bindery::instrument::FaultPoint;
use bindery::sync::SpinLock;

/// Most calls that are recorded; later ones are only counted.
const KEPT: usize = 1 << 16;

#[derive(Debug, Default)]
enum Plan {
    #[default]
    Never,
    /// The call with this number, from 1.
    Nth(u64),
    /// Every call at these points.
    Points(Vec<FaultPoint>),
}

#[derive(Debug, Default)]
struct State {
    plan: Plan,
    calls: u64,
    injected: u64,
    record: Option<Vec<FaultPoint>>,
}

/// Plan by which a board answers [`Env::should_fail`](bindery::instrument::Instrument::should_fail). A new plan injects none.
///
/// To fail each call in turn: run once while recording, then run once for each `n` from 1 to [`calls`](Self::calls) with
/// [`fail_nth`](Self::fail_nth).
#[derive(Debug, Default)]
pub struct FaultPlan(SpinLock<State>);

impl FaultPlan {
    fn set(&self, plan: Plan) {
        let mut state = self.0.lock();
        state.plan = plan;
        (state.calls, state.injected) = (0, 0);
    }

    /// Injects no faults, and restarts the count.
    pub fn never(&self) {
        self.set(Plan::Never);
    }

    /// Fails the `n`-th call from now on, counted from 1, and no other. 0 fails none.
    pub fn fail_nth(&self, n: u64) {
        self.set(Plan::Nth(n));
    }

    /// Fails every call at one of `points`.
    pub fn fail_points(&self, points: &[FaultPoint]) {
        self.set(Plan::Points(points.to_vec()));
    }

    /// Calls since the plan was set.
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// Number of injected faults since the plan was set.
    pub fn injected(&self) -> u64 {
        self.0.lock().injected
    }

    /// Records the point of each call from now on, in order, up to 65,536 of them.
    pub fn start_recording(&self) {
        self.0.lock().record = Some(Vec::new());
    }

    /// Ends recording and returns the points in order.
    pub fn take_record(&self) -> Vec<FaultPoint> {
        self.0.lock().record.take().unwrap_or_default()
    }

    /// Counts a call at `point` and decides whether it fails.
    pub fn should_fail(&self, point: FaultPoint) -> bool {
        let mut state = self.0.lock();
        state.calls += 1;
        if let Some(record) = &mut state.record
            && record.len() < KEPT
        {
            record.push(point);
        }
        let fails = match &state.plan {
            Plan::Never => false,
            Plan::Nth(n) => state.calls == *n,
            Plan::Points(points) => points.contains(&point),
        };
        state.injected += u64::from(fails);
        fails
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_nth_call_fails_counted_from_when_the_plan_was_set() {
        let plan = FaultPlan::default();
        assert!(!plan.should_fail(FaultPoint::MapIo));
        plan.fail_nth(3);
        let fails: Vec<bool> = (0..5).map(|_| plan.should_fail(FaultPoint::IovaAlloc)).collect();
        assert_eq!(fails, [false, false, true, false, false]);
        assert_eq!((plan.calls(), plan.injected()), (5, 1));
    }

    #[test]
    fn a_set_of_points_fails_and_the_record_keeps_their_order() {
        let plan = FaultPlan::default();
        plan.fail_points(&[FaultPoint::CmaAlloc]);
        plan.start_recording();
        assert!(!plan.should_fail(FaultPoint::MapIo));
        assert!(plan.should_fail(FaultPoint::CmaAlloc));
        assert_eq!(plan.take_record(), [FaultPoint::MapIo, FaultPoint::CmaAlloc]);
        plan.never();
        assert!(!plan.should_fail(FaultPoint::CmaAlloc));
        assert_eq!(plan.take_record(), []);
    }
}
