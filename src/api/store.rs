//! `/system/store`: functions to choose from, and which of them can be deployed here.

use std::{sync::Arc, time::Duration};

use poem::http::StatusCode;
use poem_openapi::{OpenApi, param::Query};
use url::Url;

use super::{
    Tag,
    admitted::Admitted,
    error::{ApiError, Choosing},
    parameter::{Architecture, Last, Text, text},
    payload::Json,
};
use crate::{
    config::blocking,
    model::{FunctionDeployment, Store, StoreFunction, StoreSource, Timestamp},
    problem::Problem,
    provider::{Provider, ProviderError},
    stores::{Place, Shown},
};

pub(super) struct StoreApi;

/// Version of OpenFaaS's format.
const VERSION: &str = "0.2.0";

/// How long a list that is read for the first time is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Architectures that lists have images for.
pub(super) const ARCHITECTURES: [&str; 3] = ["x86_64", "arm64", "armhf"];

#[OpenApi(tag = "Tag::Functions")]
impl StoreApi {
    /// Functions to choose from
    ///
    /// The entries of all stores (`[[stores]]`, and the one in the binary), with those that can be
    /// deployed here marked. OpenFaaS's clients read it as a store:
    /// `faas-cli store list --url http://HOST/system/store`. To deploy an entry, send its `name` as
    /// `service`, `image`, `fprocess` as `envProcess`, `environment` as `envVars`, and `labels`,
    /// `annotations`, `secrets` and `readOnlyRootFilesystem` under their names.
    #[oai(path = "/system/store", method = "get", operation_id = "listStore")]
    async fn list(
        &self,
        Admitted(snapshot): Admitted,
        /// Only this store.
        store: Query<Option<Last<Text>>>,
        /// Only entries whose title, name or description has all of these words.
        search: Query<Option<Last<Text>>>,
        /// What images are for: `x86_64`, `arm64` or `armhf`; this machine's when absent.
        architecture: Query<Option<Last<Architecture>>>,
    ) -> Result<Json<Store>, ApiError<Choosing>> {
        let architecture = match text(architecture.0) {
            None => own_architecture().to_owned(),
            Some(known) if ARCHITECTURES.contains(&known.as_str()) => known,
            Some(odd) => {
                let text = format!(
                    "`architecture` must be x86_64, arm64 or armhf, not '{}'",
                    odd.escape_default()
                );
                return Err(Problem::new(StatusCode::BAD_REQUEST, text).into());
            }
        };
        snapshot.stores.refresh(PATIENCE).await;
        let shown = snapshot.stores.shown();
        let only = text(store.0);
        if let Some(only) = &only
            && !shown.iter().any(|store| store.name == *only)
        {
            let text = format!("there is no store '{}'", only.escape_default());
            return Err(Problem::new(StatusCode::NOT_FOUND, text).into());
        }
        let stores = shown.iter().map(source).collect();
        let words = words(&text(search.0).unwrap_or_default());
        let provider = Arc::clone(&snapshot.provider);
        // Programs are looked for on the disk.
        let functions = blocking(move || {
            let chosen = shown
                .iter()
                .filter(|store| only.as_ref().is_none_or(|only| store.name == *only));
            chosen
                .flat_map(|store| store.functions().iter().map(|function| (&store.name, function)))
                .filter(|(_, function)| has_all(function, &words))
                .map(|(store, function)| judged(&*provider, store, function, &architecture))
                .collect()
        });
        Ok(Json(Store {
            version: VERSION.to_owned(),
            stores,
            functions: functions.await,
        }))
    }
}

/// This machine's architecture, as lists name it.
fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "arm" => "armhf",
        other => other,
    }
}

fn source(shown: &Shown) -> StoreSource {
    let (kind, url, path) = match &shown.place {
        Place::Embedded => ("embedded", None, None),
        Place::Url(url, _) => ("url", Some(without_secrets(url)), None),
        Place::Path(path) => ("path", None, Some(path.display().to_string())),
    };
    StoreSource {
        name: shown.name.clone(),
        kind: kind.to_owned(),
        url,
        path,
        priority: shown.priority,
        functions: shown.functions().len() as u64,
        state: shown.freshness.as_str().to_owned(),
        fetched_at: shown.fetched.map(Timestamp),
        error: shown.error.clone(),
        refused: shown.refused().to_vec(),
    }
}

fn without_secrets(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for URLs without a host, which the configuration has not.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_lowercase).collect()
}

fn has_all(function: &StoreFunction, words: &[String]) -> bool {
    let text = [&function.title, &function.name, &function.description].map(|text| text.to_lowercase());
    words.iter().all(|word| text.iter().any(|text| text.contains(word)))
}

/// An entry with what can be said of it here.
fn judged(provider: &dyn Provider, store: &str, function: &StoreFunction, architecture: &str) -> StoreFunction {
    let image = function.images.get(architecture).cloned();
    let reason = match &image {
        None => Some(format!("there is no image for {architecture}")),
        Some(image) => unfit(provider, function, image),
    };
    StoreFunction {
        store: store.to_owned(),
        image,
        deployable: reason.is_none(),
        reason,
        ..function.clone()
    }
}

/// Why a provider could not run an entry.
fn unfit(provider: &dyn Provider, function: &StoreFunction, image: &str) -> Option<String> {
    let deployment = FunctionDeployment {
        service: function.name.clone(),
        image: image.to_owned(),
        env_process: function.fprocess.clone(),
        env_vars: Some(function.environment.clone()),
        labels: Some(function.labels.clone()),
        ..FunctionDeployment::default()
    };
    if let Err(error) = provider.could_run(&deployment) {
        return Some(match error {
            ProviderError::Invalid(text) => text,
            other => other.to_string(),
        });
    }
    let missing = function.requires.iter().find(|program| {
        let alone = FunctionDeployment {
            env_process: Some((*program).clone()),
            ..deployment.clone()
        };
        provider.could_run(&alone).is_err()
    });
    missing.map(|program| format!("it needs {program}, which was not found here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_words_must_be_somewhere() {
        let function = StoreFunction {
            title: "Word count".to_owned(),
            name: "wc".to_owned(),
            description: "Counts lines".to_owned(),
            ..StoreFunction::default()
        };
        for (search, found) in [("", true), ("WORD lines", true), ("wc", true), ("word cow", false)] {
            assert_eq!(has_all(&function, &words(search)), found, "{search}");
        }
    }

    #[test]
    fn what_may_be_a_key_is_not_shown() {
        let url = "https://user:pw@example.com/store.json?token=x#y"
            .parse()
            .expect("a URL");
        assert_eq!(without_secrets(&url), "https://example.com/store.json");
    }
}
