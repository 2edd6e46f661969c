//! Values in files of their own: `KEY_file`.

use std::{fs, path::PathBuf};

use faas_gateway::config::{self, ConfigError, Explained, Loaded, Sources, explain, parse};

use super::{environment, errors, value};

/// A directory with secrets, and configurations that refer to it as `DIR`.
struct Desk(tempfile::TempDir);

impl Desk {
    /// With these files.
    fn new(files: &[(&str, &str)]) -> Self {
        let desk = Self(tempfile::tempdir().expect("directory"));
        for (name, content) in files {
            desk.put(name, content);
        }
        desk
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn filled(&self, text: &str) -> String {
        text.replace("DIR", &self.0.path().display().to_string())
    }

    fn sources(&self, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, text)| (*name, self.filled(text)))
            .collect();
        let variables: Vec<_> = variables.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let flags = flags.iter().map(|(key, text)| ((*key).to_owned(), self.filled(text)));
        Sources {
            file: Some("gateway.toml".into()),
            overrides: flags.collect(),
            ..environment(&variables)
        }
    }

    fn read(&self, content: &str) -> Result<Loaded, Vec<ConfigError>> {
        parse(Some(&self.filled(content)), &self.sources(&[], &[]))
    }
}

fn explained(loaded: &Loaded, key: &str) -> Explained {
    explain(key, &loaded.config, &loaded.origins, &[]).expect("a key")
}

#[test]
fn point_24_values_come_from_files_and_are_shown_nowhere() {
    let desk = Desk::new(&[
        ("url", "http://p/hunter2/?hunter3\n"),
        ("auth", "https://hunter4@auth/?key=hunter5"),
        ("token", "Bearer hunter6\r\n"),
    ]);
    let loaded = desk
        .read(
            "[provider]\nurl_file = \"DIR/url\"\nlogs_url_file = \"DIR/url\"\n[auth]\nproxy_url_file = \"DIR/auth\"\n\
             [functions.\"*\"]\nheaders.request.set_file = { Authorization = \"DIR/token\" }\n\
             [functions.f]\nheaders.request.set = { X-Stage = \"live\" }\nheaders.response.set_file.X-Key = \"DIR/token\"\n\
             [[routes]]\npath = \"/r\"\nfunction = \"f\"\nheaders.request.set_file.X-Route = \"DIR/token\"",
        )
        .expect("valid");
    let config = &loaded.config;
    assert_eq!(config.provider_kind().as_str(), "http", "the URL alone switches");
    assert_eq!(value(&loaded, "provider.url").0, "\"http://p/hunter2/?hunter3\"");
    let settings = config.function_on_route(&faas_gateway::model::FunctionRef::new("f", ""), config.routes.first());
    let set = |changes: &config::HeaderChanges| -> Vec<String> {
        let set = changes.set.iter();
        set.map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect()
    };
    assert_eq!(
        set(&settings.request_headers),
        [
            "authorization: Bearer hunter6",
            "x-route: Bearer hunter6",
            "x-stage: live"
        ]
    );
    assert_eq!(set(&settings.response_headers), ["x-key: Bearer hunter6"]);

    // What is shown: the file, and that there is a value.
    for (key, place) in [
        ("provider.url", "gateway.toml:2:1"),
        ("auth.proxy_url", "gateway.toml:5:1"),
        ("functions.\"*\".headers.request.set.Authorization", "gateway.toml:7:30"),
        ("functions.f.headers.response.set.X-Key", "gateway.toml:10:"),
        ("routes.0.headers.request.set.X-Route", "gateway.toml:14:"),
    ] {
        let explained = explained(&loaded, key);
        assert_eq!(explained.value.as_deref(), Some("\"***\""), "{key}");
        assert!(
            explained.source.as_deref().expect("set").starts_with(place),
            "{explained:?}"
        );
    }
    let file = explained(&loaded, "provider.url_file").value.expect("set");
    assert_eq!(file, format!("\"{}\"", desk.path("url").display()));
    let all = config::explain_all(config, &loaded.origins, &[]);
    let compared = config::compare((config, &loaded.origins), &loaded);
    let said = format!("{loaded:?} {config:?} {settings:?} {all:?} {compared:?}");
    assert!(!said.contains("hunter"), "{said}");
    for part in ["hunter2", "hunter3", "hunter4", "key=hunter5", "Bearer hunter6"] {
        let masked = loaded.origins.masked(format!("failed: http://p/{part}/"));
        assert!(
            !masked.contains("hunter4") && !masked.contains("Bearer hunter6"),
            "{masked}"
        );
    }
    let read: Vec<_> = loaded.secrets.iter().map(|file| &file.path).collect();
    assert_eq!(read, [&desk.path("auth"), &desk.path("token"), &desk.path("url")]);
    assert_eq!(config.referenced_files().len(), 6, "each reference");
}

#[test]
fn point_24_files_that_hold_no_value_are_refused_with_key_place_and_path() {
    let desk = Desk::new(&[
        ("empty", "\n"),
        ("lines", "hunter2\nhunter3\n"),
        ("odd", "hunter2\u{7}"),
        ("url", "hunter2"),
    ]);
    let content = "[provider]\nurl_file = \"DIR/none\"\n[auth]\nproxy_url_file = \"DIR/lines\"\n\
                   [functions.f]\nheaders.request.set_file = { X-A = \"DIR/empty\", X-B = \"DIR/odd\", X-C = \"DIR\" }";
    let found = errors(desk.read(content));
    let none = desk.filled("DIR/none: cannot be read: No such file or directory");
    for (start, end) in [
        ("gateway.toml:2:1: provider.url_file: ", none.as_str()),
        (
            "gateway.toml:4:1: auth.proxy_url_file: ",
            &desk.filled("DIR/lines: has a line break"),
        ),
        (
            "gateway.toml:6:30: functions.f.headers.request.set_file.X-A: ",
            &desk.filled("DIR/empty: is empty"),
        ),
        (
            "gateway.toml:6:",
            &desk.filled("X-B: DIR/odd: has a line break or another control character"),
        ),
        ("gateway.toml:6:", &desk.filled("X-C: DIR: is not a file")),
    ] {
        let is_it = |error: &&String| error.starts_with(start) && error.contains(end);
        assert_eq!(
            found.iter().filter(is_it).count(),
            1,
            "{start} {end}\nnot in\n{found:#?}"
        );
    }
    assert_eq!(found.len(), 5, "and nothing that follows from it: {found:#?}");
    assert!(!found.concat().contains("hunter"), "{found:?}");

    // A value that is wrong is told without it, and where the file is named.
    let found = errors(desk.read("[provider]\nurl_file = \"DIR/url\""));
    assert_eq!(
        found,
        ["gateway.toml:2:1: provider.url: expected an http or https URL, found '***'"]
    );
    // So is one that only the checks find.
    desk.put("url", "https://hunter2@p/");
    let both = "[provider]\nkind = \"http\"\nurl_file = \"${NONE}\"";
    let found = errors(desk.read(both));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("gateway.toml:3:1: provider.url_file: variable NONE is not set"),
        "{found:?}"
    );
}

#[test]
fn point_24_both_forms_at_one_layer_are_a_mistake() {
    let desk = Desk::new(&[("url", "http://file/")]);
    let set = "provider.url = \"http://p/\"\nprovider.url_file = \"DIR/url\"";
    let header = "[[routes]]\npath = \"/r\"\nfunction = \"f\"\nheaders.request = { set = { X-A = \"a\" }, set_file = { X-A = \"DIR/url\" } }";
    let routes = format!("[[routes]]\npath = \"/x\"\nfunction = \"f\"\n{header}");
    for (content, variables, flags, expected) in [
        (
            set,
            &[][..],
            &[][..],
            "gateway.toml:2:10: provider.url_file: provider.url is set too (gateway.toml:1:10); keep one of the two",
        ),
        (
            &routes,
            &[],
            &[],
            "gateway.toml:7:55: routes.1.headers.request.set_file.X-A: routes.1.headers.request.set.X-A is set too (gateway.toml:7:29); keep one of the two",
        ),
        (
            "# -",
            &[
                ("FAAS__PROVIDER__URL", "http://p/"),
                ("FAAS__PROVIDER__URL_FILE", "DIR/url"),
            ],
            &[],
            "environment variable FAAS__PROVIDER__URL_FILE: provider.url_file: provider.url is set too (environment \
             variable FAAS__PROVIDER__URL); keep one of the two",
        ),
        (
            "# -",
            &[],
            &[("provider.url", "http://p/"), ("provider.url_file", "DIR/url")],
            "command line: provider.url_file: provider.url is set too (command line); keep one of the two",
        ),
    ] {
        let found = errors(parse(Some(&desk.filled(content)), &desk.sources(variables, flags)));
        assert_eq!(found, [expected], "{content}");
    }
    // A header that differs only in its case is the same header.
    let found = errors(
        desk.read("[functions.f]\nheaders.request = { set = { x-a = \"a\" }, set_file = { X-A = \"DIR/url\" } }"),
    );
    assert!(
        found.len() == 1 && found[0].contains("is the same header as"),
        "{found:?}"
    );
}

#[test]
fn point_22_of_two_forms_the_stronger_layer_counts() {
    let desk = Desk::new(&[("url", "http://file/"), ("token", "file")]);
    let by_file = "provider.url_file = \"DIR/url\"";
    let by_value = "provider.url = \"http://value/\"";
    let missing = "provider.url_file = \"DIR/none\"";
    for (content, variables, flags, url, named) in [
        (by_file, &[][..], &[][..], "http://file/", true),
        (by_value, &[], &[("provider.url_file", "DIR/url")], "http://file/", true),
        (by_file, &[], &[("provider.url", "http://flag/")], "http://flag/", false),
        (
            by_file,
            &[("functions_provider_url", "http://variable/")],
            &[],
            "http://variable/",
            false,
        ),
        (
            by_value,
            &[("FAAS__PROVIDER__URL_FILE", "DIR/url")],
            &[],
            "http://file/",
            true,
        ),
        (
            "# -",
            &[
                ("functions_provider_url", "http://variable/"),
                ("FAAS__PROVIDER__URL_FILE", "DIR/url"),
            ],
            &[],
            "http://file/",
            true,
        ),
        // What does not count is not read.
        (
            missing,
            &[("functions_provider_url", "http://variable/")],
            &[],
            "http://variable/",
            false,
        ),
    ] {
        let loaded = parse(Some(&desk.filled(content)), &desk.sources(variables, flags));
        let loaded = loaded.unwrap_or_else(|errors| panic!("{content}: {errors:?}"));
        assert_eq!(
            value(&loaded, "provider.url").0,
            format!("\"{url}\""),
            "{content} {variables:?} {flags:?}"
        );
        assert_eq!(
            loaded.config.provider.url_file.is_some(),
            named,
            "{content} {variables:?} {flags:?}"
        );
        assert_eq!(loaded.config.referenced_files().len(), usize::from(named), "{content}");
        assert_eq!(
            loaded.origins.is_secret(&["provider".to_owned(), "url".to_owned()]),
            named,
            "{content}"
        );
    }
    // Each header for itself, and a function's own table above that of all.
    let loaded = desk
        .read(
            "[functions.\"*\"]\nheaders.request.set_file = { X-A = \"DIR/token\", X-B = \"DIR/token\" }\n\
             [functions.f]\nheaders.request.set = { X-A = \"own\" }",
        )
        .expect("valid");
    let set = loaded
        .config
        .function(&faas_gateway::model::FunctionRef::new("f", ""))
        .request_headers
        .set;
    let set: Vec<_> = set
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
        .collect();
    assert_eq!(set, [("x-a", "own"), ("x-b", "file")]);

    // What is overridden is told, whichever form it has.
    let sources = desk.sources(&[("functions_provider_url", "http://variable/")], &[]);
    let loaded = parse(Some(&desk.filled(by_file)), &sources).expect("valid");
    let layers = explained(&loaded, "provider.url").layers;
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| (layer.source.as_str(), layer.value.as_str()))
        .collect();
    assert_eq!(
        layers,
        [
            ("gateway.toml:1:10", "\"***\""),
            ("environment variable functions_provider_url", "\"http://variable/\"")
        ]
    );
    let shadowed: Vec<_> = loaded
        .origins
        .shadowed()
        .into_iter()
        .map(|key| (key.key, key.by))
        .collect();
    let variable = "environment variable functions_provider_url".to_owned();
    assert_eq!(shadowed, [("provider.url_file".to_owned(), variable)]);
}

#[test]
fn point_07_what_a_value_was_read_from_is_what_is_compared() {
    let desk = Desk::new(&[("url", "http://one/")]);
    let file = desk.path("gateway.toml");
    fs::write(&file, desk.filled("provider.url_file = \"DIR/url\"")).expect("written");
    let sources = Sources {
        file: Some(file),
        ..environment(&[])
    };
    let first = config::load(&sources).expect("valid");
    let again = config::load(&sources).expect("valid");
    assert_eq!(first.fingerprint, again.fingerprint);
    let named: Vec<_> = first.files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(named, [desk.path("gateway.toml"), desk.path("url")]);
    desk.put("url", "http://two/");
    let changed = config::load(&sources).expect("valid");
    assert_ne!(first.fingerprint, changed.fingerprint);
    assert_eq!(config::changed_files(&first.files, &changed.files).len(), 1);

    // A file that changes after its value was read is not taken for the old one's.
    let files = sources.read().expect("readable");
    let mut loaded = config::parse_files(&files, &sources).expect("valid");
    desk.put("url", "http://three/");
    loaded.note_files(&sources, &files);
    assert_eq!(loaded.fingerprint, changed.fingerprint);
    assert_eq!(value(&loaded, "provider.url").0, "\"http://two/\"");
}
