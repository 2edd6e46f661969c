//! Several functions that share a route's calls by weight. Chance is an argument.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::sticky::Sticky;
use crate::config;

/// Separates the parts of a [`Target::key`]. No function's name has it.
pub const KEY_MARK: char = '/';

/// The functions of a route.
#[derive(Debug)]
pub struct Split {
    targets: Vec<Target>,
    /// What keeps a caller with one of them.
    pub sticky: Option<Sticky>,
}

/// A function of a route.
#[derive(Debug)]
pub struct Target {
    /// The function as the configuration names it.
    pub function: String,
    /// Names the function on this route, apart from every function and from
    /// the same function on other routes.
    pub key: Arc<str>,
    weight: u32,
}

impl Target {
    /// A function that shares a route's calls with no other.
    pub(super) fn alone(route: usize, function: &str) -> Self {
        Self {
            function: function.to_owned(),
            key: format!("{route}{KEY_MARK}{function}").into(),
            weight: 1,
        }
    }
}

impl Split {
    pub(super) fn new(route: usize, written: &config::Route) -> Self {
        let alone = written.function.iter().map(|function| Target::alone(route, function));
        let shared = written.split.iter().flatten().map(|shared| Target {
            weight: shared.weight,
            ..Target::alone(route, &shared.function)
        });
        let targets: Vec<Target> = alone.chain(shared).filter(|target| target.weight > 0).collect();
        let sticky = written.sticky.as_ref().filter(|_| targets.len() > 1);
        Self {
            sticky: sticky.and_then(Sticky::new),
            targets,
        }
    }

    /// Those that get calls.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The function for a number in `[0, 1)`, in shares of the weights.
    pub fn pick(&self, number: f64) -> Option<&Target> {
        if let [only] = self.targets.as_slice() {
            return Some(only);
        }
        let all: f64 = self.targets.iter().map(|target| f64::from(target.weight)).sum();
        let mut left = number * all;
        self.targets
            .iter()
            .find(|target| {
                left -= f64::from(target.weight);
                left < 0.0
            })
            // Rounding can leave a little.
            .or(self.targets.last())
    }

    /// The function for a caller: the same for the same value as long as the
    /// weights are. A change of weights moves callers only from functions that
    /// lost a share to those that won one (weighted rendezvous hashing).
    pub fn stick(&self, value: &[u8]) -> Option<&Target> {
        self.targets
            .iter()
            .map(|target| (-f64::from(target.weight) / number(value, &target.function).ln(), target))
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .map(|(_, target)| target)
    }
}

/// A number between 0 and 1, both apart, that looks random; the same in every
/// process, so that gateways beside each other agree.
fn number(value: &[u8], function: &str) -> f64 {
    let digest = Sha256::new()
        .chain_update(function)
        .chain_update([0])
        .chain_update(value)
        .finalize();
    let bits = digest
        .iter()
        .take(6)
        .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    (bits as f64 + 0.5) / (1_u64 << 48) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn split(weights: &[(&str, u32)]) -> Split {
        let targets = weights.iter().filter(|(_, weight)| *weight > 0);
        Split {
            targets: targets
                .map(|(function, weight)| Target {
                    function: (*function).to_owned(),
                    key: "".into(),
                    weight: *weight,
                })
                .collect(),
            sticky: None,
        }
    }

    #[test]
    fn numbers_fall_into_shares() {
        let shares = split(&[("a", 90), ("none", 0), ("b", 10)]);
        for (number, function) in [(0.0, "a"), (0.89, "a"), (0.9, "b"), (0.999_999, "b"), (1.0, "b")] {
            assert_eq!(shares.pick(number).expect("a target").function, function, "{number}");
        }
        assert!(split(&[("a", 0)]).pick(0.5).is_none());
        assert!(split(&[]).stick(b"x").is_none());
    }

    fn placed(shares: &Split) -> Vec<String> {
        let callers = (0..4000).map(|caller| format!("caller {caller}"));
        callers
            .map(|caller| shares.stick(caller.as_bytes()).expect("a target").function.clone())
            .collect()
    }

    #[test]
    fn callers_are_shared_by_weight_and_stay() {
        let placed_at = placed(&split(&[("a", 70), ("b", 20), ("c", 10), ("none", 0)]));
        let mut counts = BTreeMap::<&str, i32>::new();
        for function in &placed_at {
            *counts.entry(function).or_default() += 1;
        }
        for (function, expected) in [("a", 2800), ("b", 800), ("c", 400)] {
            assert!((counts[function] - expected).abs() < 200, "{counts:?}");
        }
        assert_eq!(counts.len(), 3);
        assert_eq!(
            placed_at,
            placed(&split(&[("c", 10), ("b", 20), ("a", 70)])),
            "order means nothing"
        );
    }

    #[test]
    fn a_change_of_weights_moves_as_few_as_possible() {
        let before = placed(&split(&[("a", 80), ("b", 10), ("c", 10)]));
        let after = placed(&split(&[("a", 80), ("b", 30), ("c", 10)]));
        let moved: Vec<_> = before.iter().zip(&after).filter(|(old, new)| old != new).collect();
        assert!(moved.iter().all(|(_, new)| *new == "b"), "only to the one that grew");
        // From 10 of 100 to 30 of 120.
        assert!((500..=700).contains(&moved.len()), "{}", moved.len());
    }
}
