//! The files that come with the gateway say the truth.

use std::{collections::BTreeSet, fs, path::Path};

use faas_gateway::config::{self, DEFAULTS, Sources, parse};

use super::{environment, file, value};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `gateway.toml` with its optional keys brought to life.
pub(super) fn uncommented() -> String {
    let is_key = |line: &str| {
        let name = line.split_once(" = ").map_or("", |(name, _)| name);
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte))
    };
    let mut found = 0;
    let lines: Vec<_> = DEFAULTS
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if is_key(rest) || rest.starts_with('[') => {
                found += 1;
                rest
            }
            _ => line,
        })
        .collect();
    assert!(found > 10, "only {found} commented keys found");
    lines.join("\n")
}

#[test]
fn the_manual_is_the_defaults() {
    let on_disk = fs::read_to_string(root().join("config/gateway.toml")).expect("read");
    assert_eq!(on_disk, DEFAULTS);
    let defaults = parse(None, &environment(&[])).expect("valid").config;
    assert_eq!(file(&on_disk).expect("valid").config, defaults);
}

#[test]
fn the_manual_has_every_key() {
    let documented = file(&uncommented()).unwrap_or_else(|errors| panic!("{errors:?}"));
    // The second form of a key is only mentioned: of the two one can be set.
    let is_mentioned = |entry: &&config::Entry| {
        entry
            .path
            .last()
            .is_some_and(|last| last.ends_with("_file") && DEFAULTS.contains(&format!("Or in a file: {last}.")))
    };
    let unset: Vec<_> = documented
        .config
        .entries()
        .iter()
        .filter(|entry| entry.value.is_none() && !is_mentioned(entry))
        .map(config::Entry::key)
        .collect();
    assert_eq!(unset, Vec::<String>::new(), "keys that gateway.toml does not show");
    // Of the tables that users name, the schema knows the keys.
    let schema: serde_json::Value = serde_json::from_str(&config::schema::document()).expect("JSON");
    let mut names = BTreeSet::new();
    property_names(&schema["properties"]["functions"], &mut names);
    property_names(&schema["properties"]["routes"], &mut names);
    assert!(names.len() > 40, "only {} names", names.len());
    let shown = |name: &String| DEFAULTS.contains(&format!("{name} =")) || DEFAULTS.contains(&format!("{name}."));
    names.retain(|name| !shown(name));
    assert_eq!(names, BTreeSet::new(), "keys that gateway.toml does not show");
}

fn property_names(schema: &serde_json::Value, names: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        names.insert(name.clone());
        property_names(property, names);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            property_names(&schema[inner], names);
        }
    }
}

/// Every key of the manual can be set by its variable, optional ones included.
#[test]
fn every_key_has_a_variable() {
    let documented = file(&uncommented()).expect("valid");
    let entries = documented.config.entries();
    assert!(entries.len() > 40, "only {} keys", entries.len());
    // A list of tables has one variable, for all of it.
    let with_variable = |entry: &config::Entry| {
        !entry
            .path
            .iter()
            .any(|part| ["routes", "schedule", "stores"].contains(&part.as_str()))
            && entry.value.is_some()
    };
    for entry in entries.into_iter().filter(with_variable) {
        let variable = format!("FAAS__{}", entry.path.join("__").to_uppercase());
        let written = entry.value.clone().expect("every key has a value");
        let plain = written.trim_matches('"');
        // The kind and the URL of the provider depend on each other.
        let mut sources = environment(&[
            (&variable, plain),
            ("functions_provider_url", "http://127.0.0.1:8081"),
            ("function_namespace", "openfaas-fn"),
        ]);
        if let ["provider", "process", "images", name, key] =
            entry.path.iter().map(String::as_str).collect::<Vec<_>>()[..]
            && key != "command"
        {
            let command = format!("FAAS__PROVIDER__PROCESS__IMAGES__{}__COMMAND", name.to_uppercase());
            sources.environment.insert(command, "cat".to_owned());
        }
        // Variables are read in lower case; so are the two names that users choose.
        let key = entry.key().to_lowercase();
        if key.contains("environment") {
            let name = "FAAS__PROVIDER__PROCESS__IMAGES__functions/shasum:latest__COMMAND";
            sources.environment.insert(name.to_owned(), "cat".to_owned());
        }
        // What is nothing without the rest of its table.
        let within = |table: &str| entry.path.iter().any(|part| part == table);
        let content = if within("rate_limit") {
            Some("[functions.\"figlet.openfaas-fn\"]\nrate_limit = { requests = 1, by = \"header\", header = \"X\" }")
        } else if within("tls") {
            Some("[server.tls]\ncert_file = \"a\"\nkey_file = \"b\"\nclient_ca_file = \"c\"")
        } else if entry.key().starts_with("queue.") {
            Some("[queue]\nnats_address = \"nats\"\nnats_cert_file = \"a\"\nnats_key_file = \"b\"\nnats_user = \"c\"")
        } else {
            None
        };
        let loaded = parse(content, &sources).unwrap_or_else(|errors| panic!("{variable}: {errors:?}"));
        assert_eq!(
            value(&loaded, &key),
            (written, format!("environment variable {variable}")),
            "{key}"
        );
    }
}

#[test]
fn every_example_is_valid() {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root().join("config/examples")).expect("read") {
        let path = entry.expect("entry").path();
        let sources = Sources {
            file: Some(path.clone()),
            ..environment(&[])
        };
        let loaded = config::load(&sources).unwrap_or_else(|errors| panic!("{errors:?}"));
        assert_eq!(loaded.warnings, Vec::<String>::new(), "{}", path.display());
        found.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    assert_eq!(
        found,
        ["faasd", "kubernetes", "minimal", "process", "routes"]
            .map(str::to_owned)
            .into()
    );
}

/// The table in the README has every variable of the program and no other.
#[test]
fn the_readme_lists_every_variable_of_others() {
    let readme = fs::read_to_string(root().join("config/README.md")).expect("read");
    for (variable, _, key, _) in super::environment::OPENFAAS {
        assert!(readme.contains(&format!("| `{variable}` | `{key}` |")), "{variable}");
    }
    for (variable, ..) in super::environment::OTEL {
        assert!(readme.contains(&format!("| `{variable}` | `tracing.")), "{variable}");
    }
    assert!(
        readme.contains("| `provider.process.state_dir` |"),
        "it needs a restart"
    );
}

/// Each file in `fixtures/config/valid` is valid; each in `invalid` brings
/// exactly the errors in the `.txt` file beside it.
#[test]
fn fixtures() {
    let directory = root().join("tests/fixtures/config");
    let mut seen = (0, 0);
    let toml_files = |kind: &str| {
        let mut paths: Vec<_> = fs::read_dir(directory.join(kind))
            .expect("read")
            .map(|entry| entry.expect("entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        paths.sort();
        paths
    };
    let load = |path: &Path| {
        let content = fs::read_to_string(path).expect("read");
        let sources = Sources {
            file: path.file_name().map(Into::into),
            ..environment(&[])
        };
        parse(Some(&content), &sources)
    };
    for path in toml_files("valid") {
        load(&path).unwrap_or_else(|errors| panic!("{}: {errors:?}", path.display()));
        seen.0 += 1;
    }
    for path in toml_files("invalid") {
        let expected = fs::read_to_string(path.with_extension("txt")).expect("the errors beside it");
        let found = super::errors(load(&path)).join("\n");
        assert_eq!(found, expected.trim_end(), "{}", path.display());
        seen.1 += 1;
    }
    assert!(seen.0 >= 2 && seen.1 >= 5, "{seen:?}");
}

/// The checklist in the README has all points and names tests that exist; and
/// every test with a point's number in its name is in it.
#[test]
fn the_checklist_names_its_tests() {
    fn sources(directory: &Path, all: &mut String) {
        for entry in fs::read_dir(directory).expect("read") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                sources(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&fs::read_to_string(&path).expect("read"));
            }
        }
    }
    let mut code = String::new();
    for directory in ["src", "tests/it"] {
        sources(&root().join(directory), &mut code);
    }
    let tests: BTreeSet<&str> = code
        .lines()
        .filter_map(|line| {
            line.trim()
                .trim_start_matches("async ")
                .strip_prefix("fn ")?
                .split_once("()")
        })
        .map(|(name, _)| name)
        .collect();
    let readme = fs::read_to_string(root().join("config/README.md")).expect("read");
    let (_, section) = readme.split_once("## The checklist").expect("the section");
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    let mut named = BTreeSet::new();
    for (row, point) in rows.iter().zip(1..) {
        assert!(row.starts_with(&format!("| {point} | ")), "{row}");
        let in_code = row.split('`').skip(1).step_by(2);
        named.extend(in_code.filter(|name| name.contains('_') && name.bytes().all(|byte| !byte.is_ascii_uppercase())));
    }
    assert_eq!(rows.len(), 34);
    let unknown: Vec<_> = named.difference(&tests).collect();
    assert!(unknown.is_empty(), "not a test: {unknown:?}");
    let numbered = tests.iter().filter(|name| name.starts_with("point_"));
    let forgotten: Vec<_> = numbered.filter(|name| !named.contains(**name)).collect();
    assert!(forgotten.is_empty(), "not in the checklist: {forgotten:?}");
}
