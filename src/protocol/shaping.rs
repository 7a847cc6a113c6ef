use std::time::Duration;

use serde_json::value::RawValue;

/// How the events of a binding are held back: its `max_rate` and `conflate`. An extension; not set by clients that do not know
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Shaping {
    /// Not at all.
    #[default]
    Off,
    /// This way.
    On(Shape),
    /// `max_rate` is no number that is possible.
    InvalidRate,
    /// `conflate` is neither true nor false.
    InvalidConflate,
}

/// See [`Shaping`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The least time between two times at which what was gathered leaves. `None`: it leaves as soon as the client has read most
    /// of what came before.
    pub interval: Option<Duration>,
    /// Of each row only the latest state leaves.
    pub conflate: bool,
}

/// Most times per second.
const HIGHEST_RATE: f64 = 1_000.0;

/// Whoever wants less often gets it this often. Seconds.
const LONGEST_INTERVAL: f64 = 3_600.0;

impl Shaping {
    pub(super) fn parse(max_rate: Option<&RawValue>, conflate: Option<&RawValue>) -> Self {
        let interval = match max_rate.map(|raw| serde_json::from_str::<Option<f64>>(raw.get())) {
            None | Some(Ok(None)) => None,
            Some(Ok(Some(rate))) if rate > 0.0 && rate <= HIGHEST_RATE => {
                Some(Duration::from_secs_f64((1.0 / rate).min(LONGEST_INTERVAL)))
            }
            Some(_) => return Self::InvalidRate,
        };
        let conflate = match conflate.map(|raw| serde_json::from_str::<Option<bool>>(raw.get())) {
            None | Some(Ok(None)) => false,
            Some(Ok(Some(conflate))) => conflate,
            Some(Err(_)) => return Self::InvalidConflate,
        };
        match conflate || interval.is_some() {
            true => Self::On(Shape { interval, conflate }),
            false => Self::Off,
        }
    }

    /// The way, if there is one.
    pub fn shape(self) -> Option<Shape> {
        match self {
            Self::On(shape) => Some(shape),
            Self::Off | Self::InvalidRate | Self::InvalidConflate => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(max_rate: Option<&str>, conflate: Option<&str>) -> Shaping {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let (max_rate, conflate) = (max_rate.map(raw), conflate.map(raw));
        Shaping::parse(max_rate.as_deref(), conflate.as_deref())
    }

    fn on(milliseconds: Option<u64>, conflate: bool) -> Shaping {
        let interval = milliseconds.map(Duration::from_millis);
        Shaping::On(Shape { interval, conflate })
    }

    #[test]
    fn rates_become_intervals() {
        for (rate, milliseconds) in [
            ("5", 200),
            ("1000", 1),
            ("0.5", 2_000),
            ("1e-300", 3_600_000),
            ("4e0", 250),
        ] {
            assert_eq!(parse(Some(rate), None), on(Some(milliseconds), false), "{rate}");
            assert_eq!(
                parse(Some(rate), Some("true")),
                on(Some(milliseconds), true),
                "{rate}"
            );
        }
        assert_eq!(parse(None, Some("true")), on(None, true));
        assert_eq!(parse(Some("null"), Some("true")), on(None, true));
        for off in [None, Some("null"), Some("false")] {
            assert_eq!(parse(None, off), Shaping::Off);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_no_shape() {
        for rate in ["0", "-1", "1000.1", "\"5\"", "true", "[]", "1e999"] {
            assert_eq!(parse(Some(rate), None), Shaping::InvalidRate, "{rate}");
        }
        for conflate in ["1", "\"true\"", "{}"] {
            assert_eq!(
                parse(Some("5"), Some(conflate)),
                Shaping::InvalidConflate,
                "{conflate}"
            );
        }
    }
}
