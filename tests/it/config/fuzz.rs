//! Configurations that nobody would write: real files with slips in them, and
//! tables made of the schema's keys with any values.
//!
//! See [`crate::support::fuzz`] for how long and how often.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use faas_gateway::config::{
    self, ConfigFile, DEFAULTS, Entry, Loaded, Sources, compare, diff, dotted, explain, explain_all, parse, parse_files,
};
use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};
use serde_json::Value as Json;

use super::{documents, environment};
use crate::support::fuzz::{self, Target};

/// How long `make test` looks.
const SECONDS: u64 = 2;

/// What variables give, and what must not be in any text for people.
const SECRETS: &[(&str, &str)] = &[
    ("SECRET", "zq7hunter"),
    ("ODD", "zq7hunter,\"é'\\ /x"),
    ("URL", "http://zq7hunter:x@host/zq7hunter"),
];

/// What all secrets have in them.
const MARK: &str = "zq7hunter";

/// What is put where a value or a key was, or between two characters.
const WORDS: &[&str] = &[
    "\"${SECRET}\"",
    "\"${ODD}\"",
    "\"${URL}\"",
    "\"${NONE}\"",
    "\"${NONE:-60s}\"",
    "\"a-${SECRET}-b\"",
    "\"${\"",
    "\"$${SECRET}\"",
    "0",
    "1",
    "-1",
    "99999999999999999999",
    "0.2",
    "1e400",
    "nan",
    "true",
    "false",
    "\"\"",
    "\"0s\"",
    "\"60s\"",
    "\"1h\"",
    "\"1ns\"",
    "\"292y\"",
    "\"9223372036.5s\"",
    "\"20%\"",
    "\"64KiB\"",
    "\"*\"",
    "\"/\"",
    "\"/v1\"",
    "\"/../x\"",
    "\"/system/x\"",
    "\"GET\"",
    "\"X-Key\"",
    "\"Host\"",
    "\"a.example\"",
    "\"*.a.example\"",
    "\"https://a.example\"",
    "\"127.0.0.1:0\"",
    "\"0.0.0.0:8080\"",
    "\"header\"",
    "\"internal\"",
    "\"http\"",
    "\"memory\"",
    "\"\\u0000\\n\"",
    "'''\n'''",
    "[]",
    "{}",
    "[[]]",
    "[1, \"a\"]",
    "[\"GET\", 1]",
    "[{ function = \"a\", weight = 1 }, { function = \"b\", weight = 0 }]",
    "{ a = { b = [1] } }",
    "1979-05-27T07:32:00Z",
    "[[routes]]",
    "[functions.a]",
    "[functions.\"*\"]",
    "[server]",
    "[",
    "]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    "#",
    ".",
    "\\",
    "\n",
    "\r\n",
    "\u{feff}",
    "é",
    "\u{7f}",
    "routes = 1",
    "functions = []",
    "retries.attempts = 1",
    "cors.origins = [\"*\"]",
];

/// Files that hold values, and one that is not there.
const SECRET_FILES: &[&str] = &[
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/config/secret/token"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/config/secret/url"),
    "/no/such/file",
];

/// Names of functions and images.
const NAMES: &[&str] = &["*", "a", "a.dev", "A", "x y", "", "0"];

fn one(index: Index, list: &'static [&'static str]) -> &'static str {
    list[index.index(list.len())]
}

/// One change of a text.
#[derive(Debug, Clone)]
enum Slip {
    Insert(Index, Index),
    Remove(Index, u8),
    Replace(Index, Index),
    RepeatLine(Index, Index),
    RemoveLine(Index),
    Value(Index, Index),
    Cut(Index),
}

/// One file.
#[derive(Debug, Clone)]
enum Draft {
    /// A real file with slips.
    Mended(Index, Vec<Slip>),
    /// Keys of tables, and keys of routes.
    Made(Vec<(Index, Index, Index)>, Vec<Vec<(Index, Index)>>),
}

/// Everything a configuration is read from.
#[derive(Debug, Clone)]
struct Case {
    files: Vec<Draft>,
    variables: Vec<(Index, Index, Index)>,
    flags: Vec<(Index, Index, Index)>,
}

fn slips() -> impl Strategy<Value = Vec<Slip>> {
    let index = any::<Index>;
    let slip = prop_oneof![
        (index(), index()).prop_map(|(at, word)| Slip::Insert(at, word)),
        (index(), any::<u8>()).prop_map(|(at, length)| Slip::Remove(at, length)),
        (index(), index()).prop_map(|(at, word)| Slip::Replace(at, word)),
        (index(), index()).prop_map(|(from, to)| Slip::RepeatLine(from, to)),
        index().prop_map(Slip::RemoveLine),
        (index(), index()).prop_map(|(line, word)| Slip::Value(line, word)),
        (index(), index()).prop_map(|(line, word)| Slip::Value(line, word)),
        index().prop_map(Slip::Cut),
    ];
    prop::collection::vec(slip, 0..4)
}

fn cases() -> impl Strategy<Value = Case> {
    let index = any::<Index>;
    let keys = prop::collection::vec((index(), index(), index()), 0..6);
    let routes = prop::collection::vec(prop::collection::vec((index(), index()), 0..6), 0..3);
    let draft = prop_oneof![
        (index(), slips()).prop_map(|(file, slips)| Draft::Mended(file, slips)),
        (keys, routes).prop_map(|(keys, routes)| Draft::Made(keys, routes)),
    ]
    .boxed();
    let few = || prop::option::weighted(0.2, (index(), index(), index()));
    let few = || few().prop_map(Vec::from_iter);
    let drafts = prop_oneof![
        3 => prop::collection::vec(draft.clone(), 1),
        1 => prop::collection::vec(draft, 2..4),
    ];
    (drafts, few(), few()).prop_map(|(files, variables, flags)| Case {
        files,
        variables,
        flags,
    })
}

/// A key with what the schema says of its value.
struct Key {
    /// Parts; a user's own name is `None`.
    path: Vec<Option<String>>,
    schema: Json,
}

/// What drafts are made from.
struct Material {
    files: Vec<String>,
    keys: Vec<Key>,
    route_keys: Vec<Key>,
    /// How many configurations were right so far.
    accepted: Arc<AtomicU64>,
}

impl Material {
    fn read(accepted: Arc<AtomicU64>) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = vec![DEFAULTS.to_owned(), documents::uncommented()];
        for directory in [
            "config/examples",
            "tests/fixtures/config/valid",
            "tests/fixtures/config/invalid",
        ] {
            let entries = fs::read_dir(root.join(directory)).expect("readable");
            let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
            paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
            // The order of a directory differs between machines.
            paths.sort();
            files.extend(paths.iter().map(|path| fs::read_to_string(path).expect("readable")));
        }
        let schema: Json = serde_json::from_str(&config::schema::document()).expect("JSON");
        let (mut keys, mut route_keys) = (Vec::new(), Vec::new());
        collect(&schema, &mut Vec::new(), &mut keys);
        collect(
            &schema["properties"]["routes"]["items"],
            &mut Vec::new(),
            &mut route_keys,
        );
        assert!(files.len() > 10 && keys.len() > 90 && route_keys.len() > 30);
        Self {
            files,
            keys,
            route_keys,
            accepted,
        }
    }

    fn text(&self, draft: &Draft) -> String {
        match draft {
            Draft::Mended(file, slips) => slips.iter().fold(file.get(&self.files).clone(), slipped),
            Draft::Made(keys, routes) => {
                let mut text = String::new();
                let mut seen = BTreeSet::new();
                for (key, name, value) in keys {
                    let key = key.get(&self.keys);
                    let path = key.named(one(*name, NAMES));
                    if seen.insert(path.clone()) {
                        let _ = writeln!(text, "{} = {}", dotted(&path), key.value(*value));
                    }
                }
                for route in routes {
                    text.push_str("[[routes]]\n");
                    let mut seen = BTreeSet::new();
                    for (key, value) in route {
                        let key = key.get(&self.route_keys);
                        let path = key.named("X-Key");
                        if seen.insert(path.clone()) {
                            let _ = writeln!(text, "{} = {}", dotted(&path), key.value(*value));
                        }
                    }
                }
                text
            }
        }
    }

    fn files(&self, case: &Case) -> Vec<ConfigFile> {
        let drafts = case.files.iter().enumerate();
        drafts
            .map(|(number, draft)| ConfigFile {
                path: format!("{number}.toml").into(),
                content: self.text(draft),
            })
            .collect()
    }

    fn sources(&self, case: &Case) -> Sources {
        let plain = |word: &Index| one(*word, WORDS).trim_matches('"').replace('\0', "");
        let mut sources = environment(SECRETS);
        for (key, name, word) in &case.variables {
            let path = key.get(&self.keys).named(one(*name, NAMES));
            let variable = format!("FAAS__{}", path.join("__").to_uppercase());
            sources.environment.insert(variable, plain(word));
        }
        for (key, name, word) in &case.flags {
            let path = key.get(&self.keys).named(one(*name, NAMES));
            sources.overrides.push((dotted(&path), plain(word)));
        }
        sources
    }
}

/// The keys that have values, in tables of any depth.
fn collect(schema: &Json, path: &mut Vec<Option<String>>, keys: &mut Vec<Key>) {
    let inner = schema["properties"].as_object().into_iter().flatten();
    let inner = inner.map(|(name, schema)| (Some(name.clone()), schema));
    let any_name = Some((None, &schema["additionalProperties"])).filter(|(_, schema)| schema.is_object());
    let mut leaf = true;
    for (name, schema) in inner.chain(any_name) {
        leaf = false;
        path.push(name);
        collect(schema, path, keys);
        path.pop();
    }
    if leaf {
        keys.push(Key {
            path: path.clone(),
            schema: schema.clone(),
        });
    }
}

impl Key {
    fn named(&self, name: &str) -> Vec<String> {
        let parts = self.path.iter();
        parts
            .map(|part| part.clone().unwrap_or_else(|| name.to_owned()))
            .collect()
    }

    /// Mostly what the schema asks for.
    fn value(&self, choice: Index) -> String {
        let choice = choice.index(1 << 16);
        let word = WORDS[choice / 8 % WORDS.len()].to_owned();
        let name = self.path.last().and_then(Option::as_deref).unwrap_or_default();
        if choice.is_multiple_of(8) {
            word
        } else {
            fitting(name, &self.schema, choice / 8)
        }
    }
}

/// A value that the schema permits, and probably the checks too.
fn fitting(name: &str, schema: &Json, choice: usize) -> String {
    if let Some(list) = schema["enum"].as_array().or_else(|| schema["examples"].as_array()) {
        return list[choice % list.len()].to_string();
    }
    let text = |texts: &[&str]| format!("\"{}\"", texts[choice % texts.len()]);
    if schema["format"] == "secret-file" {
        return text(SECRET_FILES);
    }
    match schema["type"].as_str() {
        Some("boolean") => (choice.is_multiple_of(2)).to_string(),
        Some("integer") if name == "statuses" => [500, 503, 599][choice % 3].to_string(),
        Some("integer") if name == "status" => [301, 302, 308][choice % 3].to_string(),
        Some("integer") => [0, 1, 2][choice % 3].to_string(),
        Some("array") => {
            let items = (0..choice % 3).map(|number| fitting(name, &schema["items"], choice / 3 + number));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields = fields.map(|(name, schema)| format!("{name} = {}", fitting(name, schema, choice)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        _ => text(match name {
            "path" | "rewrite" | "to" | "base_path" => &["/", "/v1", "/${SECRET}"],
            "hosts" => &["a.example", "*.b.example", "${SECRET}.example"],
            "methods" => &["GET", "POST", "PUT"],
            "origins" => &["https://a.example", "http://localhost:80"],
            "remove" | "headers" | "header" | "expose" | "cookie" => &["X-A", "X-${SECRET}"],
            "level" => &["info", "debug"],
            "mode" => &["fork", "http"],
            _ => &["a", "b", "${SECRET}"],
        }),
    }
}

/// A text after one slip.
fn slipped(text: String, slip: &Slip) -> String {
    if text.is_empty() {
        return text;
    }
    let place = |index: &Index| {
        let at = index.index(text.len() + 1);
        (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
    };
    let mut lines: Vec<&str> = text.lines().collect();
    let joined = |lines: &[&str]| lines.join("\n") + "\n";
    match slip {
        Slip::Insert(at, word) => {
            let (before, after) = text.split_at(place(at));
            [before, one(*word, WORDS), after].concat()
        }
        Slip::Remove(at, length) => {
            let (before, after) = text.split_at(place(at));
            before
                .chars()
                .chain(after.chars().skip(usize::from(*length % 16)))
                .collect()
        }
        Slip::Replace(at, word) => {
            let (before, after) = text.split_at(place(at));
            let after: String = after.chars().skip(1).collect();
            [before, one(*word, WORDS), &after].concat()
        }
        Slip::RepeatLine(..) | Slip::RemoveLine(_) | Slip::Value(..) if lines.is_empty() => text,
        Slip::RepeatLine(from, to) => {
            let line = lines[from.index(lines.len())];
            lines.insert(to.index(lines.len()), line);
            joined(&lines)
        }
        Slip::RemoveLine(at) => {
            lines.remove(at.index(lines.len()));
            joined(&lines)
        }
        Slip::Value(line, word) => {
            let with_value: Vec<_> = (0..lines.len()).filter(|at| lines[*at].contains(" = ")).collect();
            if with_value.is_empty() {
                return text;
            }
            let at = *line.get(&with_value);
            let key = lines[at].split(" = ").next().unwrap_or_default();
            let changed = format!("{key} = {}", one(*word, WORDS));
            lines[at] = &changed;
            joined(&lines)
        }
        Slip::Cut(at) => text[..place(at)].to_owned(),
    }
}

/// What has to be true of every configuration.
fn check(files: &[ConfigFile], sources: &Sources, accepted: &AtomicU64) -> Result<(), TestCaseError> {
    match parse_files(files, sources) {
        Err(errors) => {
            prop_assert!(!errors.is_empty(), "refused without a reason");
            for error in &errors {
                let text = error.to_string();
                prop_assert!(!text.contains(MARK), "a secret in: {}", text);
                prop_assert!(has_place(&error.origin, files), "no place: {}", text);
                prop_assert!(!error.message.is_empty() && !text.contains('\n'), "{:?}", text);
            }
        }
        Ok(loaded) => {
            accepted.fetch_add(1, Ordering::Relaxed);
            texts(&loaded)?;
            round_trip(&loaded)?;
        }
    }
    Ok(())
}

/// A place inside one of the files, or the name of a variable or of the command line.
fn has_place(origin: &str, files: &[ConfigFile]) -> bool {
    if origin == "command line" || origin.starts_with("environment variable FAAS__") {
        return true;
    }
    let mut parts = origin.rsplitn(3, ':').map(str::to_owned);
    let mut number = || parts.next().and_then(|part| part.parse::<usize>().ok());
    let (Some(column), Some(line)) = (number(), number()) else {
        return false;
    };
    let name = parts.next().unwrap_or_default();
    let file = files.iter().find(|file| file.path.as_os_str() == name.as_str());
    let written = file.and_then(|file| file.content.split('\n').nth(line.checked_sub(1)?));
    written.is_some_and(|written| (1..=written.chars().count() + 1).contains(&column))
}

/// Everything that is said about a configuration can be said, without secrets.
fn texts(loaded: &Loaded) -> Result<(), TestCaseError> {
    let Loaded { config, origins, .. } = loaded;
    let defaults = parse(None, &environment(&[])).map_err(|errors| TestCaseError::fail(format!("{errors:?}")))?;
    let mut said = format!("{loaded:?} {:?}", loaded.warnings);
    for entry in config.entries() {
        let _ = write!(said, " {:?}", entry.shown(origins));
        let explained = explain(&entry.key(), config, origins, &[]);
        prop_assert!(explained.is_ok(), "{:?}", explained);
        let _ = write!(said, " {explained:?}");
    }
    let _ = write!(
        said,
        " {:?} {:?} {:?}",
        origins.shadowed(),
        compare((&defaults.config, &defaults.origins), loaded),
        explain_all(config, origins, &[]),
    );
    let at = said.find(MARK);
    prop_assert!(
        at.is_none(),
        "a secret in: {:?}",
        at.map(|at| said[at.saturating_sub(200)..].chars().take(300).collect::<String>())
    );
    prop_assert!(diff(config, config).is_empty());
    Ok(())
}

/// What is printed reads back as the same.
fn round_trip(loaded: &Loaded) -> Result<(), TestCaseError> {
    let before = loaded.config.entries();
    let printed = printed(&before);
    let again = parse(Some(&printed), &environment(&[]));
    let again = again.map_err(|errors| TestCaseError::fail(format!("{errors:?}\n{printed}")))?;
    let pairs =
        |entries: Vec<Entry>| -> Vec<_> { entries.into_iter().map(|entry| (entry.key(), entry.value)).collect() };
    prop_assert_eq!(pairs(before), pairs(again.config.entries()));
    Ok(())
}

/// The keys and values of each item of a list.
type Items = BTreeMap<usize, Vec<String>>;

/// The entries as a file: routes and schedules are lists, everything else is one
/// key a line.
fn printed(entries: &[Entry]) -> String {
    let mut text = String::new();
    let mut routes: BTreeMap<usize, (Vec<String>, Items)> = BTreeMap::new();
    let mut schedules: BTreeMap<&[String], Items> = BTreeMap::new();
    let set: BTreeSet<_> = entries
        .iter()
        .filter(|entry| entry.value.is_some())
        .map(|entry| &entry.path)
        .collect();
    // What came from a file is printed as the file it came from.
    let has_file = |path: &[String]| {
        (0..path.len()).rev().take(2).any(|part| {
            let mut file = path.to_vec();
            file[part].push_str("_file");
            set.contains(&file)
        })
    };
    for Entry { path, value } in entries {
        let Some(value) = value.as_ref().filter(|_| !has_file(path)) else {
            continue;
        };
        let value = value.replace("${", "$${");
        let number = |at: usize| path.get(at).and_then(|part| part.parse::<usize>().ok());
        match (path[0].as_str(), number(1)) {
            ("routes", Some(route)) => {
                let (keys, split) = routes.entry(route).or_default();
                match number(3) {
                    Some(item) if path[2] == "split" => {
                        let target = split.entry(item).or_default();
                        target.push(format!("{} = {value}", dotted(&path[4..])));
                    }
                    _ => keys.push(format!("{} = {value}", dotted(&path[2..]))),
                }
            }
            ("functions", _) if path.get(2).is_some_and(|key| key == "schedule") && path.len() == 5 => {
                let items = schedules.entry(&path[..3]).or_default();
                let item = items.entry(number(3).expect("an item")).or_default();
                item.push(format!("{} = {value}", path[4]));
            }
            _ => {
                let _ = writeln!(text, "{} = {value}", dotted(path));
            }
        }
    }
    let inline = |items: Items| {
        let tables = items.into_values().map(|item| format!("{{ {} }}", item.join(", ")));
        tables.collect::<Vec<_>>().join(", ")
    };
    for (path, items) in schedules {
        let _ = writeln!(text, "{} = [{}]", dotted(path), inline(items));
    }
    for (keys, split) in routes.into_values() {
        let _ = writeln!(text, "[[routes]]\n{}", keys.join("\n"));
        if !split.is_empty() {
            let _ = writeln!(text, "split = [{}]", inline(split));
        }
    }
    text
}

impl Target for Material {
    type Case = Case;

    fn cases() -> impl Strategy<Value = Case> {
        cases()
    }

    fn show(&self, case: &Case) -> String {
        let files = self.files(case);
        let files: Vec<_> = files
            .iter()
            .map(|file| format!("--- {}\n{}", file.path.display(), file.content))
            .collect();
        let sources = self.sources(case);
        format!(
            "{}\nvariables: {:?}\nflags: {:?}",
            files.join("\n"),
            sources.environment,
            sources.overrides
        )
    }

    fn check(&self, case: &Case) -> Result<(), TestCaseError> {
        check(&self.files(case), &self.sources(case), &self.accepted)
    }
}

#[test]
fn whatever_a_configuration_says_it_is_read_or_refused_with_a_place() {
    let accepted = Arc::new(AtomicU64::new(0));
    let done = fuzz::run(SECONDS, {
        let accepted = Arc::clone(&accepted);
        || Material::read(accepted)
    });
    let accepted = accepted.load(Ordering::Relaxed);
    println!("{done} configurations, {accepted} of them right");
    assert!(
        done >= 10 && accepted > 0,
        "{done} configurations, {accepted} of them right"
    );
}
