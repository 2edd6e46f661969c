//! The program itself: commands, exit codes, what goes where.

use std::{
    fs,
    process::{Command, Output},
};

use faas_gateway::config::{self, Sources};

/// Runs the program with only these variables in its environment.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_faas-gateway"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn help_and_version_are_no_mistakes() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["--version"], &["version"]] {
        let output = run(arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(stdout(&output).contains(if arguments.contains(&"--help") {
            "--config"
        } else {
            "faas-gateway 0"
        }));
    }
}

#[test]
fn a_wrong_command_line_is_64() {
    for arguments in [
        &["nonsense"][..],
        &["--nonsense"],
        &["check"],
        &["serve", "--set", "no-equals-sign"],
        &["healthcheck", "--timeout", "soon"],
    ] {
        let output = run(arguments, &[]);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn check_prints_every_mistake_on_its_line() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("gateway.toml");
    let name = path.to_str().expect("text");

    fs::write(&path, "[server]\nread_timeout = \"1d\"\nlisen = \"x\"\n").expect("write");
    let output = run(&["check", name], &[]);
    assert_eq!(output.status.code(), Some(64));
    let text = stderr(&output);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.lines()
            .zip(["3:1", "2:1"])
            .all(|(line, place)| line.starts_with(&format!("error: {name}:{place}: server."))),
        "{text}"
    );
    assert_eq!(stdout(&output), "");

    fs::write(&path, "[server]\nwrite_timeout = \"5s\"\n").expect("write");
    let output = run(&["check", name], &[("read_timeout", "1d")]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "ok\n"));
    assert!(
        stderr(&output).starts_with("warning: invoke.upstream_timeout"),
        "{}",
        stderr(&output)
    );
    let output = run(
        &["check", name, "--with-env"],
        &[("read_timeout", "1d"), ("HOME", "/h")],
    );
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("environment variable read_timeout"));
}

#[test]
fn point_13_a_wrong_configuration_ends_the_start_with_64() {
    for (arguments, environment, part) in [
        (
            &[][..],
            &[("HOME", "/h"), ("read_timeout", "1d")][..],
            "environment variable read_timeout",
        ),
        (
            &["serve", "--listen", "nowhere"],
            &[("HOME", "/h")],
            "command line: server.listen",
        ),
        (
            &["serve", "--listen", "0.0.0.0:0"],
            &[("HOME", "/h")],
            "can be reached from other machines",
        ),
        (&["--config", "/no/such.toml"], &[], "/no/such.toml: cannot be read"),
        (
            &[],
            &[("FAAS_CONFIG", "/no/such.toml")],
            "/no/such.toml: cannot be read",
        ),
        (&[], &[], "provider.process.state_dir"),
    ] {
        let output = run(arguments, environment);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {text}");
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn config_shows_values_with_their_sources() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("gateway.toml");
    let name = path.to_str().expect("text");
    fs::write(
        &path,
        "[provider]\nurl = \"http://user:hunter2@p/\"\n[provider.process.images.a]\ncommand = \"cat\"\nenvironment = { T = \"hunter2\" }\n",
    )
    .expect("write");
    let output = run(
        &[
            "config",
            "--config",
            name,
            "--set",
            "logging.format=json",
            "--state-dir",
            "/s",
        ],
        &[("read_timeout", "5")],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for line in [
        "server.read_timeout = \"5s\"  # environment variable read_timeout",
        "server.write_timeout = \"1m\"  # default",
        "server.listen = \"0.0.0.0:8080\"  # derived",
        "provider.kind = \"http\"  # derived",
        &format!("provider.url = \"http://***@p/\"  # {name}:2:1"),
        &format!("provider.process.images.a.environment.T = \"***\"  # {name}:5:17"),
        "provider.process.state_dir = \"/s\"  # command line",
        "logging.format = \"json\"  # command line",
        "# provider.logs_url is not set",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn what_config_prints_can_be_read_again() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("gateway.toml");
    let home = [("HOME", "/h")];
    let first = run(&["config"], &home);
    fs::write(&path, &first.stdout).expect("write");
    let name = path.to_str().expect("text");
    let second = run(&["config", "--config", name], &home);
    let values = |output: &Output| -> Vec<String> {
        let text = stdout(output);
        let without_source = text.lines().map(|line| line.split("  # ").next().unwrap_or_default());
        without_source.map(str::to_owned).collect()
    };
    assert_eq!(values(&second), values(&first), "{}", stderr(&second));
    assert!(stdout(&second).contains(&format!("# {name}")));
}

#[test]
fn point_22_explain_says_where_a_value_comes_from_and_what_it_overrides() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("gateway.toml");
    let name = path.to_str().expect("text");
    fs::write(
        &path,
        "[server]\nread_timeout = \"90s\"\n[functions.f]\nheaders.request.set = { X-A = \"a\", \"x.b\" = \"b\" }\n",
    )
    .expect("write");
    let explain = |key: &str| {
        run(
            &["config", "explain", key, "--config", name],
            &[("HOME", "/h"), ("read_timeout", "5")],
        )
    };
    let output = explain("server.read_timeout");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "server.read_timeout = \"5s\"",
            "source: environment variable read_timeout",
            "default: \"1m\"",
            "live: a change takes effect at once",
        ]
    );
    assert!(
        lines[4].starts_with(&format!("shadowed: \"90s\" from {name}")),
        "{text}"
    );
    assert_eq!(lines.len(), 5);

    let restart = stdout(&explain("provider.process.state_dir"));
    assert!(
        restart.contains("source: derived\ndefault: none\nrestart: "),
        "{restart}"
    );
    let unset = stdout(&explain("functions.\"a.b\".timeouts.total"));
    assert!(
        unset.starts_with("functions.\"a.b\".timeouts.total is not set\n"),
        "{unset}"
    );
    for (key, hint) in [
        ("server.lisen", "did you mean 'server.listen'?"),
        ("upstream_timeout", "did you mean 'invoke.upstream_timeout'?"),
        (
            "server",
            "it is a table with the keys allow_unauthenticated_public, base_path",
        ),
        (
            "functions.f.headers.request.set",
            "it is a table of names that you choose, such as functions.f.headers.request.set.NAME; set: X-A, \"x.b\"",
        ),
        (
            "functions.g.headers.request.set",
            "such as functions.g.headers.request.set.NAME; none is set",
        ),
        (
            "provider.process.images",
            "such as provider.process.images.NAME; none is set",
        ),
        ("functions", "such as functions.NAME; set: f"),
        ("a b", "write it as section.key"),
    ] {
        let output = explain(key);
        assert_eq!(output.status.code(), Some(64), "{key}");
        assert!(stderr(&output).contains(hint), "{}", stderr(&output));
    }
}

#[test]
fn every_key_of_config_can_be_explained() {
    let sources = Sources::new([("HOME".to_owned(), "/h".to_owned())].into(), None, Vec::new());
    let loaded = config::load(&sources).expect("the defaults are valid");
    let all = config::explain_all(&loaded.config, &loaded.origins, &[]);
    assert!(all.len() > 40, "{}", all.len());
    for explained in all {
        // A table of the user's own names that is not there has no keys yet.
        let again = config::explain(&explained.key, &loaded.config, &loaded.origins, &[]);
        assert_eq!(again, Ok(explained));
    }
}

#[test]
fn diff_has_exit_codes_for_ci() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("next.toml");
    let name = path.to_str().expect("text");
    let home = [("HOME", "/h")];
    for (content, code, lines) in [
        ("# nothing", 0, ""),
        (
            "server.read_timeout = 5\nprovider.process.state_dir = \"/s\"",
            1,
            "server.read_timeout: \"1m\" -> \"5s\" (live)\n\
             provider.process.state_dir: \"/h/.local/state/faas-gateway\" -> \"/s\" (restart)\n",
        ),
        ("server.read_timeout = \"soon\"", 64, ""),
    ] {
        fs::write(&path, content).expect("write");
        let output = run(&["diff", name], &home);
        assert_eq!(output.status.code(), Some(code), "{content}: {}", stderr(&output));
        assert_eq!(stdout(&output), lines, "{content}");
    }
    fs::write(&path, "server.read_timeout = 5").expect("write");
    let same = run(&["diff", name, "--set", "server.read_timeout=7"], &home);
    assert_eq!(same.status.code(), Some(0), "the command line overrides both");
    let output = run(&["diff", "/no/such.toml"], &home);
    assert_eq!(output.status.code(), Some(64));
    let output = run(&["diff", name, "--against", "http://h/", "--listen", "x"], &home);
    assert_eq!(
        output.status.code(),
        Some(64),
        "a gateway has a command line of its own"
    );
}

#[test]
fn the_committed_schema_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/schema.json");
    let committed = fs::read_to_string(path).unwrap_or_default();
    let output = run(&["schema"], &[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        committed == stdout(&output),
        "config/schema.json does not match the settings; run `make schema` and commit the result"
    );
}

#[test]
fn point_11_check_warns_of_what_is_odd_by_itself() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("gateway.toml");
    let content = "[provider]\nurl = \"http://p/\"\n[server]\nread_timeout = \"100ms\"\ninternal_listen = \"0.0.0.0:8079\"\n\
                   [functions.\"*\"]\ntimeouts.first_byte = \"1ms\"\nretries = { attempts = 1, backoff = \"1ms\" }\n";
    fs::write(&path, content).expect("write");
    let output = run(&["check", path.to_str().expect("text")], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stderr(&output);
    for warning in [
        "warning: server.listen: 0.0.0.0:8080 can be reached from other machines and authentication is off",
        "warning: server.internal_listen: 0.0.0.0:8079 can be reached from other machines and authentication is off",
        "warning: server.read_timeout is 100ms, shorter than 1s",
        "warning: functions.\"*\".timeouts.first_byte is 1ms, shorter than 10ms",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(warning)),
            "{warning}\nnot in\n{text}"
        );
    }
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn what_keeps_a_gateway_from_starting_has_a_place() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("gateway.toml");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let free = "server.listen = \"127.0.0.1:0\"\nmetrics.listen = \"127.0.0.1:0\"\nprovider.kind = \"memory\"\n";
    for (content, arguments, place) in [
        (
            free.replacen("127.0.0.1:0", &address, 1),
            &[][..],
            "{FILE}:1:8: server.listen: cannot listen on",
        ),
        (
            free.to_owned(),
            &["--listen", &address],
            "command line: server.listen: cannot listen on",
        ),
        (
            format!("{free}[auth]\nbasic = true\n"),
            &[],
            "{FILE}:5:1: auth.secret_path: /run/secrets/basic-auth-user: cannot be read",
        ),
        (
            format!("{free}[auth]\nbasic = true\nsecret_path = \"/no/such\"\n"),
            &[],
            "{FILE}:6:1: auth.secret_path: /no/such/basic-auth-user: cannot be read",
        ),
        (
            format!("{free}prometheus.host = \"a b\"\n"),
            &[],
            "{FILE}:4:12: prometheus.host: 'a b' is not a host name",
        ),
        (
            free.replace("kind = \"memory\"", "url = \"http://hunter2:hunter3@p/\""),
            &[],
            "{FILE}:3:10: provider.url: put the credentials",
        ),
        (
            free.replace(
                "provider.kind = \"memory\"",
                "provider.process.state_dir = \"/dev/null/x\"",
            ),
            &[],
            "{FILE}:3:18: provider.process.state_dir: cannot create state directory",
        ),
    ] {
        fs::write(&path, &content).expect("write");
        let name = path.to_str().expect("text");
        let output = run(&[&["--config", name], arguments].concat(), &[("HOME", "/h")]);
        let text = stderr(&output);
        let expected = format!("error: {}", place.replace("{FILE}", name));
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.lines().any(|line| line.starts_with(&expected)),
            "{expected}\nnot in\n{text}"
        );
        assert!(!text.contains("hunter"), "{text}");
    }
}

#[test]
fn healthcheck_fails_where_nothing_answers() {
    let output = run(&["healthcheck", "--url", "http://127.0.0.1:1/healthz"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("error: http://127.0.0.1:1/healthz: "),
        "{}",
        stderr(&output)
    );
    let set = ["healthcheck", "--set", "metrics.listen=127.0.0.1:1"];
    let output = run(&set, &[("HOME", "/h")]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}
