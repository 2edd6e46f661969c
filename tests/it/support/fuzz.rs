//! Runs a fuzz target: one case after the other, each from a seed of its own,
//! for so many seconds.
//!
//! `make test` looks for a few seconds, always from the same seed; `make fuzz` as
//! long as one likes, from a new one. `FUZZ_SECONDS` and `FUZZ_SEED` set both. A
//! case that fails is made smaller, and the report says which seed repeats it.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant, SystemTime},
};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

/// Where `make test` starts.
const SEED: u64 = 1;

/// Longest time for one case; the slowest machine needs a fraction.
const HANGS: Duration = Duration::from_secs(60);

/// Most steps towards a smaller case, and the longest time for them.
const SHRINKS: u32 = 2_000;
const SHRINKING: Duration = Duration::from_secs(60);

/// What is tried with many cases.
pub(crate) trait Target: Sized + 'static {
    /// One of them.
    type Case: Debug + 'static;

    /// Where they come from.
    fn cases() -> impl Strategy<Value = Self::Case>;

    /// What a report says of one.
    fn show(&self, case: &Self::Case) -> String;

    /// What has to be true of each.
    fn check(&self, case: &Self::Case) -> Result<(), TestCaseError>;
}

/// A bound of the run, from the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the bounds of these tests, not a setting of the gateway"
)]
fn bound(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a whole number, not '{text}'")),
    )
}

/// How long to look, when `make test` looks for so many seconds.
pub(crate) fn seconds(usual: u64) -> u64 {
    bound("FUZZ_SECONDS").unwrap_or(usual)
}

/// Tries cases for so many seconds, on a thread of their own; how many there
/// were. Fails with the first that does, or that hangs.
pub(crate) fn run<T: Target>(usual: u64, prepare: impl FnOnce() -> T + Send + 'static) -> u64 {
    let fresh = || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(SEED, |since| since.as_secs() << 20)
    };
    let asked = bound("FUZZ_SECONDS");
    let seed = bound("FUZZ_SEED").unwrap_or_else(|| asked.map_or(SEED, |_| fresh()));
    let length = Duration::from_secs(seconds(usual));
    println!("FUZZ_SEED={seed}");

    let now = Arc::new(Mutex::new(String::new()));
    let (sender, outcomes) = mpsc::channel();
    let worker = {
        let now = Arc::clone(&now);
        std::thread::spawn(move || {
            let target = prepare();
            let end = Instant::now() + length;
            for seed in seed.. {
                let outcome = one(&target, seed, &now, &sender);
                let last = outcome.is_err() || Instant::now() >= end;
                if sender.send(Some((seed, outcome))).is_err() || last {
                    break;
                }
            }
        })
    };
    let mut done = 0;
    loop {
        match outcomes.recv_timeout(HANGS) {
            Ok(None) => {}
            Ok(Some((_, Ok(())))) => done += 1,
            Ok(Some((seed, Err(report)))) => panic!("FUZZ_SEED={seed} repeats this:\n{report}"),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let case = now.lock().expect("one writer").clone();
                panic!("FUZZ_SEED={} hangs:\n{case}", seed + done);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    worker.join().expect("no panic outside of a case");
    done
}

/// How a case ended; nothing at each step of one.
type Step = Option<(u64, Result<(), String>)>;

/// One case from its own seed, made smaller if it fails.
fn one<T: Target>(target: &T, seed: u64, now: &Mutex<String>, steps: &mpsc::Sender<Step>) -> Result<(), String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let settings = Config {
        cases: 1,
        max_shrink_iters: SHRINKS,
        max_shrink_time: u32::try_from(SHRINKING.as_millis()).unwrap_or(u32::MAX),
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(settings, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome = runner.run(&T::cases(), |case| {
        *now.lock().expect("one writer") = target.show(&case);
        // Nobody listens any more once another case has failed.
        let _ = steps.send(None);
        target.check(&case)
    });
    outcome.map_err(|error| match error {
        TestError::Fail(reason, case) => format!("{}\n{reason}", target.show(&case)),
        TestError::Abort(reason) => reason.to_string(),
    })
}
