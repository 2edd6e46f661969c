//! `faas-gateway diff`: what a file would change, here or in a running gateway.
//!
//! Exit codes are those of `diff` where they can be: 0 for no difference, 1 for
//! some, 2 when the gateway cannot be asked; a wrong file is 64 as everywhere.

use std::{path::Path, process::ExitCode, time::Duration};

use reqwest::{StatusCode, header};
use url::Url;

use super::{USAGE, complain, one_line, print, remote::Credentials};
use crate::{
    client,
    config::{self, Sources},
    model::{ConfigCandidate, ConfigCandidateFile, ConfigChange, ConfigDiff, from_json, to_json},
    problem::Problem,
};

/// Something differs.
const DIFFERENT: u8 = 1;
/// It cannot be told whether something differs.
const TROUBLE: u8 = 2;

/// Longest wait for the gateway's answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Compares `file`, which may be a directory of them, with what the sources of this process come to.
pub(super) fn offline(file: &Path, sources: &Sources) -> ExitCode {
    let candidate = Sources {
        file: Some(file.to_owned()),
        ..sources.clone()
    };
    let (live, candidate) = match (config::load(sources), config::load(&candidate)) {
        (Ok(live), Ok(candidate)) => (live, candidate),
        (live, candidate) => {
            let mut errors: Vec<String> = Vec::new();
            // A mistake of the environment is in both.
            for error in [live.err(), candidate.err()].into_iter().flatten().flatten() {
                let complaint = one_line(&error);
                if !errors.contains(&complaint) {
                    errors.push(complaint);
                }
            }
            for error in &errors {
                complain(error);
            }
            return ExitCode::from(USAGE);
        }
    };
    let compared = config::compare((&live.config, &live.origins), &candidate);
    let changes: Vec<ConfigChange> = compared.differences.into_iter().map(ConfigChange::from).collect();
    report(&changes, &compared.warnings)
}

/// Asks the gateway at `url` to compare `file`, which may be a directory of them, with what it runs with.
pub(super) fn against(url: &Url, file: &Path, credentials: Option<&Credentials>) -> ExitCode {
    match ask(url, file, credentials) {
        Ok(diff) => report(&diff.changes, &diff.warnings),
        Err(Failure::Wrong(errors)) => {
            for error in errors {
                complain(&format!("error: {error}"));
            }
            ExitCode::from(USAGE)
        }
        Err(Failure::Trouble(error)) => {
            complain(&format!("error: {error}"));
            ExitCode::from(TROUBLE)
        }
    }
}

/// Why there is no answer.
enum Failure {
    /// The file or the command line is wrong.
    Wrong(Vec<String>),
    /// The gateway could not be asked.
    Trouble(String),
}

fn ask(url: &Url, file: &Path, credentials: Option<&Credentials>) -> Result<ConfigDiff, Failure> {
    let sources = Sources {
        file: Some(file.to_owned()),
        ..Sources::default()
    };
    let files = sources
        .read()
        .map_err(|error| Failure::Wrong(vec![error.to_string()]))?;
    let files = files.into_iter().map(|file| ConfigCandidateFile {
        name: file.path.display().to_string(),
        content: file.content,
    });
    let candidate = ConfigCandidate { files: files.collect() };
    let mut base = without_credentials(url);
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    let target = base
        .join("system/config/diff")
        .map_err(|error| Failure::Wrong(vec![format!("{error} in --against")]))?;
    let mut request = client::build(PATIENCE)
        .post(target)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(to_json(&candidate));
    if let Some(credentials) = credentials {
        request = credentials.sign(request);
    }
    let trouble = |error: &dyn std::fmt::Display| Failure::Trouble(format!("{}: {error}", without_credentials(url)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| trouble(&error))?;
    let answer = runtime.block_on(async {
        let response = request.send().await?;
        let status = response.status();
        response.bytes().await.map(|body| (status, body))
    });
    let (status, body) = answer.map_err(|error| trouble(&client::describe(&error.without_url())))?;
    if status.is_success() {
        return from_json(&body).map_err(|error| trouble(&format!("answered what is no comparison: {error}")));
    }
    match from_json::<Problem>(&body) {
        Ok(problem) if status == StatusCode::UNPROCESSABLE_ENTITY => {
            Err(Failure::Wrong(problem.errors.unwrap_or_else(|| vec![problem.detail])))
        }
        Ok(problem) => Err(trouble(&format!("answered {status}: {}", problem.detail))),
        Err(_) => Err(trouble(&format!("answered {status}"))),
    }
}

/// The URL without what may be a secret.
fn without_credentials(url: &Url) -> Url {
    let mut url = url.clone();
    // Fails only for URLs that cannot have any.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

fn report(changes: &[ConfigChange], warnings: &[String]) -> ExitCode {
    for warning in warnings {
        complain(&format!("warning: {warning}"));
    }
    if changes.is_empty() {
        return ExitCode::SUCCESS;
    }
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".to_owned());
    let lines: Vec<String> = changes
        .iter()
        .map(|change| {
            let (old, new) = (shown(&change.old), shown(&change.new));
            format!("{}: {old} -> {new} ({})", change.key, change.effect)
        })
        .collect();
    if print(&lines.join("\n")) == ExitCode::SUCCESS {
        ExitCode::from(DIFFERENT)
    } else {
        ExitCode::from(TROUBLE)
    }
}
