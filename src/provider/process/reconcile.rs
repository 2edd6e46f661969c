//! Which replicas to start and which to stop.
//!
//! A pure decision, taken anew after every event, over the replicas that are
//! not being stopped already.

/// A replica that exists and is not being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Revision of the deployment it runs.
    pub(super) revision: u64,
    /// Whether it takes calls.
    pub(super) ready: bool,
}

/// What to do next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// So many new replicas of the wanted revision.
    pub(super) start: usize,
    /// Indices of replicas to stop.
    pub(super) stop: Vec<usize>,
}

/// Brings `seen` closer to `replicas` replicas of `revision`.
///
/// Replicas of older revisions that are ready stay until as many new ones are:
/// an update whose command never becomes ready leaves the old one serving.
pub(super) fn plan(revision: u64, replicas: usize, seen: &[Seen]) -> Plan {
    let (mut current, mut older): (Vec<usize>, Vec<usize>) =
        (0..seen.len()).partition(|index| seen[*index].revision == revision);
    // Ready ones first, then in the order they were started: the tail goes first.
    current.sort_by_key(|index| !seen[*index].ready);
    let mut stop = current.split_off(current.len().min(replicas));

    let ready = current.iter().filter(|index| seen[**index].ready).count();
    older.sort_by_key(|index| (!seen[*index].ready, std::cmp::Reverse(seen[*index].revision)));
    let serving = older.iter().filter(|index| seen[**index].ready).count();
    stop.extend(older.split_off(serving.min(replicas - ready)));
    stop.sort_unstable();
    Plan {
        start: replicas - current.len(),
        stop,
    }
}

/// The same for replicas that cannot run beside each other, because they listen
/// on one port: one replica, started when all others are gone. `leaving` says
/// that some are still being stopped.
pub(super) fn plan_alone(revision: u64, replicas: usize, seen: &[Seen], leaving: bool) -> Plan {
    let keep = (0..seen.len()).find(|index| replicas > 0 && seen[*index].revision == revision);
    Plan {
        start: usize::from(replicas > 0 && seen.is_empty() && !leaving),
        stop: (0..seen.len()).filter(|index| Some(*index) != keep).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(what: &str, replicas: usize, seen: &[(u64, bool)], start: usize, stop: &[usize]) {
        let seen: Vec<Seen> = seen
            .iter()
            .map(|(revision, ready)| Seen {
                revision: *revision,
                ready: *ready,
            })
            .collect();
        let expected = Plan {
            start,
            stop: stop.to_vec(),
        };
        assert_eq!(plan(2, replicas, &seen), expected, "{what}");
    }

    #[test]
    fn scaling() {
        check("from nothing", 3, &[], 3, &[]);
        check("enough", 2, &[(2, true), (2, false)], 0, &[]);
        check("up", 3, &[(2, true)], 2, &[]);
        check(
            "down stops the newest",
            1,
            &[(2, true), (2, true), (2, true)],
            0,
            &[1, 2],
        );
        check(
            "down stops what is not ready first",
            1,
            &[(2, false), (2, true)],
            0,
            &[0],
        );
        check("to zero", 0, &[(2, true), (2, false), (1, true)], 0, &[0, 1, 2]);
    }

    #[test]
    fn alone() {
        for (what, replicas, seen, leaving, start, stop) in [
            ("from nothing", 1, &[][..], false, 1, &[][..]),
            ("after the one before", 1, &[], true, 0, &[]),
            ("the old goes first", 1, &[(1, true)], false, 0, &[0]),
            ("there already", 1, &[(2, false)], false, 0, &[]),
            ("only one", 3, &[(2, true), (2, true), (1, true)], false, 0, &[1, 2]),
            ("to zero", 0, &[(2, true)], false, 0, &[0]),
        ] {
            let seen: Vec<Seen> = seen.iter().map(|&(revision, ready)| Seen { revision, ready }).collect();
            let stop = stop.to_vec();
            assert_eq!(plan_alone(2, replicas, &seen, leaving), Plan { start, stop }, "{what}");
        }
    }

    #[test]
    fn rolling() {
        check(
            "the old serve until the new are ready",
            2,
            &[(1, true), (1, true)],
            2,
            &[],
        );
        check(
            "while the new start",
            2,
            &[(1, true), (1, true), (2, false), (2, false)],
            0,
            &[],
        );
        check("one by one", 2, &[(1, true), (1, true), (2, true), (2, false)], 0, &[1]);
        check("all ready", 2, &[(1, true), (2, true), (2, true)], 0, &[0]);
        check("old ones that never got ready go at once", 1, &[(1, false)], 1, &[0]);
        check(
            "two updates in a row: the newest that serves stays",
            1,
            &[(0, true), (1, true)],
            1,
            &[0],
        );
        check(
            "scaled down while rolling",
            1,
            &[(1, true), (1, true), (2, false)],
            0,
            &[1],
        );
    }
}
