//! One reload from the first look at the files to its outcome.
//!
//! Nothing here knows who waits for it: [`super`] takes the requests, puts them
//! together and hands out the outcome. What is said for the record is
//! [`super::audit`]'s part.

use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::Utc;
use tracing::{error, warn};

use super::{Ask, Caller, Live, Outcome, Trigger, Verdict, audit};
use crate::{
    config::{self, ConfigError, ConfigFile, FileChange, Fingerprint, Loaded, Shadowed, Sources, blocking},
    snapshot::Source,
};

/// How long a file that does not parse gets to be written to its end.
pub(super) const SECOND_LOOK: Duration = Duration::from_millis(150);

/// Who and what a reload is for.
pub(super) struct Asked {
    pub(super) trigger: Trigger,
    pub(super) callers: Vec<Caller>,
}

impl Asked {
    /// Somebody who asked gets a real try, whoever asked first.
    pub(super) fn by<'a>(asks: impl IntoIterator<Item = &'a Ask>) -> Self {
        let asks: Vec<_> = asks.into_iter().collect();
        let explicit = asks.iter().find(|ask| ask.trigger.is_explicit());
        Self {
            trigger: explicit.or(asks.first()).map_or(Trigger::Poll, |ask| ask.trigger),
            callers: asks.iter().filter_map(|ask| ask.caller.clone()).collect(),
        }
    }
}

impl From<Trigger> for Asked {
    fn from(trigger: Trigger) -> Self {
        Self {
            trigger,
            callers: Vec::new(),
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

fn fingerprint_of(sources: &Sources, content: &Content, referenced: &[PathBuf]) -> Fingerprint {
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
        let (mut content, mut seen) = self.look(live_files.clone()).await;
        if content.is_ok() && seen == source.fingerprint {
            return self.unchanged(asked);
        }
        if let Some(failed) = &self.failed
            && failed.at == Stage::Checking
            && !asked.trigger.is_explicit()
            && self.look(failed.files.clone()).await.1 == failed.seen
        {
            // Told already; the same files would fail the same way.
            return failed.again(asked.trigger);
        }
        let mut loaded = self.parse(&content);
        if loaded.is_err() {
            tokio::time::sleep(SECOND_LOOK).await;
            (content, seen) = self.look(live_files.clone()).await;
            if content.is_ok() && seen == source.fingerprint {
                return self.unchanged(asked);
            }
            loaded = self.parse(&content);
        }
        let kept = loaded.and_then(|loaded| config::keep_running(&running, loaded));
        let (mut loaded, changes) = match kept {
            Ok(kept) => kept,
            Err(errors) => {
                let errors = errors.iter().map(ToString::to_string).collect();
                let files = self.changed_files(content, live_files.clone(), source).await;
                return self.refused(asked, Stage::Checking, (live_files, seen), files, errors);
            }
        };
        // Taken before building: credentials that change meanwhile are then
        // seen as a change by the next look.
        let files = loaded.config.referenced_files();
        let (sources, referenced) = (Arc::clone(&self.sources), files.clone());
        let origins = loaded.origins.clone();
        let (next, read) = blocking(move || {
            let read = config::source_files(content.as_deref().unwrap_or_default(), &referenced, &origins);
            (fingerprint_of(&sources, &content, &referenced), read)
        })
        .await;
        (loaded.fingerprint, loaded.files) = (next, read);
        let changed_files = config::changed_files(&source.files, &loaded.files);
        let origins = loaded.origins.clone();
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

    /// How the files that were read differ from those of what is live.
    async fn changed_files(&self, content: Content, referenced: Vec<PathBuf>, source: Source) -> Vec<FileChange> {
        let Ok(files) = content else { return Vec::new() };
        blocking(move || {
            let read = config::source_files(&files, &referenced, &source.origins);
            config::changed_files(&source.files, &read)
        })
        .await
    }

    /// Reads the files and those they refer to. A file that now refers to
    /// others differs by its own content.
    async fn look(&self, files: Vec<PathBuf>) -> (Content, Fingerprint) {
        let sources = Arc::clone(&self.sources);
        blocking(move || {
            let content = sources.read();
            let fingerprint = fingerprint_of(&sources, &content, &files);
            (content, fingerprint)
        })
        .await
    }

    fn parse(&self, content: &Content) -> Result<Loaded, Vec<ConfigError>> {
        match content {
            Ok(files) => config::parse_files(files, &self.sources),
            Err(error) => Err(vec![error.clone()]),
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
        at: Utc::now(),
    }
}
