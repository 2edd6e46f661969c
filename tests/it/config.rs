//! Configuration as its users meet it: files, variables, flags, and what is
//! said about mistakes. Nothing here reads the environment of the test.

mod documents;
mod environment;
mod functions;
mod fuzz;
mod mistakes;
mod restart;
mod routes;
mod secrets;
mod variables;

use std::collections::BTreeMap;

use faas_gateway::config::{ConfigError, Loaded, Sources, dotted, parse};

/// Sources with an environment, in which HOME is set.
pub(crate) fn environment(variables: &[(&str, &str)]) -> Sources {
    let mut environment: BTreeMap<_, _> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    environment
        .entry("HOME".to_owned())
        .or_insert_with(|| "/home/user".to_owned());
    Sources {
        environment,
        ..Sources::default()
    }
}

/// A file's content with no variables set.
pub(crate) fn file(content: &str) -> Result<Loaded, Vec<ConfigError>> {
    let sources = Sources {
        file: Some("gateway.toml".into()),
        ..environment(&[])
    };
    parse(Some(content), &sources)
}

/// The errors as they are printed.
pub(crate) fn errors(result: Result<Loaded, Vec<ConfigError>>) -> Vec<String> {
    match result {
        Ok(_) => panic!("mistakes expected"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// The printed value of a key, and the layer it came from.
pub(crate) fn value(loaded: &Loaded, key: &str) -> (String, String) {
    let entry = loaded
        .config
        .entries()
        .into_iter()
        .find(|entry| entry.key() == key)
        .unwrap_or_else(|| panic!("no key {key}"));
    (
        entry.value.clone().unwrap_or_else(|| "unset".to_owned()),
        loaded.origins.of(&entry.path).unwrap_or_else(|| "derived".to_owned()),
    )
}

#[test]
fn point_22_layers_win_in_order() {
    let mut sources = Sources {
        file: Some("gateway.toml".into()),
        ..environment(&[])
    };
    let content = Some("[server]\nread_timeout = \"1s\"");
    let key = "server.read_timeout";
    let read = |content, sources: &Sources| value(&parse(content, sources).expect("valid"), key);
    let is = |value: &str, origin: &str| (format!("\"{value}\""), origin.to_owned());

    assert_eq!(read(None, &sources), is("1m", "default"));
    assert_eq!(read(content, &sources), is("1s", "gateway.toml:2:1"));
    sources.environment.insert("read_timeout".to_owned(), "2".to_owned());
    assert_eq!(read(content, &sources), is("2s", "environment variable read_timeout"));
    sources
        .environment
        .insert("FAAS__SERVER__READ_TIMEOUT".to_owned(), "3s".to_owned());
    assert_eq!(
        read(content, &sources),
        is("3s", "environment variable FAAS__SERVER__READ_TIMEOUT")
    );
    sources.overrides.push((key.to_owned(), "4s".to_owned()));
    assert_eq!(read(content, &sources), is("4s", "command line"));
}

#[test]
fn the_file_is_named_by_flag_or_variable() {
    let named = |variable: &str, flag: Option<&str>| {
        let environment = environment(&[("FAAS_CONFIG", variable)]).environment;
        Sources::new(environment, flag.map(Into::into), Vec::new()).file
    };
    assert_eq!(named("a.toml", None), Some("a.toml".into()));
    assert_eq!(named("a.toml", Some("b.toml")), Some("b.toml".into()));
    assert_eq!(named("", None), None);
}

#[test]
fn any_key_can_be_set_on_the_command_line() {
    let sources = Sources {
        overrides: [
            ("functions.\"figlet.dev\".timeouts.total", "5s"),
            ("provider.process.images", "{ \"a:b\" = { command = \"cat\" } }"),
            ("auth.basic", "true"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        ..environment(&[])
    };
    let loaded = parse(None, &sources).expect("valid");
    for (key, expected) in [
        ("functions.\"figlet.dev\".timeouts.total", "\"5s\""),
        ("provider.process.images.\"a:b\".command", "\"cat\""),
        ("auth.basic", "true"),
    ] {
        assert_eq!(value(&loaded, key), (expected.to_owned(), "command line".to_owned()));
    }
}

#[test]
fn values_that_follow_from_others() {
    let home = |variables: &[(&str, &str)]| parse(None, &environment(variables)).expect("valid").config;
    let process = home(&[]);
    assert_eq!(process.listen().to_string(), "127.0.0.1:8080");
    assert_eq!(process.metrics_listen().to_string(), "127.0.0.1:8082");
    assert_eq!(process.default_namespace(), "openfaas-fn");
    assert!(process.from_zero());
    assert_eq!(
        process.provider.process.state_dir,
        Some("/home/user/.local/state/faas-gateway".into())
    );
    let state_home = home(&[("XDG_STATE_HOME", "/state")]).provider.process.state_dir;
    assert_eq!(state_home, Some("/state/faas-gateway".into()));

    let remote = home(&[("functions_provider_url", "http://faas-netes:8080")]);
    assert_eq!(remote.provider_kind().as_str(), "http", "the URL alone switches");
    assert_eq!(remote.listen().to_string(), "0.0.0.0:8080");
    assert_eq!(remote.metrics_listen().to_string(), "0.0.0.0:8082");
    assert_eq!(remote.default_namespace(), "");
    assert!(!remote.from_zero());
    assert_eq!(remote.provider.url.expect("set").as_str(), "http://faas-netes:8080/");
}

#[test]
fn point_24_secrets_are_masked_where_they_are_shown() {
    let loaded = file(
        "[provider]\nurl = \"http://user:pass@host/\"\n[auth]\nproxy_url = \"https://token@host/x?key=pass\"\n\
         [provider.process.images.a]\ncommand = \"cat\"\nenvironment = { TOKEN = \"pass\" }",
    )
    .expect("valid");
    let shown: Vec<_> = loaded
        .config
        .entries()
        .iter()
        .filter_map(|entry| entry.shown(&loaded.origins))
        .collect();
    assert!(
        !shown
            .iter()
            .any(|value| value.contains("pass") || value.contains("token")),
        "{shown:?}"
    );
    assert!(shown.contains(&"\"http://***@host/\"".to_owned()), "{shown:?}");
    assert!(shown.contains(&"\"https://***@host/x?***\"".to_owned()), "{shown:?}");
    assert!(shown.contains(&"\"***\"".to_owned()), "{shown:?}");
}

#[test]
fn point_24_what_is_no_url_is_told_without_what_may_be_a_password() {
    for (key, text, shown) in [
        ("auth.proxy_url", "user:pw@host", "'***@host'"),
        ("auth.proxy_url", "ftp://user:pw@host/?key=pw", "'ftp://***@host/?***'"),
        ("provider.url", "http://user:p/w@host:port", "'http://***@host:port'"),
        ("server.listen", "http://user:pw@host", "'http://***@host'"),
    ] {
        let found = errors(file(&format!("{key} = \"{text}\"")));
        assert!(
            found.len() == 1 && found[0].contains(&format!("found {shown}")),
            "{found:?}"
        );
        assert!(!found[0].contains("pw") && !found[0].contains("p/w"), "{found:?}");
    }
}

#[test]
fn keys_are_quoted_where_toml_needs_it() {
    assert_eq!(dotted(&["functions", "a.b", "timeouts"]), "functions.\"a.b\".timeouts");
    assert_eq!(dotted(&["a\"b"]), "\"a\\\"b\"");
}
