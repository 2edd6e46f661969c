//! What a snapshot says of its configuration, on the wire.

use super::{
    Snapshot,
    control::{Caller, Journal, Outcome, Verdict},
};
use crate::{
    config::{FileChange, Shadowed},
    model::{ConfigActor, ConfigAttempt, ConfigEvent, ConfigFileChange, ConfigShadow, ConfigSource, ConfigStatus},
};

impl Snapshot {
    /// Which configuration is live, what it was read from, and what became of the
    /// attempts to change it.
    pub fn status(&self, journal: Journal) -> ConfigStatus {
        let source = &self.source;
        let last_attempt = journal.last.map_or_else(
            || ConfigAttempt {
                trigger: "start".to_owned(),
                result: Verdict::Applied.as_str().to_owned(),
                errors: Vec::new(),
                warnings: source.warnings.clone(),
                at: source.loaded_at.into(),
            },
            |last| ConfigAttempt {
                trigger: last.trigger.as_str().to_owned(),
                result: last.verdict.as_str().to_owned(),
                errors: last.errors,
                warnings: last.warnings,
                at: last.at.into(),
            },
        );
        ConfigStatus {
            generation: self.generation,
            hash: source.fingerprint.to_string(),
            sources: source
                .files
                .iter()
                .map(|file| ConfigSource {
                    path: file.path.display().to_string(),
                    sha256: file.sha256.clone(),
                })
                .collect(),
            loaded_at: source.loaded_at.into(),
            last_attempt,
            history: journal.history.into_iter().map(ConfigEvent::from).collect(),
            pending_restart: source.pending_restart.iter().map(|key| (*key).to_owned()).collect(),
            shadowed_by_env: source.origins.shadowed().into_iter().map(ConfigShadow::from).collect(),
            live_generations: self.metrics.live_generations(),
        }
    }
}

impl From<Outcome> for ConfigEvent {
    fn from(outcome: Outcome) -> Self {
        let actor = |caller: Caller| ConfigActor {
            user: caller.user,
            address: caller.address.map(|address| address.to_string()),
        };
        let file = |file: FileChange| ConfigFileChange {
            path: file.path.display().to_string(),
            change: file.change.to_owned(),
        };
        Self {
            trigger: outcome.trigger.as_str().to_owned(),
            actors: outcome.callers.into_iter().map(actor).collect(),
            at: outcome.at.into(),
            result: outcome.verdict.as_str().to_owned(),
            from_generation: outcome.from,
            to_generation: outcome.generation,
            old_hash: outcome.old_hash.to_string(),
            hash: outcome.hash.to_string(),
            files: outcome.files.into_iter().map(file).collect(),
            changed: outcome.changed,
            errors: outcome.errors.len() as u64,
        }
    }
}

impl From<Shadowed> for ConfigShadow {
    fn from(shadowed: Shadowed) -> Self {
        Self {
            key: shadowed.key,
            file: shadowed.file,
            by: shadowed.by,
        }
    }
}
