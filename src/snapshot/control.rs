//! What the API may ask of the reloader, and what both say about a reload.
//!
//! The API and the reloader are both edges of the process and do not know each
//! other; [`crate::app`] gives the one the other as a [`Control`]. The rest of
//! what the API tells about the configuration is in the [`Source`] of its
//! snapshot.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::config::{Fingerprint, Loaded, Origins, Shadowed, SourceFile, Sources};

/// Why a reload was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Something happened in a watched directory.
    Watch,
    /// The regular look.
    Poll,
    /// SIGHUP.
    Signal,
    /// A request to the API.
    Api,
}

impl Trigger {
    /// The name in logs, metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Poll => "poll",
            Self::Signal => "signal",
            Self::Api => "api",
        }
    }

    /// Whether somebody asked, and so wants a failed reload tried again even
    /// though no file changed.
    pub fn is_explicit(self) -> bool {
        matches!(self, Self::Signal | Self::Api)
    }
}

/// How a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A new generation is live.
    Applied,
    /// The files say what is live already; an earlier failure is over.
    Unchanged,
    /// The old generation stays; see [`Outcome::errors`].
    Failed,
}

impl Verdict {
    /// The name in metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What asked for it.
    pub trigger: Trigger,
    /// How it ended.
    pub verdict: Verdict,
    /// Every mistake found, with place and key.
    pub errors: Vec<String>,
    /// What is permitted but odd about what went live.
    pub warnings: Vec<String>,
    /// The generation that is live now.
    pub generation: u64,
    /// Keys that changed and are live.
    pub changed: Vec<String>,
    /// Keys that changed in the files and wait for a restart.
    pub pending_restart: Vec<&'static str>,
    /// Keys that changed in the files to no effect.
    pub shadowed: Vec<Shadowed>,
    /// When it ended.
    pub at: DateTime<Utc>,
}

impl Outcome {
    /// Whether this tells more than the one before: a regular look that found
    /// nothing new must not hide the attempt that put in place what is live,
    /// nor the one that failed.
    pub fn is_news(&self, last: Option<&Self>) -> bool {
        match self.verdict {
            Verdict::Applied => true,
            Verdict::Unchanged => {
                self.trigger.is_explicit() || last.is_some_and(|last| last.verdict == Verdict::Failed)
            }
            Verdict::Failed => last.is_none_or(|last| last.at != self.at),
        }
    }
}

/// The reloader, as the API sees it.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// The layers that a candidate is put between: the environment and the
    /// command line of this process.
    fn sources(&self) -> &Sources;

    /// The newest outcome, apart from looks that found nothing new; `None`
    /// before the first.
    fn last(&self) -> Option<Outcome>;

    /// Reads the files again and waits for the outcome; `None` when the gateway
    /// is not that far yet. Dropping the future does not stop the reload.
    async fn reload(&self) -> Option<Outcome>;
}

/// What a snapshot's configuration was made from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where each value came from.
    pub origins: Origins,
    /// Of everything that was read.
    pub fingerprint: Fingerprint,
    /// The files that were read.
    pub files: Vec<SourceFile>,
    /// Keys that keep their running value until a restart.
    pub pending_restart: Vec<&'static str>,
    /// When it was read.
    pub loaded_at: DateTime<Utc>,
}

impl Source {
    /// The source of a configuration that was read just now.
    pub fn new(loaded: &Loaded) -> Self {
        Self {
            origins: loaded.origins.clone(),
            fingerprint: loaded.fingerprint,
            files: loaded.files.clone(),
            pending_restart: loaded.pending_restart.clone(),
            loaded_at: Utc::now(),
        }
    }
}
