//! `${NAME}` in a file, and several files.

use faas_gateway::config::{ConfigFile, Loaded, Sources, parse, parse_files};

use super::{environment, errors, value};

fn with(variables: &[(&str, &str)], content: &str) -> Result<Loaded, Vec<faas_gateway::config::ConfigError>> {
    let sources = Sources {
        file: Some("gateway.toml".into()),
        ..environment(variables)
    };
    parse(Some(content), &sources)
}

#[test]
fn point_23_variables_are_put_into_text_values_only() {
    let loaded = with(
        &[("PORT", "9091"), ("HOST", "p"), ("QUOTES", "a\"\\n[ui]")],
        "[provider]\nurl = \"http://${HOST}/${NONE:-base}\"\ndefault_namespace = \"${QUOTES}\"\n[prometheus]\nport = \"${PORT}\"\n\
         [provider.process.images.\"${HOST}\"]\ncommand = \"echo $${HOST}\"",
    )
    .expect("valid");
    for (key, expected) in [
        ("provider.url", "\"http://p/base/\""),
        ("prometheus.port", "9091"),
        ("provider.default_namespace", "\"a\\\"\\\\n[ui]\""),
        ("provider.process.images.\"${HOST}\".command", "\"echo ${HOST}\""),
    ] {
        assert_eq!(value(&loaded, key).0, expected);
    }
    assert_eq!(value(&loaded, "provider.url").1, "gateway.toml:2:1");
}

#[test]
fn point_23_a_missing_variable_and_a_line_break_are_mistakes_with_their_place() {
    let found = errors(with(
        &[("LINES", "hunter2\nx")],
        "[provider]\nurl = \"${URL}\"\n[invoke]\nupstream_timeout = \"${T}\"\n[logging]\nlevel = \"${LINES}\"\nlevl = 1",
    ));
    assert_eq!(found.len(), 4, "{found:?}");
    for expected in [
        "gateway.toml:2:1: provider.url: variable URL is not set; set it, or write ${URL:-default}",
        "gateway.toml:4:1: invoke.upstream_timeout: variable T is not set; set it, or write ${T:-default}",
        "gateway.toml:7:1: logging.levl: unknown key; did you mean 'level'?",
    ] {
        assert!(
            found.iter().any(|error| error == expected),
            "{expected}\nnot in\n{found:?}"
        );
    }
    assert!(!found.concat().contains("hunter2"), "{found:?}");
}

#[test]
fn point_24_what_a_variable_gave_is_never_shown() {
    let secret = [("SECRET", "hunter2"), ("SHORT", "h2")];
    let loaded = with(
        &secret,
        "[provider]\nurl = \"http://p/?key=${SECRET}\"\nkind = \"http\"\n[queue]\nnats_channel = \"${SHORT}\"",
    )
    .expect("valid");
    for entry in loaded.config.entries() {
        let shown = entry.shown(&loaded.origins);
        match entry.key().as_str() {
            "provider.url" | "queue.nats_channel" => assert_eq!(shown.as_deref(), Some("\"***\"")),
            "provider.kind" => assert_eq!(shown.as_deref(), Some("\"http\"")),
            _ => {}
        }
    }
    let debug = format!("{loaded:?}");
    assert!(!debug.contains("hunter2") && !debug.contains("h2\""), "{debug}");

    // Nor in what is said about mistakes, whichever check finds them.
    let found = errors(with(
        &secret,
        "[server]\nread_timeout = \"${SHORT}\"\n[logging]\nlevel = \"${SECRET}\"\n[metrics]\nlisten = \"${SECRET}\"",
    ));
    assert_eq!(found.len(), 3, "{found:?}");
    let all = found.join("\n");
    assert!(
        !all.contains("hunter2") && !all.contains("'h2'") && all.contains("'***'"),
        "{all}"
    );

    // The environment wins over the file, and its value is no secret of the file's.
    let mut variables = secret.to_vec();
    variables.push(("faas_nats_channel", "shown"));
    let loaded = with(&variables, "[queue]\nnats_channel = \"${SECRET}\"").expect("valid");
    let entries = loaded.config.entries();
    let channel = entries.iter().find(|entry| entry.key() == "queue.nats_channel");
    assert_eq!(
        channel.expect("a key").shown(&loaded.origins).as_deref(),
        Some("\"shown\"")
    );
}

#[test]
fn point_06_later_files_win_and_each_mistake_names_its_file() {
    let files = |contents: &[(&str, &str)]| -> Vec<ConfigFile> {
        let files = contents.iter().map(|(path, content)| ConfigFile {
            path: path.into(),
            content: (*content).to_owned(),
        });
        files.collect()
    };
    let sources = environment(&[]);
    let loaded = parse_files(
        &files(&[
            ("10.toml", "[server]\nread_timeout = \"1s\"\nwrite_timeout = \"2m\""),
            ("20.toml", "\n[server]\nread_timeout = \"2s\""),
        ]),
        &sources,
    )
    .expect("valid");
    let is = |value: &str, origin: &str| (format!("\"{value}\""), origin.to_owned());
    assert_eq!(value(&loaded, "server.read_timeout"), is("2s", "20.toml:3:1"));
    assert_eq!(value(&loaded, "server.write_timeout"), is("2m", "10.toml:3:1"));

    let found = errors(parse_files(
        &files(&[
            ("10.toml", "[server]\nlisen = 1"),
            ("15.toml", "[server"),
            ("20.toml", "[server]\nread_timeout = \"x\""),
        ]),
        &sources,
    ));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("15.toml:1:8: not valid TOML"), "{found:?}");
    assert!(found[1].starts_with("10.toml:2:1: server.lisen: "), "{found:?}");
    assert!(found[2].starts_with("20.toml:2:1: server.read_timeout: "), "{found:?}");
}
