//! `functions`: list, show, deploy, call, scale, remove, and read their logs.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, IsTerminal, Read},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use reqwest::Method;

use super::{
    Answer,
    gateway::{Failure, Gateway, part, query},
    table::{One, Rows, time},
};
use crate::model::{
    DeleteFunctionRequest, FunctionDeployment, FunctionRef, FunctionStatus, ScaleServiceRequest, from_value,
};

#[derive(Debug, Subcommand)]
pub(super) enum Functions {
    /// List functions
    #[command(visible_alias = "list")]
    Ls {
        /// Those of this namespace
        #[arg(long, short = 'n')]
        namespace: Option<String>,
    },
    /// Show a function
    Show {
        /// `name` or `name.namespace`
        name: String,
    },
    /// Deploy a function, or replace the one that is there without dropping calls
    Deploy(Box<Deploy>),
    /// Remove functions
    #[command(visible_alias = "remove")]
    Rm {
        /// `name` or `name.namespace`
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Set the number of replicas of a function
    Scale {
        /// `name` or `name.namespace`
        name: String,
        /// How many; 0 stops the function
        replicas: u64,
    },
    /// Call a function with standard input as the body, and print its answer
    #[command(visible_alias = "invoke")]
    Call {
        /// `name` or `name.namespace`
        name: String,
        /// The path that the function sees, with a query if you like
        #[arg(long, default_value = "")]
        path: String,
        /// Do not wait for the answer; print the id of the call
        #[arg(long, short = 'a')]
        r#async: bool,
    },
    /// Print what a function's replicas wrote, a JSON object a line
    Logs {
        /// `name` or `name.namespace`
        name: String,
        /// Only the last so many lines
        #[arg(long)]
        tail: Option<u64>,
        /// Go on with new lines
        #[arg(long, short = 'f')]
        follow: bool,
        /// Only lines since this time (RFC 3339)
        #[arg(long)]
        since: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Deploy {
    /// Name of the function; with --file it may be there
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// A deployment as the API takes it, JSON or YAML; the other options are put above it. `-` is standard input
    #[arg(long, short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// Container image, or a name from the image table of the process provider
    #[arg(long)]
    image: Option<String>,
    /// Command that the watchdog runs
    #[arg(long, value_name = "COMMAND")]
    process: Option<String>,
    /// Namespace
    #[arg(long, short = 'n')]
    namespace: Option<String>,
    /// Environment variable; may be repeated
    #[arg(long, short = 'e', value_name = "NAME=VALUE", value_parser = crate::cli::key_and_value)]
    env: Vec<(String, String)>,
    /// Label; may be repeated
    #[arg(long, short = 'l', value_name = "NAME=VALUE", value_parser = crate::cli::key_and_value)]
    label: Vec<(String, String)>,
    /// Annotation; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::cli::key_and_value)]
    annotation: Vec<(String, String)>,
    /// Name of a secret that the function reads; may be repeated
    #[arg(long, value_name = "NAME")]
    secret: Vec<String>,
}

impl Functions {
    pub(super) async fn run(self, gateway: &Gateway) -> Result<Answer, Failure> {
        match self {
            Self::Ls { namespace } => {
                let path = format!("/system/functions{}", query(&[("namespace", namespace.as_deref())]));
                Ok(Answer::of(Rows {
                    all: gateway.get::<Vec<FunctionStatus>>(&path).await?,
                    head: &["NAME", "NAMESPACE", "READY", "REPLICAS", "CALLS", "IMAGE"],
                    row,
                }))
            }
            Self::Show { name } => {
                let path = format!("/system/function/{}?usage=1", part(&name));
                Ok(Answer::of(One {
                    value: gateway.get::<FunctionStatus>(&path).await?,
                    fields,
                }))
            }
            Self::Deploy(deploy) => deploy.run(gateway).await,
            Self::Rm { names } => {
                for name in &names {
                    let function = named(name)?;
                    let request = DeleteFunctionRequest {
                        namespace: Some(function.namespace).filter(|namespace| !namespace.is_empty()),
                        function_name: function.name,
                    };
                    gateway
                        .done(Method::DELETE, "/system/functions", Some(&request))
                        .await?;
                }
                Ok(Answer::Done(format!("{} removed", names.join(", "))))
            }
            Self::Scale { name, replicas } => {
                let request = ScaleServiceRequest {
                    replicas,
                    ..ScaleServiceRequest::default()
                };
                let path = format!("/system/scale-function/{}", part(&name));
                gateway.done(Method::POST, &path, Some(&request)).await?;
                Ok(Answer::Done(format!("{name} is to have {replicas} replicas")))
            }
            Self::Call { name, path, r#async } => call(gateway, &name, &path, r#async).await,
            Self::Logs {
                name,
                tail,
                follow,
                since,
            } => {
                let tail = tail.map(|tail| tail.to_string());
                let query = query(&[
                    ("name", Some(&name)),
                    ("tail", tail.as_deref()),
                    ("follow", follow.then_some("true")),
                    ("since", since.as_deref()),
                ]);
                let answer = gateway.stream(&format!("/system/logs{query}")).await?;
                gateway.copy(answer).await?;
                Ok(Answer::Printed)
            }
        }
    }
}

async fn call(gateway: &Gateway, name: &str, path: &str, later: bool) -> Result<Answer, Failure> {
    if !path.is_empty() && !path.starts_with(['/', '?']) {
        return Err(Failure::Usage("--path must begin with a slash".to_owned()));
    }
    let mut body = Vec::new();
    // Nobody types a body by accident.
    if !io::stdin().is_terminal() {
        let read = io::stdin().read_to_end(&mut body);
        read.map_err(|error| Failure::Usage(format!("standard input: {error}")))?;
    }
    let kind = if later { "async-function" } else { "function" };
    let answer = gateway.call(&format!("/{kind}/{}{path}", part(name)), body).await?;
    if later {
        let id = answer.headers().get("x-call-id").and_then(|id| id.to_str().ok());
        return Ok(Answer::Done(id.unwrap_or("accepted").to_owned()));
    }
    gateway.copy(answer).await?;
    Ok(Answer::Printed)
}

impl Deploy {
    async fn run(self, gateway: &Gateway) -> Result<Answer, Failure> {
        let deployment = self.deployment()?;
        let name = deployment.service.clone();
        // What is there is replaced without dropping calls.
        let updated = gateway
            .done_if_there(Method::PUT, "/system/functions", Some(&deployment))
            .await?;
        if !updated {
            gateway
                .done(Method::POST, "/system/functions", Some(&deployment))
                .await?;
            return Ok(Answer::Done(format!("{name} deployed")));
        }
        Ok(Answer::Done(format!("{name} updated")))
    }

    fn deployment(self) -> Result<FunctionDeployment, Failure> {
        let mut deployment = match &self.file {
            None => FunctionDeployment::default(),
            Some(file) => {
                let wrong = |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", file.display()));
                let text = if file.as_os_str() == "-" {
                    io::read_to_string(io::stdin())
                } else {
                    fs::read_to_string(file)
                };
                let text = text.map_err(|error| wrong(&error))?;
                let mut value: serde_json::Value = serde_yaml::from_str(&text).map_err(|error| wrong(&error))?;
                if let (Some(name), Some(fields)) = (&self.name, value.as_object_mut()) {
                    fields.insert("service".to_owned(), name.clone().into());
                }
                from_value(value).map_err(|error| wrong(&error))?
            }
        };
        if let Some(name) = self.name {
            deployment.service = name;
        }
        if let Some(image) = self.image {
            deployment.image = image;
        }
        deployment.env_process = self.process.or(deployment.env_process);
        deployment.namespace = self.namespace.or(deployment.namespace);
        add(&mut deployment.env_vars, self.env);
        add(&mut deployment.labels, self.label);
        add(&mut deployment.annotations, self.annotation);
        if !self.secret.is_empty() {
            deployment.secrets.get_or_insert_default().extend(self.secret);
        }
        Ok(deployment)
    }
}

fn add(map: &mut Option<BTreeMap<String, String>>, more: Vec<(String, String)>) {
    if !more.is_empty() {
        map.get_or_insert_default().extend(more);
    }
}

fn named(name: &str) -> Result<FunctionRef, Failure> {
    FunctionRef::parse(name, "").map_err(|error| Failure::Usage(error.to_string()))
}

fn row(function: &FunctionStatus) -> Vec<String> {
    vec![
        function.name.clone(),
        function.namespace.clone().unwrap_or_default(),
        function.available_replicas.to_string(),
        function.replicas.to_string(),
        function
            .invocation_count
            .map_or_else(String::new, |count| count.0.to_string()),
        function.image.clone(),
    ]
}

fn fields(function: &FunctionStatus) -> Vec<(&'static str, String)> {
    let pairs = |map: &Option<BTreeMap<String, String>>| {
        let pairs = map.iter().flatten().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("\n")
    };
    let list = |list: &Option<Vec<String>>| list.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
    vec![
        ("Name", function.name.clone()),
        ("Namespace", function.namespace.clone().unwrap_or_default()),
        (
            "Replicas",
            format!("{} ready of {}", function.available_replicas, function.replicas),
        ),
        ("Image", function.image.clone()),
        ("Process", function.env_process.clone().unwrap_or_default()),
        ("Created", time(function.created_at)),
        ("Labels", pairs(&function.labels)),
        ("Annotations", pairs(&function.annotations)),
        ("Variables", pairs(&function.env_vars)),
        ("Secrets", list(&function.secrets)),
        ("Constraints", list(&function.constraints)),
        (
            "Memory",
            function
                .usage
                .as_ref()
                .and_then(|usage| usage.total_memory_bytes)
                .map_or_else(String::new, |bytes| format!("{} bytes in use", bytes.0)),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn options_are_above_the_file() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        write!(file, "service: a\nimage: one\nenvVars: {{A: '1', B: '1'}}").expect("written");
        let deploy = |name: Option<&str>| Deploy {
            name: name.map(str::to_owned),
            file: Some(file.path().to_owned()),
            image: None,
            process: Some("cat".to_owned()),
            namespace: None,
            env: vec![("B".to_owned(), "2".to_owned())],
            label: Vec::new(),
            annotation: Vec::new(),
            secret: vec!["s".to_owned()],
        };
        let Ok(found) = deploy(None).deployment() else {
            panic!("a deployment")
        };
        assert_eq!((&*found.service, &*found.image), ("a", "one"));
        let variables = found.env_vars.expect("variables");
        assert_eq!((&*variables["A"], &*variables["B"]), ("1", "2"));
        assert_eq!(
            (found.env_process.as_deref(), found.secrets),
            (Some("cat"), Some(vec!["s".to_owned()]))
        );
        let Ok(found) = deploy(Some("b")).deployment() else {
            panic!("a deployment")
        };
        assert_eq!(found.service, "b");
    }
}
