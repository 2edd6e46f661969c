//! One reload from the first look at the files to its outcome.
//!
//! Nothing here knows who waits for it: [`super`] takes the requests, puts them
//! together and hands out the outcome. What is said for the record is
//! [`super::audit`]'s part.

use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tracing::{error, warn};

use super::{Ask, Caller, Live, Outcome, Trigger, Verdict, audit};
use crate::{
    config::{self, ConfigError, ConfigFile, FileChange, Fingerprint, Loaded, Referenced, Shadowed, Sources, blocking},
    snapshot::Source,
};

/// How long a file that does not parse gets to be written to its end.
pub(super) const SECOND_LOOK: Duration = Duration::from_millis(150);

/// Who and what a reload is for.
pub(super) struct Asked {
    pub(super) trigger: Trigger,
    pub(super) callers: Vec<Caller>,
    pub(super) began: DateTime<Utc>,
}

impl Asked {
    /// Somebody who asked gets a real try, whoever asked first.
    pub(super) fn by<'a>(asks: impl IntoIterator<Item = &'a Ask>) -> Self {
        let asks: Vec<_> = asks.into_iter().collect();
        let explicit = asks.iter().find(|ask| ask.trigger.is_explicit());
        Self {
            trigger: explicit.or(asks.first()).map_or(Trigger::Poll, |ask| ask.trigger),
            callers: asks.iter().filter_map(|ask| ask.caller.clone()).collect(),
            began: Utc::now(),
        }
    }
}

impl From<Trigger> for Asked {
    fn from(trigger: Trigger) -> Self {
        Self {
            trigger,
            callers: Vec::new(),
            began: Utc::now(),
        }
    }
}

/// Carries out reloads, one after the other.
pub(super) struct Transaction {
    sources: Arc<Sources>,
    live: Arc<dyn Live>,
    failed: Option<Failure>,
}

/// The last reload, when it failed.
struct Failure {
    at: Stage,
    /// The files that what failed refers to: one of them may be what it lacked.
    files: Vec<PathBuf>,
    seen: Fingerprint,
    outcome: Outcome,
}

impl Failure {
    /// The answer to whoever looks again.
    fn again(&self, trigger: Trigger) -> Outcome {
        Outcome {
            trigger,
            ..self.outcome.clone()
        }
    }
}

/// How far a reload came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What the files say is wrong, and will be until they change.
    Checking,
    /// Something else was in the way, which may go by itself: an address that
    /// is taken, a state directory that another provider still uses.
    Building,
}

/// What was read: the files, or why they could not be.
type Content = Result<Vec<ConfigFile>, ConfigError>;

/// What one look at the files found.
struct Look {
    content: Content,
    /// The files that were looked at because something refers to them.
    referenced: Vec<Referenced>,
    seen: Fingerprint,
}

fn fingerprint_of(sources: &Sources, content: &Content, referenced: &[Referenced]) -> Fingerprint {
    match content {
        Ok(files) => Fingerprint::of(sources, files, referenced),
        Err(error) => Fingerprint::of_failure(error),
    }
}

impl Transaction {
    pub(super) fn new(sources: Arc<Sources>, live: Arc<dyn Live>) -> Self {
        Self {
            sources,
            live,
            failed: None,
        }
    }

    /// Of the configuration that is live.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.live.source().fingerprint
    }

    /// The answer to a request that expects something else to be live.
    pub(super) fn superseded(&self, asked: &Asked) -> Outcome {
        let outcome = ended(&*self.live, asked, Verdict::Superseded);
        audit::log(&outcome, false);
        outcome
    }

    pub(super) async fn reload(&mut self, asked: &Asked) -> Outcome {
        let running = self.live.config();
        let source = self.live.source();
        let live_files = running.referenced_files();
        let mut look = self.look(live_files.clone()).await;
        if look.content.is_ok() && look.seen == source.fingerprint {
            return self.unchanged(asked);
        }
        if let Some(failed) = &self.failed
            && failed.at == Stage::Checking
            && !asked.trigger.is_explicit()
            && self.look(failed.files.clone()).await.seen == failed.seen
        {
            // Told already; the same files would fail the same way.
            return failed.again(asked.trigger);
        }
        let (mut loaded, mut secrets) = self.parse(&look.content).await;
        if loaded.is_err() {
            tokio::time::sleep(SECOND_LOOK).await;
            look = self.look(live_files).await;
            if look.content.is_ok() && look.seen == source.fingerprint {
                return self.unchanged(asked);
            }
            (loaded, secrets) = self.parse(&look.content).await;
        }
        let kept = loaded.and_then(|loaded| config::keep_running(&running, loaded));
        let (mut loaded, changes) = match kept {
            Ok(kept) => kept,
            Err(errors) => {
                let errors = errors.iter().map(ToString::to_string).collect();
                let changed = changed_files(&look, &source);
                // Also those that it would have referred to: one may be missing.
                let referenced = [look.referenced, secrets].concat();
                let seen = fingerprint_of(&self.sources, &look.content, &referenced);
                let files = referenced.into_iter().map(|file| file.path).collect();
                return self.refused(asked, Stage::Checking, (files, seen), changed, errors);
            }
        };
        // Taken before building: credentials that change meanwhile are then
        // seen as a change by the next look.
        let files = loaded.config.referenced_files();
        let (sources, content) = (Arc::clone(&self.sources), look.content.unwrap_or_default());
        loaded = blocking(move || {
            loaded.note_files(&sources, &content);
            loaded
        })
        .await;
        let (next, origins) = (loaded.fingerprint, loaded.origins.clone());
        let changed_files = config::changed_files(&source.files, &loaded.files);
        let warnings = loaded.warnings.clone();
        let known = source.origins.shadowed();
        let mut shadowed = origins.shadowed();
        shadowed.retain(|key| !known.contains(key));
        let before = ended(&*self.live, asked, Verdict::Applied);
        if let Err(errors) = self.live.apply(loaded).await {
            let errors = errors.iter().map(ToString::to_string).collect();
            return self.refused(asked, Stage::Building, (files, next), changed_files, errors);
        }
        self.failed = None;
        for warning in &warnings {
            warn!("{warning}");
        }
        for key in &changes.restart {
            warn!(key, "{key} changed but keeps its running value until a restart");
        }
        for Shadowed { key, by, .. } in &shadowed {
            warn!(key, by, "{key} changed to no effect: {by} overrides it");
        }
        let outcome = Outcome {
            generation: self.live.generation(),
            hash: next,
            files: changed_files,
            warnings,
            changed: changes.keys,
            pending_restart: changes.restart,
            shadowed,
            at: Utc::now(),
            ..before
        };
        self.live.report(&outcome);
        outcome
    }

    /// Reads the files and those they refer to. A file that now refers to
    /// others differs by its own content.
    async fn look(&self, files: Vec<PathBuf>) -> Look {
        let sources = Arc::clone(&self.sources);
        blocking(move || {
            let content = sources.read();
            let referenced: Vec<_> = files.iter().map(|file| Referenced::look(file)).collect();
            let seen = fingerprint_of(&sources, &content, &referenced);
            Look {
                content,
                referenced,
                seen,
            }
        })
        .await
    }

    /// Reads what the files say, and the files that hold values of it.
    async fn parse(&self, content: &Content) -> (Result<Loaded, Vec<ConfigError>>, Vec<Referenced>) {
        match content.clone() {
            Ok(files) => {
                let sources = Arc::clone(&self.sources);
                blocking(move || config::attempt(&files, &sources)).await
            }
            Err(error) => (Err(vec![error]), Vec::new()),
        }
    }

    fn unchanged(&mut self, asked: &Asked) -> Outcome {
        let outcome = Outcome {
            pending_restart: self.live.source().pending_restart,
            ..ended(&*self.live, asked, Verdict::Unchanged)
        };
        self.failed = None;
        self.live.report(&outcome);
        outcome
    }

    /// `seen` are the files that what failed refers to, and the fingerprint with them.
    fn refused(
        &mut self,
        asked: &Asked,
        at: Stage,
        seen: (Vec<PathBuf>, Fingerprint),
        files: Vec<FileChange>,
        errors: Vec<String>,
    ) -> Outcome {
        if let Some(failed) = &self.failed
            && !asked.trigger.is_explicit()
            && failed.seen == seen.1
            && failed.outcome.errors == errors
        {
            // Tried again to the same end, and told already.
            return failed.again(asked.trigger);
        }
        let outcome = Outcome {
            errors,
            files,
            pending_restart: self.live.source().pending_restart,
            ..ended(&*self.live, asked, Verdict::Failed)
        };
        self.failed = Some(Failure {
            at,
            files: seen.0,
            seen: seen.1,
            outcome: outcome.clone(),
        });
        self.live.report(&outcome);
        for error in &outcome.errors {
            error!("{error}");
        }
        error!(
            trigger = outcome.trigger.as_str(),
            generation = outcome.generation,
            errors = outcome.errors.len(),
            "configuration not reloaded; the old one stays"
        );
        outcome
    }
}

/// How the files that were read differ from those of what is live.
fn changed_files(look: &Look, source: &Source) -> Vec<FileChange> {
    let Ok(files) = &look.content else {
        return Vec::new();
    };
    let read = config::source_files(files, &look.referenced, &source.origins);
    config::changed_files(&source.files, &read)
}

/// An outcome that changed nothing, without details.
pub(super) fn ended(live: &dyn Live, asked: &Asked, verdict: Verdict) -> Outcome {
    let (generation, hash) = (live.generation(), live.source().fingerprint);
    Outcome {
        trigger: asked.trigger,
        callers: asked.callers.clone(),
        verdict,
        errors: Vec::new(),
        warnings: Vec::new(),
        from: generation,
        generation,
        old_hash: hash,
        hash,
        files: Vec::new(),
        changed: Vec::new(),
        pending_restart: Vec::new(),
        shadowed: Vec::new(),
        began: asked.began,
        at: Utc::now(),
    }
}
