//! Both lanes do the same: two gateways, one with the fast lane and one without,
//! get the same bytes from a caller and from a function. What the function saw and
//! what the caller heard is compared, as are the ends of connections.

mod caller;
mod compare;
mod function;

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::runtime::Runtime;

use self::caller::{Lane, Outcome};
use super::grammar::{self, Case};
use crate::support::{
    fuzz::{self, Target},
    message,
};

/// How long `make test` looks.
const SECONDS: u64 = 6;

/// After how much silence a gateway is taken to wait for more. A difference has
/// to show with each: on a busy machine the first is too short at times.
const PATIENCE: [Duration; 3] = [
    Duration::from_millis(25),
    Duration::from_millis(150),
    Duration::from_millis(500),
];

struct Both {
    runtime: Runtime,
    fast: Lane,
    base: Lane,
    again: AtomicU64,
}

impl Both {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (fast, base) = runtime.block_on(async { tokio::join!(Lane::start(true), Lane::start(false)) });
        Self {
            runtime,
            fast,
            base,
            again: AtomicU64::new(0),
        }
    }
}

impl Target for Both {
    type Case = Case;

    fn cases() -> impl Strategy<Value = Case> {
        grammar::cases()
    }

    fn show(&self, case: &Case) -> String {
        let lines = |bytes: &[u8]| {
            message::shown(bytes).replace(
                "\r\n", "\r\n
  ",
            )
        };
        let mut text = String::new();
        for request in &case.requests {
            let (cuts, waits) = (request.cuts.len(), request.waits);
            let _ = writeln!(
                text,
                "caller, cuts: {cuts}, waits: {waits}:
  {}",
                lines(&request.bytes())
            );
        }
        for answer in &case.answers {
            let (early, closes) = (answer.early, answer.closes);
            let bytes = lines(&answer.bytes(false));
            let _ = writeln!(
                text,
                "function, early: {early}, closes: {closes}:
  {bytes}"
            );
        }
        if case.leaves.is_some() {
            text.push_str(
                "the caller leaves
",
            );
        }
        text
    }

    fn check(&self, case: &Case) -> Result<(), TestCaseError> {
        let mut differs = None;
        for patience in PATIENCE {
            let (fast, base): (Outcome, Outcome) = self
                .runtime
                .block_on(async { tokio::join!(self.fast.run(case, patience), self.base.run(case, patience)) });
            let lanes = [(&self.fast, &fast), (&self.base, &base)];
            let Err(difference) = compare::same(case, lanes) else {
                self.again.fetch_add(u64::from(differs.is_some()), Ordering::Relaxed);
                return Ok(());
            };
            differs = Some(format!("{difference}\nfast lane:\n{fast:?}base lane:\n{base:?}"));
        }
        Err(TestCaseError::fail(differs.unwrap_or_default()))
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        println!("{} cases differed only once", self.again.load(Ordering::Relaxed));
        for lane in [&self.fast, &self.base] {
            let panics = lane.gateway.log_count(|line| line.to_string().contains("panicked"));
            assert!(panics == 0 || std::thread::panicking(), "{panics} panics in a gateway");
        }
    }
}

#[test]
fn both_lanes_do_the_same() {
    let cases = fuzz::run(SECONDS, Both::start);
    println!("{cases} cases on both lanes");
    assert!(cases >= 10, "{cases} cases");
}
