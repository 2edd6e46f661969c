//! What the `com.openfaas.scale.*` labels allow. Pure.
//!
//! Values that cannot be read fall back to the default (compatibility.md
//! section 3.1); there are no caps beyond the labels (section 12).

use std::collections::BTreeMap;

use crate::model::label::{SCALE_MAX, SCALE_MIN};

/// How many replicas a function may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest.
    pub min: u64,
    /// Most, where a label says so.
    pub max: Option<u64>,
}

impl Bounds {
    /// Reads the labels; without them a function has one replica or more.
    pub fn from_labels(labels: Option<&BTreeMap<String, String>>) -> Self {
        let read = |name: &str| labels?.get(name)?.trim().parse::<u64>().ok();
        Self {
            min: read(SCALE_MIN).unwrap_or(1),
            max: read(SCALE_MAX),
        }
    }

    /// Replicas to start with when a call arrives at zero.
    pub fn from_zero(self) -> u64 {
        self.min.max(1)
    }

    /// The nearest permitted number to what someone asked for. 0 is always
    /// permitted: it is how a function is stopped by hand.
    pub fn clamp(self, replicas: u64) -> u64 {
        match self.max {
            Some(max) if replicas > 0 => replicas.min(max.max(1)),
            _ => replicas,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn labels_set_the_bounds() {
        for (given, min, max) in [
            (labels(&[]), 1, None),
            (labels(&[(SCALE_MIN, "2"), (SCALE_MAX, "8")]), 2, Some(8)),
            (labels(&[(SCALE_MIN, "0")]), 0, None),
            (labels(&[(SCALE_MIN, "-1"), (SCALE_MAX, "many")]), 1, None),
        ] {
            assert_eq!(Bounds::from_labels(Some(&given)), Bounds { min, max }, "{given:?}");
        }
        assert_eq!(Bounds::from_labels(None), Bounds { min: 1, max: None });
    }

    #[test]
    fn zero_is_permitted_and_max_binds() {
        let bounds = Bounds { min: 2, max: Some(4) };
        for (asked, given) in [(0, 0), (1, 1), (3, 3), (9, 4)] {
            assert_eq!(bounds.clamp(asked), given);
        }
        assert_eq!(Bounds { min: 0, max: None }.from_zero(), 1);
        assert_eq!(Bounds { min: 3, max: None }.from_zero(), 3);
    }
}
