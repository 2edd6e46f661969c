//! What to run for a deployment: command, mode, directory, environment, limits.
//!
//! A pure decision over the deployment and the settings; whether a file can be
//! run is asked through an argument. Starting it is [`super::child`]'s part.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use super::Settings;
use crate::{
    model::FunctionDeployment,
    provider::{ProviderError, validate},
    watchdog,
};

/// Where programs are looked for when a function has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// One replica's command line and surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Launch {
    /// Command, quoted as in a shell; empty in static mode.
    pub(super) command: String,
    /// Name of a [`watchdog::Mode`].
    pub(super) mode: String,
    /// Working directory; the gateway's when absent.
    pub(super) directory: Option<PathBuf>,
    /// The whole environment.
    pub(super) environment: BTreeMap<String, String>,
    /// Memory limit in bytes.
    pub(super) memory: Option<u64>,
    /// Processor limit in milli-cores.
    pub(super) cpu: Option<u64>,
    /// The port that every replica listens on; see [`watchdog::Settings::fixed_port`].
    pub(super) fixed_port: Option<u16>,
    /// Directory of the files of static mode.
    pub(super) site: Option<PathBuf>,
    /// `write_timeout`, when it is set: how long calls may take to end when a replica is stopped.
    pub(super) write_timeout: Option<Duration>,
}

/// Decides what to run.
///
/// # Errors
/// `Invalid`, for the person who deploys: no command, bad quoting, an unknown
/// mode, or a program that is not there.
pub(super) fn launch(
    deployment: &FunctionDeployment,
    namespace: &str,
    settings: &Settings,
    runnable: impl Fn(&Path) -> bool,
) -> Result<Launch, ProviderError> {
    let image = settings.images.get(&deployment.image);
    let mut environment = settings.environment.clone();
    environment.extend(image.map(|image| image.environment.clone()).unwrap_or_default());
    environment.extend(deployment.env_vars.clone().unwrap_or_default());
    environment
        .entry("PATH".to_owned())
        .or_insert_with(|| DEFAULT_PATH.to_owned());
    environment.insert("OPENFAAS_NAME".to_owned(), deployment.service.clone());
    environment.insert("OPENFAAS_NAMESPACE".to_owned(), namespace.to_owned());

    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let mode = match set("mode").or(image.and_then(|image| image.mode.as_ref())) {
        Some(mode) => mode.clone(),
        None if set("upstream_url").or(set("http_upstream_url")).is_some() => "http".to_owned(),
        None => "fork".to_owned(),
    };
    let directory = image.and_then(|image| image.directory.clone());
    let command = deployment
        .env_process
        .as_ref()
        .filter(|command| !command.trim().is_empty())
        .or(image.map(|image| &image.command))
        .or(set("function_process"))
        .or(set("fprocess"))
        .cloned()
        .unwrap_or_default();
    if mode != "static" {
        let path = set("PATH").map_or(DEFAULT_PATH, String::as_str);
        program(&command, &deployment.image, directory.as_deref(), path, runnable)?;
    }
    let watchdog = watchdog_settings(&environment, &mode, &command)?;
    let site = (mode == "static").then(|| match &directory {
        Some(directory) => directory.join(&watchdog.static_path),
        None => watchdog.static_path.clone(),
    });
    Ok(Launch {
        site,
        fixed_port: watchdog.fixed_port(),
        write_timeout: set("write_timeout").map(|_| watchdog.write_timeout),
        command,
        mode,
        directory,
        memory: validate::memory_limit(deployment),
        cpu: validate::cpu_limit(deployment),
        environment,
    })
}

/// What a deployment that was accepted runs, whatever became of its program since.
pub(super) fn accepted(deployment: &FunctionDeployment, namespace: &str, settings: &Settings) -> Option<Launch> {
    launch(deployment, namespace, settings, |_| true).ok()
}

/// Checks that so many replicas can run beside each other.
///
/// # Errors
/// `Invalid`: they would all listen on one port of this machine.
pub(super) fn fits(launch: &Launch, replicas: u64) -> Result<(), ProviderError> {
    match launch.fixed_port {
        Some(port) if replicas > 1 => Err(ProviderError::Invalid(format!(
            "replicas: {replicas} replicas cannot all listen on port {port} of upstream_url; \
             leave upstream_url out, set mode to http, and let the function listen on $PORT"
        ))),
        _ => Ok(()),
    }
}

/// Checks that the directory of static mode is there.
///
/// # Errors
/// `Invalid`: it is not.
pub(super) fn site_exists(launch: &Launch, is_directory: impl Fn(&Path) -> bool) -> Result<(), ProviderError> {
    match &launch.site {
        Some(site) if !is_directory(site) => Err(ProviderError::Invalid(format!(
            "static_path: {} is no directory",
            site.display()
        ))),
        _ => Ok(()),
    }
}

/// Checks the variables that the watchdog reads, which would otherwise fail in each replica.
fn watchdog_settings(
    environment: &BTreeMap<String, String>,
    mode: &str,
    command: &str,
) -> Result<watchdog::Settings, ProviderError> {
    let mut environment = environment.clone();
    environment.insert("mode".to_owned(), mode.to_owned());
    environment.insert("function_process".to_owned(), command.to_owned());
    watchdog::Settings::from_env(&environment).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        ProviderError::Invalid(texts.join("; "))
    })
}

/// Checks that the first word of a command is a program that can be run.
fn program(
    command: &str,
    image: &str,
    directory: Option<&Path>,
    path: &str,
    runnable: impl Fn(&Path) -> bool,
) -> Result<(), ProviderError> {
    let invalid = |text: String| Err(ProviderError::Invalid(text));
    let words = match shell_words::split(command) {
        Ok(words) => words,
        Err(error) => return invalid(format!("envProcess: '{command}' is not quoted as in a shell: {error}")),
    };
    let Some(program) = words.first() else {
        return invalid(format!(
            "envProcess: this provider runs commands and has none for image '{image}'; \
             set envProcess (fprocess) or add [provider.process.images.\"{image}\"] to the configuration"
        ));
    };
    let candidate = Path::new(program);
    if candidate.is_absolute() {
        if runnable(candidate) {
            return Ok(());
        }
        return invalid(format!("envProcess: '{program}' is not a program that can be run"));
    }
    if program.contains('/') {
        return match directory {
            Some(directory) if runnable(&directory.join(candidate)) => Ok(()),
            Some(directory) => invalid(format!(
                "envProcess: '{program}' is not a program that can be run in {}",
                directory.display()
            )),
            None => invalid(format!(
                "envProcess: '{program}' is relative to nothing; use an absolute path, \
                 or an image with a directory in [provider.process.images]"
            )),
        };
    }
    let found = path
        .split(':')
        .filter(|folder| folder.starts_with('/'))
        .any(|folder| runnable(&Path::new(folder).join(program)));
    if found {
        return Ok(());
    }
    invalid(format!(
        "envProcess: command '{program}' was not found on PATH ({path})"
    ))
}

/// Whether this process may run the file.
pub(super) fn runnable(path: &Path) -> bool {
    path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Image;

    fn deployment(command: Option<&str>, vars: &[(&str, &str)]) -> FunctionDeployment {
        FunctionDeployment {
            service: "f".to_owned(),
            image: "img".to_owned(),
            env_process: command.map(str::to_owned),
            env_vars: Some(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
            ..Default::default()
        }
    }

    fn settings(image: Option<Image>) -> Settings {
        let mut settings = Settings::new("/state", "/gateway");
        settings.environment = [("PATH".to_owned(), "/bin:relative:/usr/bin".to_owned())].into();
        settings.images = image.map(|image| ("img".to_owned(), image)).into_iter().collect();
        settings
    }

    fn image(command: &str, mode: Option<&str>) -> Image {
        Image {
            command: command.to_owned(),
            directory: Some("/srv/f".into()),
            mode: mode.map(str::to_owned),
            environment: [
                ("A".to_owned(), "image".to_owned()),
                ("B".to_owned(), "image".to_owned()),
            ]
            .into(),
        }
    }

    fn exists(path: &Path) -> bool {
        ["/usr/bin/cat", "/opt/tool", "/srv/f/run.sh"]
            .map(Path::new)
            .contains(&path)
    }

    #[test]
    fn commands_come_from_the_deployment_then_the_image_then_the_environment() {
        for (command, image_command, vars, expected) in [
            (Some("cat -u"), Some("/opt/tool"), &[][..], "cat -u"),
            (None, Some("/opt/tool x"), &[("fprocess", "cat")][..], "/opt/tool x"),
            (Some(" "), Some("./run.sh"), &[][..], "./run.sh"),
            (None, None, &[("fprocess", "cat")][..], "cat"),
        ] {
            let settings = settings(image_command.map(|command| image(command, None)));
            let launch = launch(&deployment(command, vars), "ns", &settings, exists).expect(expected);
            assert_eq!(launch.command, expected);
        }
    }

    #[test]
    fn commands_that_cannot_run_are_refused_with_a_reason() {
        for (command, reason) in [
            (None, "has none for image 'img'"),
            (Some("nonesuch --x"), "'nonesuch' was not found on PATH"),
            (Some("/opt/missing"), "'/opt/missing' is not a program"),
            (Some("./run.sh"), "relative to nothing"),
            (Some("cat 'x"), "quoted as in a shell"),
        ] {
            let error = launch(&deployment(command, &[]), "ns", &settings(None), exists).expect_err(reason);
            assert!(matches!(error, ProviderError::Invalid(_)), "{error:?}");
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn the_mode_is_named_or_follows_from_the_upstream_url() {
        let mode = |vars: &[(&str, &str)], image_mode: Option<&str>| {
            let settings = settings(Some(image("/opt/tool", image_mode)));
            launch(&deployment(None, vars), "ns", &settings, exists).map(|launch| launch.mode)
        };
        let url = ("upstream_url", "http://127.0.0.1:5000");
        assert_eq!(mode(&[], None).as_deref().ok(), Some("fork"));
        assert_eq!(mode(&[url], None).as_deref().ok(), Some("http"));
        assert_eq!(mode(&[url], Some("streaming")).as_deref().ok(), Some("streaming"));
        assert_eq!(
            mode(&[("mode", "serializing")], Some("http")).as_deref().ok(),
            Some("serializing")
        );
        assert!(mode(&[("mode", "afterburn")], None).is_err());
    }

    #[test]
    fn replicas_with_a_port_of_their_own_fit_beside_each_other() {
        for (vars, replicas, fine) in [
            (&[("upstream_url", "http://127.0.0.1:5000")][..], 1, true),
            (&[("upstream_url", "http://127.0.0.1:5000")], 2, false),
            (&[("upstream_url", "http://other.example:5000")], 2, true),
            (&[("mode", "http")], 2, true),
        ] {
            let launch = launch(&deployment(Some("cat"), vars), "ns", &settings(None), exists).expect("runs");
            assert_eq!(fits(&launch, replicas).is_ok(), fine, "{vars:?} {replicas}");
        }
    }

    #[test]
    fn the_deployment_has_the_last_word_on_the_environment() {
        let settings = settings(Some(image("/opt/tool", None)));
        let launch = launch(&deployment(None, &[("B", "deployment")]), "ns", &settings, exists).expect("runs");
        let get = |name: &str| launch.environment.get(name).map(String::as_str);
        assert_eq!(
            (get("A"), get("B"), get("OPENFAAS_NAME"), get("OPENFAAS_NAMESPACE")),
            (Some("image"), Some("deployment"), Some("f"), Some("ns"))
        );
        assert_eq!(launch.directory.as_deref(), Some(Path::new("/srv/f")));
    }

    #[test]
    fn variables_of_the_watchdog_are_checked() {
        for pair in [("exec_timeout", "soon"), ("max_inflight", "-1"), ("mode", "inproc")] {
            let error = launch(&deployment(Some("cat"), &[pair]), "ns", &settings(None), exists).expect_err(pair.0);
            assert!(
                matches!(&error, ProviderError::Invalid(text) if text.contains(pair.0)),
                "{error:?}"
            );
        }
    }

    #[test]
    fn static_mode_needs_no_command() {
        let vars = [("mode", "static"), ("static_path", "public")];
        let launch = |image| launch(&deployment(None, &vars), "ns", &settings(image), exists).expect("runs");
        assert_eq!(launch(None).command, "");
        assert_eq!(launch(None).site.as_deref(), Some(Path::new("public")));
        let site = launch(Some(image("/opt/tool", None))).site;
        assert_eq!(site.as_deref(), Some(Path::new("/srv/f/public")));
    }
}
