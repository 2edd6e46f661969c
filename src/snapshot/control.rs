//! What the API may ask of the reloader, and what both say about a reload.
//!
//! The API and the reloader are both edges of the process and do not know each
//! other; [`crate::app`] gives the one the other as a [`Control`]. The rest of
//! what the API tells about the configuration is in the [`Source`] of its
//! snapshot.

use std::{collections::VecDeque, fmt, net::SocketAddr};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::config::{FileChange, Fingerprint, Loaded, Origins, Shadowed, SourceFile, Sources};

/// How many outcomes are remembered.
const REMEMBERED: usize = 20;

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

/// Who asked over the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The name basic authentication let in; `None` where it does not decide.
    pub user: Option<String>,
    /// The other end of the connection: a proxy, where one is in between.
    pub address: Option<SocketAddr>,
}

/// For log lines: `admin at 127.0.0.1:5000`.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.user.as_deref().unwrap_or("unknown"))?;
        match self.address {
            Some(address) => write!(f, " at {address}"),
            None => Ok(()),
        }
    }
}

/// A request for a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What asks.
    pub trigger: Trigger,
    /// Who, if it came over the API.
    pub caller: Option<Caller>,
    /// Hashes of which one must be live when it is this request's turn; `None`
    /// for whatever is live.
    pub expected: Option<Vec<String>>,
}

impl Ask {
    /// Whether it may be served while this is live.
    pub fn accepts(&self, live: Fingerprint) -> bool {
        self.expected
            .as_ref()
            .is_none_or(|hashes| hashes.contains(&live.to_string()))
    }
}

/// Without conditions, by nobody in particular.
impl From<Trigger> for Ask {
    fn from(trigger: Trigger) -> Self {
        Self {
            trigger,
            caller: None,
            expected: None,
        }
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
    /// Nothing was read: what is live is not what the request expects.
    Superseded,
}

impl Verdict {
    /// The name in metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What asked for it.
    pub trigger: Trigger,
    /// Everybody who asked for it over the API.
    pub callers: Vec<Caller>,
    /// How it ended.
    pub verdict: Verdict,
    /// Every mistake found, with place and key.
    pub errors: Vec<String>,
    /// What is permitted but odd about what went live.
    pub warnings: Vec<String>,
    /// The generation that was live before.
    pub from: u64,
    /// The generation that is live now.
    pub generation: u64,
    /// Hash of what was live before.
    pub old_hash: Fingerprint,
    /// Hash of what is live now.
    pub hash: Fingerprint,
    /// Files whose content is not what the one that was live before was read
    /// from; none when the files could not be read.
    pub files: Vec<FileChange>,
    /// Keys that changed and are live.
    pub changed: Vec<String>,
    /// Keys that changed in the files and wait for a restart.
    pub pending_restart: Vec<&'static str>,
    /// Keys that changed in the files to no effect.
    pub shadowed: Vec<Shadowed>,
    /// When it began.
    pub began: DateTime<Utc>,
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
            Verdict::Superseded => false,
        }
    }
}

/// What is remembered of reloads.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    /// The newest outcome, apart from looks that found nothing new; `None`
    /// before the first.
    pub last: Option<Outcome>,
    /// The newest that changed something or failed, newest first.
    pub history: VecDeque<Outcome>,
}

impl Journal {
    /// Whether what the files say is not what is live, for it was refused.
    pub fn is_failing(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.verdict == Verdict::Failed)
    }

    /// Adds an outcome and says whether it is news.
    pub fn add(&mut self, outcome: &Outcome) -> bool {
        if !outcome.is_news(self.last.as_ref()) {
            return false;
        }
        if outcome.verdict != Verdict::Unchanged {
            self.history.truncate(REMEMBERED - 1);
            self.history.push_front(outcome.clone());
        }
        self.last = Some(outcome.clone());
        true
    }
}

/// The reloader, as the API sees it.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// The layers that a candidate is put between: the environment and the
    /// command line of this process.
    fn sources(&self) -> &Sources;

    /// What became of the reloads so far.
    fn journal(&self) -> Journal;

    /// Reads the files again and waits for the outcome; `None` when the gateway
    /// is not that far yet. `expected` is [`Ask::expected`]. Dropping the future
    /// does not stop the reload.
    async fn reload(&self, caller: Caller, expected: Option<Vec<String>>) -> Option<Outcome>;
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
    /// What is permitted but odd about it.
    pub warnings: Vec<String>,
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
            warnings: loaded.warnings.clone(),
            pending_restart: loaded.pending_restart.clone(),
            loaded_at: Utc::now(),
        }
    }
}
