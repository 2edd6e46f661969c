//! Which of several endpoints takes the next call.
//!
//! Pure but for the endpoints' counters: randomness is an argument. Who the
//! endpoints are, and what becomes of the call, is not known here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Endpoint;

/// The less busy of two endpoints taken at random, of those that work: not of
/// those that cannot be reached, and not of those that are ejected because they
/// keep failing. Where all work, which is nearly always, that costs a load for
/// each. `None` without endpoints only: where none works, each may be chosen.
pub fn choose(endpoints: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
    choose_by(endpoints, Instant::now, |bound| rand::random_range(0..bound))
}

fn choose_by(
    endpoints: &[Arc<Endpoint>],
    now: impl FnOnce() -> Instant,
    random: impl FnMut(usize) -> usize,
) -> Option<Arc<Endpoint>> {
    if endpoints.len() < 2 || !endpoints.iter().any(|endpoint| endpoint.health().is_suspect()) {
        return less_busy(endpoints, random).cloned();
    }
    let now = now();
    let reachable: Vec<_> = endpoints
        .iter()
        .filter(|endpoint| endpoint.health().is_reachable(now))
        .collect();
    let reachable = if reachable.is_empty() {
        endpoints.iter().collect()
    } else {
        reachable
    };
    let left: Vec<_> = reachable
        .iter()
        .map(|endpoint| endpoint.health().ejected_for(now))
        .collect();
    let working: Vec<_> = reachable
        .into_iter()
        .zip(left_out(&left))
        .filter(|(_, out)| !out)
        .map(|(endpoint, _)| Arc::clone(endpoint))
        .collect();
    less_busy(&working, random).cloned()
}

/// Nearly as even as looking at all of them, and callers that decide at the same
/// moment do not all pick one.
fn less_busy(endpoints: &[Arc<Endpoint>], mut random: impl FnMut(usize) -> usize) -> Option<&Arc<Endpoint>> {
    let [first, rest @ ..] = endpoints else { return None };
    if rest.is_empty() {
        return Some(first);
    }
    let one = random(endpoints.len());
    // Skips `one`, so that the two always differ.
    let other = (one + 1 + random(endpoints.len() - 1)) % endpoints.len();
    let (one, other) = (&endpoints[one], &endpoints[other]);
    Some(if other.in_flight() < one.in_flight() {
        other
    } else {
        one
    })
}

/// Which endpoints are left out of a choice, given what is left of each one's
/// ejection: at most half of them, those with the most left, and so never the last.
fn left_out(left: &[Duration]) -> Vec<bool> {
    let mut ejected: Vec<usize> = (0..left.len()).filter(|&index| !left[index].is_zero()).collect();
    ejected.sort_by_key(|&index| std::cmp::Reverse(left[index]));
    let mut out = vec![false; left.len()];
    for index in ejected.into_iter().take(left.len() / 2) {
        out[index] = true;
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BinaryHeap;

    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::upstream::{Address, InFlight, PoolLimits};

    fn endpoints(count: usize) -> Vec<Arc<Endpoint>> {
        (0..count)
            .map(|number| Endpoint::new(Address::Unix(format!("/{number}").into()), PoolLimits::default()))
            .collect()
    }

    /// The number of the endpoint that is chosen with these random numbers.
    fn chosen(endpoints: &[Arc<Endpoint>], random: impl FnMut(usize) -> usize) -> Option<usize> {
        let chosen = choose_by(endpoints, Instant::now, random)?;
        endpoints.iter().position(|endpoint| Arc::ptr_eq(endpoint, &chosen))
    }

    #[test]
    fn calls_go_to_the_less_busy_of_two() {
        let endpoints = endpoints(3);
        let _busy = [endpoints[0].begin(), endpoints[2].begin(), endpoints[2].begin()];
        for (first, second, expected) in [(0, 0, 1), (1, 0, 1), (2, 0, 0), (2, 1, 1), (0, 1, 0)] {
            let mut answers = [first, second].into_iter();
            let chosen = chosen(&endpoints, |_| answers.next().expect("asked twice"));
            assert_eq!(chosen, Some(expected), "{first} {second}");
        }
        assert!(chosen(&endpoints[..1], |_| unreachable!("nothing to choose")).is_some());
        assert!(chosen(&[], |_| unreachable!("nothing to choose")).is_none());
    }

    #[test]
    fn calls_do_not_go_to_an_ejected_one() {
        let endpoints = endpoints(2);
        let hour = Duration::from_secs(3600);
        endpoints[0].health().failed(1, hour, hour);
        let none = |_| unreachable!("nothing to choose");
        assert_eq!(chosen(&endpoints, none), Some(1));
        assert_eq!(
            chosen(&endpoints[..1], none),
            Some(0),
            "the last is called all the same"
        );
        endpoints[0].health().succeeded();
        assert_eq!(chosen(&endpoints, |_| 0), Some(0));
    }

    #[test]
    fn calls_do_not_go_where_nobody_listens_while_somebody_does_elsewhere() {
        let endpoints = endpoints(4);
        let none = |_| unreachable!("nothing to choose");
        // Three of four: here more than half may be left out.
        for endpoint in &endpoints[..3] {
            endpoint.health().unreachable();
        }
        assert_eq!(chosen(&endpoints, none), Some(3));
        endpoints[3].health().unreachable();
        assert_eq!(chosen(&endpoints, |_| 0), Some(0), "any, when all are");
        endpoints[1].health().reached();
        assert_eq!(chosen(&endpoints, none), Some(1));
    }

    #[test]
    fn at_most_half_are_left_out_and_never_the_last() {
        for (left, expected) in [
            (&[][..], &[][..]),
            (&[0], &[false]),
            (&[9], &[false]),
            (&[0, 0], &[false, false]),
            (&[0, 9], &[false, true]),
            (&[8, 9], &[false, true]),
            (&[1, 0, 9], &[false, false, true]),
            (&[3, 1, 2, 0], &[true, false, true, false]),
            (&[3, 1, 2, 4, 5], &[false, false, false, true, true]),
        ] {
            let left: Vec<_> = left.iter().copied().map(Duration::from_secs).collect();
            assert_eq!(left_out(&left), expected, "{left:?}");
        }
    }

    /// Calls for each endpoint, of 10,000 that begin one after the other; each
    /// lasts as long as its endpoint takes, counted in calls.
    fn calls(lasting: &[usize]) -> Vec<f64> {
        let endpoints = endpoints(lasting.len());
        let mut random = StdRng::seed_from_u64(7);
        let mut under_way: BinaryHeap<(std::cmp::Reverse<usize>, usize)> = BinaryHeap::new();
        let mut guards: Vec<Option<InFlight>> = Vec::new();
        let mut counts = vec![0.0; lasting.len()];
        for now in 0..10_000 {
            while under_way.peek().is_some_and(|(end, _)| end.0 <= now) {
                let ended = under_way.pop().map(|(_, call)| call);
                drop(ended.and_then(|call| guards[call].take()));
            }
            let taken = chosen(&endpoints, |bound| random.random_range(0..bound)).expect("some");
            counts[taken] += 1.0;
            under_way.push((std::cmp::Reverse(now + lasting[taken]), guards.len()));
            guards.push(Some(endpoints[taken].begin()));
        }
        counts
    }

    #[test]
    fn equal_endpoints_share_the_calls_evenly_and_a_slow_one_gets_fewer() {
        let deviation = |counts: &[f64]| {
            let mean = counts.iter().sum::<f64>() / counts.len() as f64;
            let squares = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>();
            (squares / counts.len() as f64).sqrt() / mean
        };
        // With one call at a time chance decides alone: 1.7 % is usual then.
        for (lasting, most) in [(0, 0.03), (8, 0.02), (100, 0.01)] {
            let counts = calls(&[lasting; 4]);
            assert!(deviation(&counts) < most, "{lasting}: {counts:?}");
        }
        let counts = calls(&[8, 8, 8, 80]);
        let usual = counts[..3].iter().sum::<f64>() / 3.0;
        assert!(counts[3] < usual / 2.0, "{counts:?}");
        assert!(deviation(&counts[..3]) < 0.03, "{counts:?}");
    }
}
