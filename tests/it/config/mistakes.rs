//! What is said about mistakes: everything, at once, with file and key.

use faas_gateway::config::{Sources, load, parse};

use super::{environment, errors, file};

#[test]
fn point_10_all_mistakes_of_all_layers_at_once() {
    let mut sources = Sources {
        file: Some("gateway.toml".into()),
        ..environment(&[("write_timeout", "1d"), ("FAAS__UI__ENABLE", "true")])
    };
    sources.overrides.push(("logging.level".to_owned(), "loud".to_owned()));
    let content =
        "[server]\nread_timeout = \"x\"\nlisen = \"a\"\n[metrics]\nrefresh_interval = 0\n[auth]\nbasic = \"maybe\"";
    let found = errors(parse(Some(content), &sources));
    let expected = [
        "gateway.toml:3:1: server.lisen: unknown key; did you mean 'listen'?",
        "gateway.toml:2:1: server.read_timeout: expected a duration such as 60, \"60s\" or \"1m30s\", found 'x'",
        "environment variable write_timeout: server.write_timeout: expected a duration such as 60, \"60s\" or \"1m30s\", found '1d'",
        "gateway.toml:7:1: auth.basic: expected true or false, found 'maybe'",
        "environment variable FAAS__UI__ENABLE: ui.enable: unknown key; did you mean 'enabled'?",
        // Relations are checked too, between the values that could be read.
        "gateway.toml:5:1: metrics.refresh_interval: must be longer than zero",
    ];
    assert_eq!(found[..expected.len()], expected);
    assert!(
        found[expected.len()].starts_with("command line: logging.level: 'loud' is not a level"),
        "{found:?}"
    );
    assert_eq!(found.len(), expected.len() + 1, "{found:?}");
}

#[test]
fn a_check_on_a_wrong_value_stays_silent() {
    // The listener is public and authentication is not clearly off: one mistake, not two.
    let found = errors(file("[server]\nlisten = \"0.0.0.0:80\"\n[auth]\nbasic = \"yes\""));
    assert_eq!(
        found,
        ["gateway.toml:4:1: auth.basic: expected true or false, found 'yes'"]
    );
}

#[test]
fn a_syntax_error_has_line_and_column() {
    let found = errors(file("[server]\nlisten = \"127.0.0.1:8080\nsecret = 1"));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("gateway.toml:2:"), "{found:?}");
    assert!(
        found[0].contains("not valid TOML: ") && !found[0].contains('\n'),
        "{found:?}"
    );
    let twice = errors(file("[server]\n[ui]\n[server]"));
    assert!(twice[0].starts_with("gateway.toml:3:1: not valid TOML: "), "{twice:?}");
}

#[test]
fn an_unreadable_or_empty_file_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("gateway.toml");
    let sources = Sources {
        file: Some(path.clone()),
        ..environment(&[])
    };
    let missing = errors(load(&sources));
    assert!(missing[0].contains("gateway.toml: cannot be read: "), "{missing:?}");
    for content in ["", "\n  \n"] {
        std::fs::write(&path, content).expect("write");
        let empty = errors(load(&sources));
        assert!(empty[0].contains("gateway.toml: is empty"), "{empty:?}");
    }
    std::fs::write(&path, b"x = \"\xff\"").expect("write");
    assert!(errors(load(&sources))[0].contains("cannot be read"));
    std::fs::write(&path, "# nothing but words\n").expect("write");
    assert!(load(&sources).is_ok());
}

#[test]
fn stores_have_names_of_their_own_and_one_place_each() {
    for (stores, expected) in [
        ("[[stores]]\nname = \"a\"", "stores.0.name: is a store without a list"),
        (
            "[[stores]]\nurl = \"https://example.com/\"",
            "stores.0.name: is missing",
        ),
        (
            "[[stores]]\nname = \" \"\npath = \"/a\"",
            "stores.0.name: must be a name",
        ),
        (
            "[[stores]]\nname = \"a\"\nurl = \"https://example.com/\"\npath = \"/a\"",
            "stores.0.path: does not go with url",
        ),
        (
            "[[stores]]\nname = \"a\"\npath = \"/a\"\n[[stores]]\nname = \"a\"\npath = \"/b\"",
            "stores.1.name: is the name of another store",
        ),
        (
            "[[stores]]\nname = \"embedded\"\npath = \"/a\"",
            "stores.0.path: does not go with the name",
        ),
        (
            "[[stores]]\nname = \"a\"\npath = \"/a\"\nttl = 0",
            "stores.0.ttl: must be longer",
        ),
        (
            "[[stores]]\nname = \"a\"\npath = \"/a\"\nallow_private = true",
            "stores.0.allow_private: is about",
        ),
    ] {
        let found = errors(file(stores));
        assert!(found.len() == 1 && found[0].contains(expected), "{stores}: {found:?}");
    }
    let variable = environment(&[("FAAS__STORES", "[{ name = \"a\", path = \"/a\" }]")]);
    let loaded = parse(None, &variable).expect("valid");
    assert_eq!(loaded.config.stores[0].name, "a");
    let good = "[[stores]]\nname = \"a\"\nurl = \"https://user:pw@example.com/?key=pw\"\n\
                [[stores]]\nname = \"embedded\"\nenabled = false\n";
    let loaded = file(good).expect("valid");
    let shown: Vec<_> = loaded
        .config
        .entries()
        .iter()
        .filter_map(|entry| Some((entry.key(), entry.shown(&loaded.origins)?)))
        .filter(|(key, _)| key == "stores.0.url")
        .collect();
    assert_eq!(
        shown,
        [("stores.0.url".to_owned(), "\"https://***@example.com/?***\"".to_owned())]
    );
}

#[test]
fn commands_are_not_offered_to_the_world_by_accident() {
    let public = "[server]\nlisten = \"0.0.0.0:8080\"\n";
    let found = errors(file(public));
    assert!(
        found.len() == 1 && found[0].contains("server.listen: 0.0.0.0:8080 can be reached"),
        "{found:?}"
    );
    for permitted in [
        "[auth]\nbasic = true",
        "allow_unauthenticated_public = true",
        "[provider]\nkind = \"memory\"",
        "[provider]\nurl = \"http://p/\"",
    ] {
        assert!(file(&format!("{public}{permitted}")).is_ok(), "{permitted}");
    }
}

#[test]
fn the_state_directory_needs_a_home() {
    let sources = Sources::default();
    let found = errors(parse(None, &sources));
    assert!(
        found[0].contains("provider.process.state_dir: has no default"),
        "{found:?}"
    );
    assert!(parse(Some("[provider]\nkind = \"memory\""), &sources).is_ok());
    assert!(parse(Some("[provider.process]\nstate_dir = \"/s\""), &sources).is_ok());
}

#[test]
fn a_key_on_the_command_line_must_be_one() {
    let sources = Sources {
        overrides: vec![("server listen".to_owned(), "x".to_owned())],
        ..environment(&[])
    };
    let found = errors(parse(None, &sources));
    assert!(
        found[0].starts_with("command line: server listen: is not a key"),
        "{found:?}"
    );
}

#[test]
fn contradictions_that_work_are_warnings() {
    let loaded =
        file("[invoke]\nupstream_timeout = \"30s\"\n[functions.slow]\ntimeouts.total = \"2m\"").expect("valid");
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].starts_with("functions.slow.timeouts.total (2m) is longer than"));
}
