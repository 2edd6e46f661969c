//! OpenFaaS's variables, under their own names.

use faas_gateway::config::parse;

use super::{environment, errors, file, value};

/// Variable, value, key, the key's value then.
pub(super) const OPENFAAS: &[(&str, &str, &str, &str)] = &[
    (
        "functions_provider_url",
        "http://faas-netes:8080",
        "provider.url",
        "\"http://faas-netes:8080/\"",
    ),
    (
        "logs_provider_url",
        "http://logs/base",
        "provider.logs_url",
        "\"http://logs/base/\"",
    ),
    ("function_namespace", "fn", "provider.default_namespace", "\"fn\""),
    ("direct_functions", "true", "provider.direct_functions", "true"),
    (
        "direct_functions_suffix",
        "fn.svc",
        "provider.direct_functions_suffix",
        "\"fn.svc\"",
    ),
    ("read_timeout", "65", "server.read_timeout", "\"1m5s\""),
    ("write_timeout", "1m10s", "server.write_timeout", "\"1m10s\""),
    ("upstream_timeout", "100ms", "invoke.upstream_timeout", "\"100ms\""),
    ("max_idle_conns", "10", "invoke.max_idle_conns", "10"),
    ("max_idle_conns_per_host", "11", "invoke.max_idle_conns_per_host", "11"),
    ("faas_nats_address", "nats", "queue.nats_address", "\"nats\""),
    ("faas_nats_port", "4222", "queue.nats_port", "4222"),
    (
        "faas_nats_cluster_name",
        "cluster",
        "queue.nats_cluster_name",
        "\"cluster\"",
    ),
    ("faas_nats_channel", "channel", "queue.nats_channel", "\"channel\""),
    (
        "faas_prometheus_host",
        "prometheus",
        "prometheus.host",
        "\"prometheus\"",
    ),
    ("faas_prometheus_port", "9091", "prometheus.port", "9091"),
    ("basic_auth", "true", "auth.basic", "true"),
    (
        "secret_mount_path",
        "/var/secrets",
        "auth.secret_path",
        "\"/var/secrets\"",
    ),
    (
        "auth_proxy_url",
        "http://plugin:8080/validate",
        "auth.proxy_url",
        "\"http://plugin:8080/validate\"",
    ),
    ("auth_proxy_pass_body", "true", "auth.proxy_pass_body", "true"),
    ("scale_from_zero", "true", "scaling.from_zero", "true"),
    ("write_request_uri", "anything", "logging.upstream_uri", "true"),
];

#[test]
fn each_variable_sets_its_key() {
    for (variable, text, key, expected) in OPENFAAS {
        let loaded = parse(None, &environment(&[(variable, text)])).unwrap_or_else(|errors| panic!("{errors:?}"));
        assert_eq!(
            value(&loaded, key),
            ((*expected).to_owned(), format!("environment variable {variable}"))
        );
    }
}

#[test]
fn an_empty_variable_is_not_set() {
    let defaults = parse(None, &environment(&[])).expect("valid").config;
    for (variable, ..) in OPENFAAS
        .iter()
        .filter(|(variable, ..)| *variable != "write_request_uri")
    {
        let config = parse(None, &environment(&[(variable, "")])).expect("valid").config;
        assert_eq!(config, defaults, "{variable}");
    }
}

#[test]
fn write_request_uri_counts_by_being_there() {
    for text in ["", "false", "true"] {
        let config = parse(None, &environment(&[("write_request_uri", text)]))
            .expect("valid")
            .config;
        assert!(config.logging.upstream_uri, "{text:?}");
    }
}

#[test]
fn a_malformed_variable_is_named() {
    for (variable, text) in [
        ("functions_provider_url", "faas-netes:8080"),
        ("functions_provider_url", "ftp://host/"),
        ("logs_provider_url", "not a url"),
        ("direct_functions", "yes"),
        ("direct_functions", "True"),
        ("read_timeout", "1d"),
        ("read_timeout", "-5s"),
        ("read_timeout", "-1"),
        ("read_timeout", "0"),
        ("write_timeout", "5 s"),
        ("upstream_timeout", "0.25"),
        ("max_idle_conns", "many"),
        ("max_idle_conns", "-1"),
        ("max_idle_conns_per_host", "1.5"),
        ("faas_nats_port", "nats"),
        ("faas_nats_port", "70000"),
        ("faas_prometheus_port", " 9090"),
        ("basic_auth", "1"),
        ("auth_proxy_url", "/validate"),
        ("auth_proxy_pass_body", "no"),
        ("scale_from_zero", "TRUE"),
    ] {
        let found = errors(parse(None, &environment(&[(variable, text)])));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&format!("environment variable {variable}: ")),
            "{found:?}"
        );
    }
}

#[test]
fn a_bad_url_is_reported_without_its_password() {
    let found = errors(parse(
        None,
        &environment(&[("functions_provider_url", "ftp://user:hunter2@host/")]),
    ));
    assert!(
        !found[0].contains("hunter2") && found[0].contains("***@host"),
        "{found:?}"
    );
}

#[test]
fn the_suffix_must_fit_the_namespace() {
    let found = errors(parse(
        None,
        &environment(&[
            ("functions_provider_url", "http://p/"),
            ("direct_functions", "true"),
            ("direct_functions_suffix", "svc.cluster.local"),
            ("function_namespace", "openfaas-fn"),
        ]),
    ));
    assert_eq!(
        found,
        [
            "environment variable direct_functions_suffix: provider.direct_functions_suffix: \
          must start with the default namespace 'openfaas-fn'"
        ]
    );
}

/// Variable, value, key, the key's value then.
pub(super) const OTEL: &[(&str, &str, &str, &str)] = &[
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "http://otel:4318",
        "tracing.otlp_endpoint",
        "\"http://otel:4318/\"",
    ),
    (
        "OTEL_EXPORTER_OTLP_HEADERS",
        "authorization=Bearer%20x",
        "tracing.headers.authorization",
        "\"Bearer x\"",
    ),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "deployment.environment.name=a%2Cb",
        "tracing.resource.\"deployment.environment.name\"",
        "\"a,b\"",
    ),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "service.name=edge",
        "tracing.service_name",
        "\"edge\"",
    ),
    ("OTEL_SERVICE_NAME", "edge", "tracing.service_name", "\"edge\""),
];

#[test]
fn opentelemetrys_variables_set_their_keys_and_are_beneath_our_own() {
    let defaults = parse(None, &environment(&[])).expect("valid").config;
    for (variable, text, key, expected) in OTEL {
        let loaded = parse(None, &environment(&[(variable, text)])).unwrap_or_else(|errors| panic!("{errors:?}"));
        assert_eq!(
            value(&loaded, key),
            ((*expected).to_owned(), format!("environment variable {variable}"))
        );
        let empty = parse(None, &environment(&[(variable, "")])).expect("valid").config;
        assert_eq!(empty, defaults, "{variable}");
    }
    let both = environment(&[
        ("OTEL_SERVICE_NAME", "named"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=attribute"),
    ]);
    assert_eq!(
        value(&parse(None, &both).expect("valid"), "tracing.service_name").0,
        "\"named\""
    );
    let own = environment(&[("OTEL_SERVICE_NAME", "theirs"), ("FAAS__TRACING__SERVICE_NAME", "ours")]);
    assert_eq!(
        value(&parse(None, &own).expect("valid"), "tracing.service_name").0,
        "\"ours\""
    );
}

#[test]
fn what_goes_to_the_receiver_of_traces_is_shown_without_its_secrets() {
    for (variable, text) in [
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=%ffhunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0a"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=hunter2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "otel:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://a:hunter2@otel/"),
    ] {
        let found = errors(parse(None, &environment(&[(variable, text)])));
        assert!(found.len() == 1 && !found[0].contains("hunter2"), "{found:?}");
        assert!(
            found[0].starts_with(&format!("environment variable {variable}: ")),
            "{found:?}"
        );
    }
    let content = "[tracing]\notlp_endpoint = \"http://a:hunter2@otel\"\nheaders = { X-Key = \"hunter2\" }\n";
    let loaded = file(content).expect("valid");
    for entry in loaded.config.entries() {
        let shown = entry.shown(&loaded.origins).unwrap_or_default();
        assert!(!shown.contains("hunter2"), "{}: {shown}", entry.key());
    }
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("key");
    std::fs::write(&secret, "hunter2\n").expect("a file");
    let content = format!("[tracing]\notlp_endpoint = \"http://otel\"\nheaders_file = {{ X-Key = {secret:?} }}\n");
    let loaded = file(&content).expect("valid");
    assert_eq!(loaded.config.tracing.headers["X-Key"], "hunter2");
    let alone = file("[tracing.headers]\nX-Key = \"hunter2\"").expect("valid").warnings;
    assert_eq!(
        alone,
        ["tracing.headers is set but has no effect: tracing.otlp_endpoint is not set"]
    );
}

#[test]
fn variables_without_effect_are_warned_about() {
    let warnings = |variables: &[(&str, &str)]| parse(None, &environment(variables)).expect("valid").warnings;
    for variable in ["probe_functions", "default_target", "async", "pprof", "https_proxy"] {
        let found = warnings(&[(variable, "true")]);
        let start = format!("environment variable {variable} is set but has no effect: ");
        assert!(found.len() == 1 && found[0].starts_with(&start), "{found:?}");
        assert_eq!(warnings(&[(variable, "false")]), Vec::<String>::new());
    }
    let found = warnings(&[
        ("faas_nats_address", "nats"),
        ("FAAS__QUEUE__KIND", "embedded"),
        ("auth_proxy_pass_body", "true"),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_url_beside_another_kind_is_warned_about() {
    let sources = environment(&[
        ("functions_provider_url", "http://p/"),
        ("FAAS__PROVIDER__KIND", "process"),
    ]);
    let loaded = parse(None, &sources).expect("valid");
    assert_eq!(
        loaded.warnings,
        ["provider.url is set but has no effect: provider.kind is \"process\""]
    );
}

#[test]
fn unknown_variables_get_a_suggestion() {
    for (variable, expected) in [
        (
            "FAAS__SERVER__READ_TIMEOU",
            "environment variable FAAS__SERVER__READ_TIMEOU: server.read_timeou: unknown key; did you mean 'read_timeout'?",
        ),
        (
            "FAAS__SEVER__LISTEN",
            "environment variable FAAS__SEVER__LISTEN: sever: unknown key; did you mean 'server'?",
        ),
        (
            "FAAS__SERVER__LISTE",
            "environment variable FAAS__SERVER__LISTE: server.liste: unknown key; did you mean 'listen'?",
        ),
        (
            "FAAS__SERVER",
            "environment variable FAAS__SERVER: server: expected a table",
        ),
    ] {
        assert_eq!(errors(parse(None, &environment(&[(variable, "1s")]))), [expected]);
    }
}

#[test]
fn tables_are_written_as_in_the_file() {
    let sources = environment(&[("FAAS__FUNCTIONS", "{ Figlet = { timeouts.total = \"5s\" } }")]);
    let loaded = parse(None, &sources).expect("valid");
    assert_eq!(value(&loaded, "functions.Figlet.timeouts.total").0, "\"5s\"");
    let broken = errors(parse(None, &environment(&[("FAAS__FUNCTIONS", "{ Figlet = ")])));
    assert!(
        broken[0].starts_with("environment variable FAAS__FUNCTIONS: functions: not a TOML table"),
        "{broken:?}"
    );
    let ipv6 = environment(&[("FAAS__SERVER__LISTEN", "[::1]:8080")]);
    assert_eq!(
        parse(None, &ipv6).expect("valid").config.listen().to_string(),
        "[::1]:8080"
    );
}

#[test]
fn the_environment_is_added_to_the_file() {
    let sources = environment(&[("FAAS__FUNCTIONS__a__TIMEOUTS__TOTAL", "1s")]);
    let loaded = parse(Some("[functions.b]\ntimeouts.total = \"2s\""), &sources).expect("valid");
    assert_eq!(loaded.config.functions.len(), 2);
    assert!(file("[functions.b]\ntimeouts.total = \"2s\"").is_ok());
}
