//! `/system/config`: which configuration is live, where each value came from,
//! and what a candidate would change.
//!
//! Candidates are read by the same code as files, between the same environment
//! and command line. Replacing what is live is the reloader's work; it is asked
//! through [`Live`].

use std::{path::PathBuf, time::Duration};

use poem::{http::StatusCode, web::RemoteAddr};
use poem_openapi::{ApiResponse, OpenApi, param::Header};

use super::{
    Tag,
    admitted::{Admitted, Live},
    error::{ApiError, Candidate, OwnInfo, Reloading},
    payload::{Documents, Json},
};
use crate::{
    auth::Auth,
    config::{self, ConfigError, ConfigFile, Difference, Explained, Loaded, SetBy, Sources, blocking},
    metrics::query::Prometheus,
    model::{
        ConfigCandidateFile, ConfigChange, ConfigCheck, ConfigDiff, ConfigLayer, ConfigReload, ConfigShadow,
        ConfigStatus, ConfigValue, Configuration,
    },
    problem::Problem,
    snapshot::control::{Caller, Verdict},
    tls::Tls,
};

pub(super) struct ConfigApi;

/// The effective configuration.
#[derive(ApiResponse)]
enum Effective {
    /// The live configuration.
    #[oai(status = 200)]
    Ok(
        Json<Configuration>,
        /// The live configuration's hash in quotes, for `If-Match`.
        #[oai(header = "ETag")]
        String,
    ),
}

/// A reload that left a valid configuration live.
#[derive(ApiResponse)]
enum Reloaded {
    /// The files are what is live.
    #[oai(status = 200)]
    Ok(
        Json<ConfigReload>,
        /// The live configuration's hash in quotes, for `If-Match`.
        #[oai(header = "ETag")]
        String,
        /// Number of the configuration that is live now.
        #[oai(header = "X-Config-Generation")]
        u64,
    ),
}

#[OpenApi(tag = "Tag::Configuration")]
impl ConfigApi {
    /// The effective configuration
    ///
    /// Every key with its value, its default and what set it. Secrets are
    /// masked.
    #[oai(path = "/system/config", method = "get", operation_id = "getConfig")]
    #[expect(clippy::unused_async, reason = "poem wants operations to be async")]
    async fn effective(&self, Admitted(snapshot): Admitted) -> Result<Effective, ApiError<OwnInfo>> {
        let source = &snapshot.source;
        let values = config::explain_all(&snapshot.config, &source.origins, &source.pending_restart);
        let answer = Configuration {
            generation: snapshot.generation,
            hash: source.fingerprint.to_string(),
            values: values.into_iter().map(value).collect(),
        };
        let etag = etag(&answer.hash);
        Ok(Effective::Ok(Json(answer), etag))
    }

    /// Which configuration is live
    ///
    /// What it was read from and when, what became of the newest attempt to
    /// change it, and what of the file has no effect.
    #[oai(path = "/system/config/status", method = "get", operation_id = "getConfigStatus")]
    #[expect(clippy::unused_async, reason = "poem wants operations to be async")]
    async fn status(&self, Admitted(snapshot): Admitted, live: Live) -> Result<Json<ConfigStatus>, ApiError<OwnInfo>> {
        Ok(Json(snapshot.status(live.control.journal())))
    }

    /// Check a candidate
    ///
    /// Reads a TOML document, or several files, as if they were the
    /// configuration's, with the environment and the command line of this
    /// process, and changes nothing. The warnings are those of a reload.
    #[oai(path = "/system/config/validate", method = "post", operation_id = "validateConfig")]
    async fn validate(
        &self,
        Admitted(snapshot): Admitted,
        live: Live,
        Documents(candidate): Documents,
    ) -> Result<Json<ConfigCheck>, ApiError<Candidate>> {
        let sources = live.control.sources().clone();
        let checked = blocking(move || {
            let (loaded, _) = config::keep_running(&snapshot.config, read(candidate, &sources)?)?;
            let unusable = [
                Auth::load(&loaded.config.auth).err(),
                Prometheus::new(&loaded.config.prometheus).err(),
            ];
            let certificates = Tls::load(&loaded.config.server.tls, None).err().unwrap_or_default();
            let unusable = unusable.into_iter().flatten().chain(certificates);
            let unusable: Vec<_> = unusable.map(|error| error.at(&loaded.origins)).collect();
            if unusable.is_empty() { Ok(loaded) } else { Err(unusable) }
        });
        let loaded = checked.await.map_err(|errors| refused(&errors))?;
        Ok(Json(ConfigCheck {
            ok: true,
            warnings: loaded.warnings,
        }))
    }

    /// Compare a candidate with what is live
    ///
    /// Reads a TOML document, or several files, as if they were the
    /// configuration's, and lists the keys that would change. Secrets are
    /// masked, so a changed secret shows as `***` twice. The warnings are those
    /// of a reload.
    #[oai(path = "/system/config/diff", method = "post", operation_id = "diffConfig")]
    async fn diff(
        &self,
        Admitted(snapshot): Admitted,
        live: Live,
        Documents(candidate): Documents,
    ) -> Result<Json<ConfigDiff>, ApiError<Candidate>> {
        let sources = live.control.sources().clone();
        let loaded = blocking(move || read(candidate, &sources)).await;
        let loaded = loaded.map_err(|errors| refused(&errors))?;
        let compared = config::compare((&snapshot.config, &snapshot.source.origins), &loaded);
        Ok(Json(ConfigDiff {
            generation: snapshot.generation,
            hash: snapshot.source.fingerprint.to_string(),
            changes: compared.differences.into_iter().map(ConfigChange::from).collect(),
            warnings: compared.warnings,
        }))
    }

    /// Read the configuration again
    ///
    /// Waits for the outcome. Files that say what is live already are fine
    /// too. When something is wrong, everything that is wrong is in the
    /// answer, and what was live stays so.
    #[oai(path = "/system/config/reload", method = "post", operation_id = "reloadConfig")]
    async fn reload(
        &self,
        Admitted(snapshot): Admitted,
        live: Live,
        peer: &RemoteAddr,
        /// Reload only if this is what is live: the `ETag` of `/system/config`.
        #[oai(name = "If-Match")]
        if_match: Header<Option<String>>,
    ) -> Result<Reloaded, ApiError<Reloading>> {
        let caller = Caller {
            user: snapshot.auth.user().map(str::to_owned),
            address: peer.as_socket_addr().copied(),
        };
        let expected = if_match.0.as_deref().and_then(expected);
        let Some(outcome) = live.control.reload(caller, expected).await else {
            let starting = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway is starting");
            return Err(starting.retry_after(Duration::from_secs(1)).into());
        };
        let hash = outcome.hash.to_string();
        match outcome.verdict {
            Verdict::Applied | Verdict::Unchanged => {}
            Verdict::Failed => {
                return Err(Problem::several(StatusCode::UNPROCESSABLE_ENTITY, outcome.errors).into());
            }
            Verdict::Superseded => {
                let live = etag(&hash);
                let text = format!("the live configuration is {live}, not what If-Match names; look again");
                return Err(Problem::new(StatusCode::PRECONDITION_FAILED, text).into());
            }
        }
        let etag = etag(&hash);
        let answer = ConfigReload {
            result: outcome.verdict.as_str().to_owned(),
            generation: outcome.generation,
            hash,
            changed: outcome.changed,
            pending_restart: owned(&outcome.pending_restart),
            shadowed_by_env: outcome.shadowed.into_iter().map(ConfigShadow::from).collect(),
            warnings: outcome.warnings,
            at: outcome.at.into(),
        };
        Ok(Reloaded::Ok(Json(answer), etag, outcome.generation))
    }
}

/// Reads a candidate between the layers of this process. Files that it refers
/// to are read, so this may block.
fn read(candidate: Vec<ConfigCandidateFile>, sources: &Sources) -> Result<Loaded, Vec<ConfigError>> {
    let files: Vec<_> = candidate
        .into_iter()
        .map(|file| ConfigFile {
            path: PathBuf::from(file.name),
            content: file.content,
        })
        .collect();
    config::parse_files(&files, sources)
}

fn refused(errors: &[ConfigError]) -> Problem {
    let errors = errors.iter().map(ToString::to_string).collect();
    Problem::several(StatusCode::UNPROCESSABLE_ENTITY, errors)
}

fn etag(hash: &str) -> String {
    format!("\"{hash}\"")
}

/// The hashes that an `If-Match` permits; `None` for `*`, which permits any.
/// Weak tags never match (RFC 9110 section 13.1.1) and are left out.
fn expected(if_match: &str) -> Option<Vec<String>> {
    let tags = || if_match.split(',').map(str::trim);
    if tags().any(|tag| tag == "*") {
        return None;
    }
    let strong = tags().filter_map(|tag| tag.strip_prefix('"')?.strip_suffix('"'));
    Some(strong.map(str::to_owned).collect())
}

fn value(explained: Explained) -> ConfigValue {
    let layer = |SetBy { source, value }| ConfigLayer { source, value };
    ConfigValue {
        // The last one counts.
        overridden: explained.layers.into_iter().rev().skip(1).map(layer).collect(),
        base: explained.base.map(layer),
        key: explained.key,
        value: explained.value,
        default: explained.default,
        source: explained.source,
        live: explained.live,
    }
}

impl From<Difference> for ConfigChange {
    fn from(difference: Difference) -> Self {
        Self {
            key: difference.key,
            old: difference.old,
            new: difference.new,
            effect: if difference.restart { "restart" } else { "live" }.to_owned(),
        }
    }
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_match_as_http_says() {
        let tags = |tags: &[&str]| Some(tags.iter().map(|tag| (*tag).to_owned()).collect());
        for (if_match, hashes) in [
            ("\"a\"", tags(&["a"])),
            ("\"b\", \"a\"", tags(&["b", "a"])),
            ("*", None),
            ("W/\"a\"", tags(&[])),
            ("a", tags(&[])),
            ("\"", tags(&[])),
            ("", tags(&[])),
        ] {
            assert_eq!(expected(if_match), hashes, "{if_match}");
        }
    }
}
