//! What an alert of AlertManager means for a function's replicas
//! (compatibility.md section 3.2). Pure.
//!
//! There are no caps beyond the labels, and a factor of 0 turns this off for a
//! function (section 12).

use std::collections::BTreeMap;

use super::bounds::Bounds;
use crate::model::label::SCALE_FACTOR;

/// Most replicas of a function whose labels say nothing, as in OpenFaaS.
const DEFAULT_MAX: u64 = 5;

/// Share of the most replicas, in percent, that one alert adds.
const DEFAULT_FACTOR: u64 = 10;

/// How one alert ended or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The load is high.
    Firing,
    /// It is not any more; so is every word that is not `firing`.
    Resolved,
}

impl Status {
    /// The status that a word names.
    pub fn of(word: &str) -> Self {
        if word == "firing" { Self::Firing } else { Self::Resolved }
    }
}

/// Replicas for a function with these labels that has `current` of them; `None`
/// when alerts are not for it.
pub fn replicas(status: Status, current: u64, labels: Option<&BTreeMap<String, String>>) -> Option<u64> {
    let bounds = Bounds::from_labels(labels);
    let max = bounds.max.unwrap_or(DEFAULT_MAX).max(1);
    let factor = factor(labels)?;
    let step = max.saturating_mul(factor).div_ceil(100);
    Some(match status {
        Status::Firing => current.saturating_add(step).min(max),
        Status::Resolved => bounds.min,
    })
}

/// The factor of a function; `None` when it is 0. One that cannot be read, or is
/// above 100, is as if it were not there.
fn factor(labels: Option<&BTreeMap<String, String>>) -> Option<u64> {
    let written = labels.and_then(|labels| labels.get(SCALE_FACTOR)?.trim().parse().ok());
    match written {
        Some(0) => None,
        Some(factor @ 1..=100) => Some(factor),
        _ => Some(DEFAULT_FACTOR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::label::{SCALE_MAX, SCALE_MIN};

    #[test]
    fn alerts_add_a_share_of_the_most_and_their_end_leaves_the_least() {
        use Status::{Firing, Resolved};
        for (status, current, min, max, factor, expected) in [
            // compatibility.md section 3.2.
            (Firing, 1, "", "", "", Some(2)),
            (Firing, 4, "", "", "", Some(5)),
            (Firing, 5, "", "", "", Some(5)),
            (Firing, 1, "1", "5", "25", Some(3)),
            (Firing, 1, "1", "10", "100", Some(10)),
            (Firing, 9, "", "5", "", Some(5)),
            (Resolved, 8, "2", "20", "", Some(2)),
            (Resolved, 8, "", "", "", Some(1)),
            (Firing, 3, "", "200", "", Some(23)),
            (Firing, 3, "", "", "0", None),
            (Firing, 1, "", "", "101", Some(2)),
            (Firing, 1, "", "", "-1", Some(2)),
            (Firing, u64::MAX, "", "7", "50", Some(7)),
        ] {
            let labels = [(SCALE_MIN, min), (SCALE_MAX, max), (SCALE_FACTOR, factor)];
            let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
            let labels = labels
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            assert_eq!(
                replicas(status, current, Some(&labels)),
                expected,
                "{status:?} at {current} with {labels:?}"
            );
        }
        assert_eq!(Status::of("firing"), Firing);
        assert_eq!(Status::of("resolved"), Resolved);
        assert_eq!(Status::of("FIRING"), Resolved);
    }
}
