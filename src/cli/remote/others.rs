//! `namespaces`, `secrets`, and `config status`.

use std::{
    fs,
    io::{self, Read},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use reqwest::Method;

use super::{
    Answer,
    gateway::{Failure, Gateway, part, query},
    table::{One, Rows, time},
};
use crate::model::{ConfigStatus, FunctionNamespace, Secret};

#[derive(Debug, Subcommand)]
pub(super) enum Namespaces {
    /// List namespaces (the default)
    #[command(visible_alias = "list")]
    Ls,
    /// Create a namespace
    Create {
        /// Its name
        name: String,
    },
    /// Remove a namespace and the functions and secrets in it
    #[command(visible_alias = "remove")]
    Rm {
        /// Its name
        name: String,
    },
}

impl Namespaces {
    pub(super) async fn run(command: Option<Self>, gateway: &Gateway) -> Result<Answer, Failure> {
        let named = |name: &str| FunctionNamespace {
            name: name.to_owned(),
            ..FunctionNamespace::default()
        };
        match command.unwrap_or(Self::Ls) {
            Self::Ls => Ok(Answer::of(Rows {
                all: gateway.get::<Vec<String>>("/system/namespaces").await?,
                head: &["NAME"],
                row: |name| vec![name.clone()],
            })),
            Self::Create { name } => {
                let path = format!("/system/namespace/{}", part(&name));
                gateway.done(Method::POST, &path, Some(&named(&name))).await?;
                Ok(Answer::Done(format!("{name} created")))
            }
            Self::Rm { name } => {
                let path = format!("/system/namespace/{}", part(&name));
                gateway.done(Method::DELETE, &path, Some(&named(&name))).await?;
                Ok(Answer::Done(format!("{name} removed")))
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Secrets {
    /// List secrets; nobody is told their values
    #[command(visible_alias = "list")]
    Ls {
        /// Those of this namespace
        #[arg(long, short = 'n')]
        namespace: Option<String>,
    },
    /// Create a secret from standard input or a file
    Create(Value),
    /// Change a secret
    Update(Value),
    /// Remove a secret
    #[command(visible_alias = "remove")]
    Rm {
        /// Its name
        name: String,
        /// Its namespace
        #[arg(long, short = 'n')]
        namespace: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Value {
    /// Its name
    name: String,
    /// Its namespace
    #[arg(long, short = 'n')]
    namespace: Option<String>,
    /// File with the value, byte for byte; standard input without it
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

impl Value {
    fn secret(&self) -> Result<Secret, Failure> {
        let mut bytes = Vec::new();
        let read = match &self.from_file {
            Some(file) => fs::read(file).map(|read| bytes = read),
            None => io::stdin().read_to_end(&mut bytes).map(drop),
        };
        let from = || {
            self.from_file
                .as_ref()
                .map_or("standard input".into(), |file| file.display().to_string())
        };
        read.map_err(|error| Failure::Usage(format!("{}: {error}", from())))?;
        let namespace = self.namespace.as_deref().unwrap_or_default();
        Ok(Secret::named(&*self.name, namespace).holding(bytes))
    }
}

impl Secrets {
    pub(super) async fn run(self, gateway: &Gateway) -> Result<Answer, Failure> {
        const PATH: &str = "/system/secrets";
        match self {
            Self::Ls { namespace } => {
                let path = format!("{PATH}{}", query(&[("namespace", namespace.as_deref())]));
                Ok(Answer::of(Rows {
                    all: gateway.get::<Vec<Secret>>(&path).await?,
                    head: &["NAME", "NAMESPACE"],
                    row: |secret| vec![secret.name.clone(), secret.namespace.clone().unwrap_or_default()],
                }))
            }
            Self::Create(value) => {
                gateway.done(Method::POST, PATH, Some(&value.secret()?)).await?;
                Ok(Answer::Done(format!("{} created", value.name)))
            }
            Self::Update(value) => {
                gateway.done(Method::PUT, PATH, Some(&value.secret()?)).await?;
                Ok(Answer::Done(format!("{} changed", value.name)))
            }
            Self::Rm { name, namespace } => {
                let secret = Secret::named(&*name, namespace.unwrap_or_default());
                gateway.done(Method::DELETE, PATH, Some(&secret)).await?;
                Ok(Answer::Done(format!("{name} removed")))
            }
        }
    }
}

/// `config status`.
pub(super) async fn config_status(gateway: &Gateway) -> Result<Answer, Failure> {
    Ok(Answer::of(One {
        value: gateway.get::<ConfigStatus>("/system/config/status").await?,
        fields: |status| {
            let attempt = &status.last_attempt;
            let sources = status.sources.iter().map(|source| source.path.clone());
            let shadowed = status
                .shadowed_by_env
                .iter()
                .map(|shadow| format!("{} by {}", shadow.key, shadow.by));
            vec![
                ("Generation", status.generation.to_string()),
                ("Hash", status.hash.clone()),
                ("Loaded", time(status.loaded_at)),
                ("Sources", sources.collect::<Vec<_>>().join("\n")),
                (
                    "Last attempt",
                    format!("{} {} ({})", time(attempt.at), attempt.result, attempt.trigger),
                ),
                ("Errors", attempt.errors.join("\n")),
                ("Warnings", attempt.warnings.join("\n")),
                ("Pending restart", status.pending_restart.join("\n")),
                ("Shadowed", shadowed.collect::<Vec<_>>().join("\n")),
            ]
        },
    }))
}
