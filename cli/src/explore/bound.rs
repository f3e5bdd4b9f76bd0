//! One of the bounds that `--bound` takes.

use std::str::FromStr;
use std::time::Duration;

use bindery_explore::engine::Bounds;

/// A bound, written `KEY=N`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Limit {
    /// `paths`: the exhaustive exploration ends after so many.
    Paths(u64),
    /// `states`: so many states are remembered.
    States(u64),
    /// `time`: the exhaustive exploration ends after so many seconds.
    Time(Duration),
    /// `depth`: a path is truncated after so many choice points.
    Depth(u32),
    /// `non-default`: a path has at most so many non-default choices.
    NonDefault(u32),
}

/// Keys of `--bound`.
const KEYS: &str = "paths=N, states=N, time=SECONDS, depth=N, non-default=N";

impl Limit {
    /// Sets this one in `bounds`.
    pub(super) fn apply(self, bounds: &mut Bounds) {
        match self {
            Self::Paths(paths) => bounds.paths = paths,
            Self::States(states) => bounds.states = states,
            Self::Time(time) => bounds.time = Some(time),
            Self::Depth(depth) => bounds.depth = Some(depth),
            Self::NonDefault(most) => bounds.non_default = Some(most),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("a bound is written KEY=N: {KEYS}"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{key} takes a whole number, not {value:?}"));
        let short = || u32::try_from(number()?).map_err(|_| format!("{key} goes up to {}", u32::MAX));
        match key {
            "paths" => number().map(Self::Paths),
            "states" => number().map(Self::States),
            "depth" => short().map(Self::Depth),
            "non-default" => short().map(Self::NonDefault),
            "time" => {
                let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                seconds.map(Self::Time).ok_or_else(|| format!("time takes seconds, not {value:?}"))
            }
            _ => Err(format!("there is no bound {key:?}; there are {KEYS}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_key_and_a_number() {
        assert_eq!("paths=7".parse(), Ok(Limit::Paths(7)));
        assert_eq!("time=0.5".parse(), Ok(Limit::Time(Duration::from_millis(500))));
        let mut bounds = Bounds::default();
        "non-default=2".parse::<Limit>().unwrap().apply(&mut bounds);
        assert_eq!(bounds.non_default, Some(2));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (text, why) in [
            ("paths", "KEY=N"),
            ("path=1", "\"path\"; there are paths=N"),
            ("paths=-1", "not \"-1\""),
            ("depth=4294967296", "goes up to 4294967295"),
            ("time=nan", "not \"nan\""),
            ("time=-1", "not \"-1\""),
            ("time=1e300", "not \"1e300\""),
        ] {
            let error = text.parse::<Limit>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
