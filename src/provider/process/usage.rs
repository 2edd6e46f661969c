//! Processor and memory use of replicas, from `/proc`.
//!
//! Linux only; elsewhere there is no `/proc` and the answer is `None`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    time::{Duration, Instant},
};

use crate::model::FunctionUsage;

/// Kernel ticks per second in `/proc/PID/stat`: fixed on every architecture Rust supports.
const TICKS: f64 = 100.0;
/// Time between the two looks that processor use is computed from.
const INTERVAL: Duration = Duration::from_millis(100);

/// What `/proc/PID/stat` says about one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: u32,
    /// Processor time of the process and of its children that ended, in ticks.
    ticks: u64,
}

/// Use by the processes with these ids and all their descendants, over a tenth
/// of a second. Blocking.
pub(super) fn measure(roots: &[u32]) -> Option<FunctionUsage> {
    let began = Instant::now();
    let before = total_ticks(&members(&processes().ok()?, roots));
    std::thread::sleep(INTERVAL);
    let tree = members(&processes().ok()?, roots);
    let spent = total_ticks(&tree).saturating_sub(before) as f64 / TICKS;
    let memory: u64 = tree.keys().filter_map(|pid| resident_bytes(*pid)).sum();
    Some(FunctionUsage {
        cpu: Some((spent / began.elapsed().as_secs_f64() * 1000.0).into()),
        total_memory_bytes: Some((memory as f64).into()),
    })
}

fn total_ticks(tree: &BTreeMap<u32, Process>) -> u64 {
    tree.values().map(|process| process.ticks).sum()
}

/// The given processes and their descendants.
fn members(all: &BTreeMap<u32, Process>, roots: &[u32]) -> BTreeMap<u32, Process> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (pid, process) in all {
        children.entry(process.parent).or_default().push(*pid);
    }
    let mut found = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut next = roots.to_vec();
    while let Some(pid) = next.pop() {
        if seen.insert(pid)
            && let Some(process) = all.get(&pid)
        {
            found.insert(pid, *process);
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

fn processes() -> io::Result<BTreeMap<u32, Process>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Processes come and go while the directory is read.
        if let Some(process) = fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .as_deref()
            .and_then(parse_stat)
        {
            found.insert(pid, process);
        }
    }
    Ok(found)
}

/// Reads fields 4 (parent) and 14 to 17 (times) of proc(5) `stat`. The command
/// in field 2 may contain anything, so fields are counted from its end.
fn parse_stat(text: &str) -> Option<Process> {
    let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    Some(Process {
        parent: u32::try_from(number(4)?).ok()?,
        ticks: (14..=17).map(number).sum::<Option<u64>>()?,
    })
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_odd_commands() {
        let text = "42 (a) b (c) S 7 1 1 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        assert_eq!(parse_stat(text), Some(Process { parent: 7, ticks: 100 }));
        assert_eq!(parse_stat("42 (a"), None);
        assert_eq!(parse_stat("42 (a) S 7"), None);
    }

    #[test]
    fn a_tree_is_the_roots_and_what_descends_from_them() {
        let all = [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1)]
            .map(|(pid, parent)| (pid, Process { parent, ticks: 1 }))
            .into();
        assert_eq!(members(&all, &[10]).into_keys().collect::<Vec<_>>(), [10, 11, 12]);
        assert_eq!(total_ticks(&members(&all, &[10, 11, 20, 99])), 4);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_memory() {
        let usage = measure(&[std::process::id()]).expect("linux has /proc");
        assert!(
            usage.total_memory_bytes.is_some_and(|bytes| bytes.0 > 100_000.0),
            "{usage:?}"
        );
    }
}
