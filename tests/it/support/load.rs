//! Callers that call again and again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use super::{Gateway, eventually};

/// Callers, each of which calls again when it has its answer.
pub(crate) struct Load {
    callers: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    answered: AtomicUsize,
    failed: AtomicUsize,
    /// What the first failure was.
    first: std::sync::OnceLock<String>,
}

/// What became of the calls.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) answered: usize,
    pub(crate) failed: usize,
    #[expect(dead_code, reason = "for people who read why a test failed")]
    first_failure: Option<String>,
}

impl Load {
    /// So many callers of a path; an answer without 2xx is a failure.
    pub(crate) fn start(gateway: &Gateway, path: &str, callers: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let url = format!("{}{path}", gateway.url());
        let client = super::gateway::client();
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (shared, url, client) = (Arc::clone(&shared), url.clone(), client.clone());
            tasks.spawn(async move {
                while !shared.stopping.load(Ordering::SeqCst) {
                    let failure = match client.get(&url).timeout(Duration::from_secs(30)).send().await {
                        Ok(answer) if answer.status().is_success() => match answer.bytes().await {
                            Ok(_) => None,
                            Err(error) => Some(format!("{error:?}")),
                        },
                        Ok(answer) => {
                            let status = answer.status();
                            Some(format!("{status}: {}", answer.text().await.unwrap_or_default()))
                        }
                        Err(error) => Some(format!("{error:?}")),
                    };
                    match failure {
                        None => shared.answered.fetch_add(1, Ordering::SeqCst),
                        Some(failure) => {
                            let _ = shared.first.set(failure);
                            shared.failed.fetch_add(1, Ordering::SeqCst)
                        }
                    };
                }
            });
        }
        Self { callers: tasks, shared }
    }

    /// Calls that were answered.
    pub(crate) fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// Waits until so many calls were answered.
    pub(crate) async fn reaches(&self, answered: usize) {
        eventually("calls that are answered", || async {
            (self.answered() >= answered).then_some(())
        })
        .await;
    }

    /// Lets every call end.
    pub(crate) async fn stop(self) -> Told {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.callers.join_all().await;
        Told {
            answered: self.shared.answered.load(Ordering::SeqCst),
            failed: self.shared.failed.load(Ordering::SeqCst),
            first_failure: self.shared.first.get().cloned(),
        }
    }
}
