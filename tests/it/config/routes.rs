//! `[[routes]]`: of several files, from variables and flags, with their places
//! and secrets. What is wrong with single keys is in `fixtures/config/invalid`.

use faas_gateway::config::{ConfigFile, Loaded, Sources, explain, parse, parse_files};

use super::{environment, errors, file, value};

type Checked = Result<Loaded, Vec<faas_gateway::config::ConfigError>>;

fn files(contents: &[(&str, &str)], sources: &Sources) -> Checked {
    let files: Vec<ConfigFile> = contents
        .iter()
        .map(|(path, content)| ConfigFile {
            path: path.into(),
            content: (*content).to_owned(),
        })
        .collect();
    parse_files(&files, sources)
}

const FIRST: &str = "[[routes]]\npath = \"/a\"\nfunction = \"a\"\n[[routes]]\npath = \"/b\"\nfunction = \"b\"\n";
const SECOND: &str = "# no routes\n[server]\nread_timeout = \"5s\"\n";
const THIRD: &str = "[[routes]]\npath = \"/c\"\nfunction = \"${NAME}\"\n[routes.retries]\nattempts = 2\n";

#[test]
fn point_06_routes_of_several_files_add_up_and_keep_their_places() {
    let sources = environment(&[("NAME", "hunter2")]);
    let all = [("10.toml", FIRST), ("20.toml", SECOND), ("30.toml", THIRD)];
    let loaded = files(&all, &sources).expect("valid");
    let paths: Vec<_> = loaded.config.routes.iter().map(|route| route.path.as_deref()).collect();
    assert_eq!(paths, [Some("/a"), Some("/b"), Some("/c")], "in the order of the files");
    for (key, expected, place) in [
        ("routes.0.path", "\"/a\"", "10.toml:2:1"),
        ("routes.1.function", "\"b\"", "10.toml:6:1"),
        ("routes.2.path", "\"/c\"", "30.toml:2:1"),
        ("routes.2.retries.attempts", "2", "30.toml:5:1"),
    ] {
        assert_eq!(value(&loaded, key), (expected.to_owned(), place.to_owned()), "{key}");
        let explained = explain(key, &loaded.config, &loaded.origins, &[]).expect("a key");
        assert_eq!(explained.source.as_deref(), Some(place), "{key}");
        let layers: Vec<_> = explained.layers.iter().map(|layer| layer.source.as_str()).collect();
        assert_eq!(layers, [place], "{key}");
    }
}

#[test]
fn point_24_variables_in_routes_are_secrets_whatever_their_number() {
    let sources = environment(&[("NAME", "h2")]);
    let loaded = files(&[("10.toml", FIRST), ("30.toml", THIRD)], &sources).expect("valid");
    for entry in loaded.config.entries() {
        let shown = entry.shown(&loaded.origins);
        match entry.key().as_str() {
            "routes.2.function" => assert_eq!(shown.as_deref(), Some("\"***\"")),
            "routes.0.function" => assert_eq!(shown.as_deref(), Some("\"a\"")),
            _ => {}
        }
    }
    let layers = loaded.origins.layers(&["routes", "2", "function"].map(str::to_owned));
    assert_eq!(layers[0].value, "\"***\"");

    // A value that is refused is not shown either, however short it is.
    let wrong = "[[routes]]\npath = \"${NAME}\"\nfunction = \"a\"";
    let found = errors(files(&[("10.toml", FIRST), ("30.toml", wrong)], &sources));
    assert_eq!(found, ["30.toml:2:1: routes.2.path: must begin with '/', found '***'"]);
    let name = "[[routes]]\nfunction = \"/${NAME}\"";
    let found = errors(files(&[("30.toml", name)], &sources));
    assert_eq!(
        found,
        ["30.toml:2:1: routes.0.function: is not right; the value comes from a variable or a file and is not shown"]
    );
    let missing = "[[routes]]\npath = \"${NONE}\"\nfunction = \"a\"";
    let found = errors(files(&[("10.toml", FIRST), ("30.toml", missing)], &sources));
    assert_eq!(
        found,
        ["30.toml:2:1: routes.2.path: variable NONE is not set; set it, or write ${NONE:-default}"]
    );
}

#[test]
fn mistakes_in_the_route_of_a_later_file_name_its_place() {
    let second = "\n[[routes]]\npth = \"/b\"\nfunction = \"a/b\"\n[[routes]]\npath = \"/a/\"\nfunction = \"a\"";
    assert_eq!(
        errors(files(&[("10.toml", FIRST), ("20.toml", second)], &environment(&[]))),
        [
            "20.toml:3:1: routes.2.pth: unknown key; did you mean 'path'?",
            "20.toml:4:1: routes.2.function: 'a/b' is not a function name: use letters, digits, '-', '_' and '.'",
            "20.toml:5:1: routes.3: takes the same host, path and method as routes.0 (10.toml:1:1)",
        ]
    );
    // A list that is none is told about where it is.
    let none = errors(files(
        &[("10.toml", FIRST), ("20.toml", "routes = 1")],
        &environment(&[]),
    ));
    assert_eq!(none, ["20.toml:1:1: routes: expected a list"]);
}

#[test]
fn tables_merge_and_other_lists_are_replaced() {
    let one = "[functions.a]\nretries = { attempts = 1, statuses = [502, 503] }";
    let two = "[functions.a]\nretries.statuses = [504]\n[functions.b]\nmax_in_flight = 1";
    let loaded = files(&[("1.toml", one), ("2.toml", two)], &environment(&[])).expect("valid");
    assert_eq!(value(&loaded, "functions.a.retries.attempts").0, "1");
    assert_eq!(value(&loaded, "functions.a.retries.statuses").0, "[504]");
    assert_eq!(loaded.config.functions.len(), 2);
}

#[test]
fn variables_and_flags_replace_all_routes() {
    let list = "[{ path = \"/v\", function = \"v\" }]";
    let in_files = [("10.toml", FIRST), ("30.toml", "[[routes]]\nfunction = \"c\"")];
    let variable = environment(&[("FAAS__ROUTES", list)]);
    let flag = Sources {
        overrides: vec![("routes".to_owned(), list.to_owned())],
        ..environment(&[("FAAS__ROUTES", "[]")])
    };
    for (sources, origin) in [(variable, "environment variable FAAS__ROUTES"), (flag, "command line")] {
        let loaded = files(&in_files, &sources).expect("valid");
        assert_eq!(loaded.config.routes.len(), 1, "{origin}");
        assert_eq!(
            value(&loaded, "routes.0.path"),
            ("\"/v\"".to_owned(), origin.to_owned())
        );
        let shadowed: Vec<_> = loaded.origins.shadowed().into_iter().map(|one| one.file).collect();
        assert_eq!(shadowed, ["10.toml:1:3", "30.toml:1:3"]);
    }
    let none = files(&in_files, &environment(&[("FAAS__ROUTES", "[]")])).expect("valid");
    assert!(none.config.routes.is_empty());
}

#[test]
fn a_single_route_has_no_variable_and_no_flag() {
    let message = "a single route or key of it can only be set in a file; the variable FAAS__ROUTES and --set \
                   routes=... replace all routes: '[{ path = \"/\", function = \"NAME\" }]'";
    let found = errors(parse(None, &environment(&[("FAAS__ROUTES__0__PATH", "/")])));
    assert_eq!(
        found,
        [format!(
            "environment variable FAAS__ROUTES__0__PATH: routes.0.path: {message}"
        )]
    );
    let flag = Sources {
        overrides: vec![("routes.0.path".to_owned(), "/".to_owned())],
        ..environment(&[])
    };
    let found = errors(parse(None, &flag));
    assert_eq!(found, [format!("command line: routes.0.path: {message}")]);
    for text in ["[{ path = ]", "/v1", "[1]\nx = 2"] {
        let found = errors(parse(None, &environment(&[("FAAS__ROUTES", text)])));
        let start = "environment variable FAAS__ROUTES: routes: not a TOML list: ";
        assert!(found.len() == 1 && found[0].starts_with(start), "{text}: {found:?}");
    }
}

#[test]
fn paths_of_the_gateway_need_a_host() {
    for (base, path, own) in [
        ("", "/function/a", Some("/function")),
        ("", "/async-function", Some("/async-function")),
        ("", "/system/", Some("/system")),
        ("", "/ui/x", Some("/ui")),
        ("", "/docs", Some("/docs")),
        ("", "/openapi.json", Some("/openapi.json")),
        ("", "/openapi.yaml", Some("/openapi.yaml")),
        ("", "/healthz", Some("/healthz")),
        ("", "/openapi/x", Some("/openapi")),
        ("", "/openapi-shop", None),
        ("", "/metrics", None),
        ("", "/functions", None),
        ("", "/", None),
        ("/faas", "/faas/system", Some("/system below server.base_path")),
        ("/faas", "/faas", None),
        ("/faas", "/system", None),
        ("/faas", "/healthz/", Some("/healthz")),
        ("/faas", "/healthz/x", None),
        ("/faas", "/faas/healthz", Some("/healthz below server.base_path")),
    ] {
        let content = |hosts: &str| {
            format!("server.base_path = \"{base}\"\n[[routes]]\nfunction = \"a\"\npath = \"{path}\"\n{hosts}")
        };
        match (file(&content("")), own) {
            (Ok(_), None) => {}
            (Err(found), Some(own)) => assert_eq!(
                errors(Err(found)),
                [format!(
                    "gateway.toml:4:1: routes.0.path: {own} is the gateway's own; give the route hosts to take all \
                     paths of those"
                )]
            ),
            (found, own) => panic!("{base} {path} {own:?}: {found:?}"),
        }
        assert!(file(&content("hosts = [\"a\"]")).is_ok(), "{path} of a host");
    }
}

#[test]
fn odd_routes_are_warned_about() {
    for (content, expected) in [
        (
            "function = \"a\"\nmirror = { function = \"a.openfaas-fn\" }",
            "routes.0.mirror.function is a function that answers these calls too: it gets them twice",
        ),
        (
            "redirect.to = \"/b\"\nrewrite = \"/c\"",
            "routes.0.rewrite is set but has no effect: the route is a redirect",
        ),
        (
            "function = \"a\"\ntimeouts = { first_byte = \"20s\", total = \"10s\" }",
            "routes.0.timeouts.first_byte (20s) never fires: the whole answer has 10s",
        ),
        (
            "function = \"a\"\nretries.statuses = [500]",
            "routes.0.retries.attempts is not set: the other keys of retries have no effect",
        ),
        (
            "function = \"a\"\ntimeouts.total = \"2m\"",
            "routes.0.timeouts.total (2m) is longer than server.write_timeout (1m), which ends a slow function's \
             answer first",
        ),
    ] {
        let loaded = file(&format!("[[routes]]\n{content}")).unwrap_or_else(|errors| panic!("{errors:?}"));
        assert_eq!(loaded.warnings, [expected], "{content}");
    }
}

#[test]
fn a_list_of_routes_is_explained_by_its_keys() {
    let loaded = file("[[routes]]\npath = \"/a\"\nfunction = \"a\"").expect("valid");
    let explained = |key: &str| explain(key, &loaded.config, &loaded.origins, &[]);
    let list = explained("routes").expect_err("a list");
    assert!(
        list.contains("a list of tables, with keys such as routes.0.path"),
        "{list}"
    );
    assert_eq!(explained("routes.0.rewrite").expect("a key").value, None);
    let beyond = explained("routes.0.rewrit").expect_err("no key");
    assert!(beyond.contains("did you mean 'routes.0.rewrite'?"), "{beyond}");
}
