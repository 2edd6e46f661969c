//! Guards on the shape of the source: what depends on what, how long files get,
//! where the API's framework may be seen.
//!
//! These are ordinary tests that read the source as text; they know nothing of
//! what the code does. Each says what to do when it fails, and proves that it
//! looked at something.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// How far from the bottom each top-level module stands. A module may use those
/// of lower levels, and no other: two that need each other are one, or share
/// something that belongs below both.
const LEVELS: &[(&str, u8)] = &[
    // the vocabulary of the wire
    ("model", 0),
    ("trace", 0),
    // mechanisms that know nothing of functions or routes
    ("config", 1),
    ("shutdown", 1),
    ("state", 1),
    ("systemd", 1),
    ("upstream", 1),
    ("client", 2),
    ("events", 2),
    ("nats", 2),
    ("proxy", 2),
    ("tls", 2),
    // who may call, and what runs behind one replica's socket
    ("auth", 3),
    ("contracts", 3),
    ("policy", 3),
    ("stores", 3),
    ("telemetry", 3),
    ("watchdog", 3),
    // where calls go, and what becomes of the answers
    ("routing", 4),
    ("queue", 4),
    // where functions live
    ("provider", 4),
    // what is known, counted and said about them
    ("metrics", 5),
    ("problem", 5),
    // how many replicas they have
    ("scaling", 6),
    // all of that as one value
    ("snapshot", 7),
    // the edges of the process: requests and changes of configuration
    ("api", 8),
    ("reload", 8),
    // hands over to the API what is no function's
    ("server", 9),
    // composition
    ("app", 10),
    ("cli", 11),
    ("main", 12),
];

/// Longest file, in lines before its tests.
const LINES: usize = 500;

/// Top-level modules that may use poem. The data path and everything below it
/// speak `http` and `hyper`, so that calls pay nothing for the framework.
const POEM: &[(&str, &str)] = &[
    ("api", "the handlers"),
    ("server", "hands requests over to the API"),
    ("model", "derives the wire types' schemas"),
    ("problem", "is the error that handlers return"),
    ("watchdog", "serves the files of mode static"),
];

#[test]
fn modules_depend_downward() {
    let levels: BTreeMap<&str, u8> = LEVELS.iter().copied().collect();
    let mut edges: BTreeMap<(String, String), String> = BTreeMap::new();
    let sources = sources();
    for source in &sources {
        for used in used_modules(&tokens(&source.shipped), source.depth) {
            if used != source.module {
                edges
                    .entry((source.module.clone(), used))
                    .or_insert_with(|| source.shown.clone());
            }
        }
    }
    assert!(
        edges.len() > 10,
        "only {} edges found: the search is broken",
        edges.len()
    );

    let mut wrong = Vec::new();
    for ((from, to), file) in &edges {
        let Some(&above) = levels.get(from.as_str()) else {
            wrong.push(format!("{file}: module `{from}` has no level; add it to LEVELS"));
            continue;
        };
        match levels.get(to.as_str()) {
            None => wrong.push(format!(
                "{file}: uses `crate::{to}`, which has no level; add it to LEVELS"
            )),
            Some(&below) if below < above => {}
            Some(&below) => wrong.push(format!(
                "{file}: `{from}` (level {above}) uses `{to}` (level {below}); move what they share below both"
            )),
        }
    }
    for (module, _) in LEVELS {
        if !sources.iter().any(|source| source.module == *module) {
            wrong.push(format!("LEVELS has `{module}`, which is not in src: remove it"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_short() {
    let sources = sources();
    assert!(sources.len() > 30, "only {} files found", sources.len());
    let long: Vec<String> = sources
        .iter()
        .filter(|source| source.name != "tests.rs")
        .map(|source| (source.shipped.lines().count(), &source.shown))
        .filter(|(lines, _)| *lines > LINES)
        .map(|(lines, file)| {
            format!("{file}: {lines} lines before its tests, at most {LINES}; split it by what changes together")
        })
        .collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

#[test]
fn the_framework_stays_at_the_edge() {
    let mut users = BTreeSet::new();
    let mut wrong = Vec::new();
    for source in sources() {
        if tokens(&source.shipped)
            .iter()
            .any(|token| *token == "poem" || *token == "poem_openapi")
        {
            if !POEM.iter().any(|(module, _)| *module == source.module) {
                wrong.push(format!("{}: uses poem; only {POEM:?} may", source.shown));
            }
            users.insert(source.module);
        }
    }
    assert!(
        users.contains("model"),
        "found poem only in {users:?}: the search is broken"
    );
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_module_says_why_it_exists() {
    let sources = sources();
    assert!(sources.len() > 30, "only {} files found", sources.len());
    let silent: Vec<&str> = sources
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.shown.as_str())
        .collect();
    assert!(silent.is_empty(), "these begin without a `//!` comment: {silent:#?}");
}

#[test]
fn no_module_is_a_drawer() {
    let drawers = ["util", "utils", "helper", "helpers", "manager", "common", "misc"];
    let sources = sources();
    assert!(sources.len() > 30, "only {} files found", sources.len());
    for source in sources {
        let stem = source.name.trim_end_matches(".rs");
        assert!(!drawers.contains(&stem), "{}: name it after what it does", source.shown);
    }
}

#[test]
fn every_fixture_is_used() {
    let fixtures = root().join("tests/fixtures");
    let swept = files(&fixtures);
    assert!(!swept.is_empty(), "no fixture found");
    let texts: Vec<String> = ["tests", "src"]
        .iter()
        .flat_map(|directory| files(&root().join(directory)))
        // This file names fixtures in general and uses none.
        .filter(|path| {
            path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("architecture.rs")
        })
        .map(|path| read(&path))
        .collect();
    for path in swept {
        let relative = path.strip_prefix(&fixtures).expect("found below it");
        let name = relative.file_name().expect("a file").to_string_lossy();
        let directories: Vec<String> = relative
            .ancestors()
            .skip(1)
            .filter(|directory| !directory.as_os_str().is_empty())
            .map(|directory| format!("fixtures/{}", directory.display()))
            .collect();
        let used = texts.iter().any(|text| {
            // By its name, or with all of a directory.
            let swept = || directories.iter().any(|directory| text.contains(directory));
            text.contains(&*name) || (text.contains("read_dir") && swept())
        });
        assert!(
            used,
            "tests/fixtures/{} is used by no test: use it or delete it",
            relative.display()
        );
    }
}

/// Release builds alone give it to a linker, which would refuse all of it for one bad line.
#[test]
fn the_order_of_functions_is_a_linker_script() {
    let script = read(&root().join("assets/order.ld"));
    let (_, script) = script.split_once("*/\n").expect("a comment");
    let script = script.strip_prefix("SECTIONS\n{\n  .text.first :\n  {\n");
    let lines = script.and_then(|script| script.strip_suffix("  }\n}\nINSERT BEFORE .text;\n"));
    for line in lines.expect("one section").lines() {
        let patterns = line.strip_prefix("    *(").and_then(|line| line.strip_suffix(')'));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._$*".contains(&byte);
        assert!(
            patterns.is_some_and(|patterns| patterns
                .split(' ')
                .all(|pattern| pattern.starts_with(".text.") && pattern.bytes().all(is_plain))),
            "{line}"
        );
    }
}

#[test]
fn links_in_documents_lead_somewhere() {
    let root = root();
    let documents: Vec<PathBuf> = files_here(&root)
        .into_iter()
        .chain(files(&root.join("config")))
        .chain(files(&root.join("openapi")))
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    let mut links = 0;
    for document in documents {
        let text = read(&document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().expect("at least one part");
            let path = document.parent().expect("a file").join(file);
            assert!(path.exists(), "{}: nothing is at {target}", document.display());
            links += 1;
        }
    }
    assert!(links > 5, "only {links} links found");
}

/// One file of the source.
struct Source {
    /// Path as people write it.
    shown: String,
    /// File name.
    name: String,
    /// The top-level module it belongs to.
    module: String,
    /// How many `super` lead from its module to the crate's root.
    depth: usize,
    /// Everything.
    text: String,
    /// What is before the tests at its end.
    shipped: String,
}

fn sources() -> Vec<Source> {
    let root = root();
    let mut sources: Vec<Source> = files(&root.join("src"))
        .into_iter()
        .map(|path| {
            let relative = path
                .strip_prefix(root.join("src"))
                .expect("found below it")
                .to_path_buf();
            let parts: Vec<String> = relative
                .with_extension("")
                .iter()
                .map(|part| part.to_string_lossy().into_owned())
                .collect();
            let text = read(&path);
            let is_tests = parts.last().is_some_and(|part| part == "tests");
            let shipped = if is_tests {
                String::new()
            } else {
                before_tests(&text).to_owned()
            };
            Source {
                shown: format!("src/{}", relative.display()),
                name: relative.file_name().expect("a file").to_string_lossy().into_owned(),
                module: parts[0].clone(),
                depth: if parts[0] == "lib" { 0 } else { parts.len() },
                text,
                shipped,
            }
        })
        // The crate root lists every module; that is no dependency.
        .filter(|source| source.module != "lib" || source.depth == 0)
        .collect();
    sources.sort_by(|a, b| a.shown.cmp(&b.shown));
    sources
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("readable directory").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The files of a directory itself.
fn files_here(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries
        .map(|entry| entry.expect("readable directory").path())
        .filter(|path| path.is_file())
        .collect()
}

/// The text up to the first `#[cfg(test)]` that begins a line.
fn before_tests(text: &str) -> &str {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        end += line.len();
    }
    &text[..end]
}

/// Words and punctuation of Rust source, without comments and literals: enough
/// to read paths, not enough to compile.
fn tokens(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let start = at;
        at += match bytes[at] {
            b'/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            b'"' => string_length(rest),
            b'r' if rest.starts_with("r\"") || rest.starts_with("r#\"") => raw_string_length(rest),
            b'\'' => character_length(rest),
            byte if byte == b'_' || byte.is_ascii_alphanumeric() => {
                let length = rest
                    .find(|character: char| character != '_' && !character.is_ascii_alphanumeric())
                    .unwrap_or(rest.len());
                tokens.push(&rest[..length]);
                length
            }
            b':' if rest.starts_with("::") => {
                tokens.push("::");
                2
            }
            byte if byte.is_ascii_punctuation() => {
                tokens.push(&rest[..1]);
                1
            }
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        assert!(at > start, "no progress at {rest:.40}");
    }
    tokens
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string_length(rest: &str) -> usize {
    let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    let close = format!("\"{}", "#".repeat(hashes));
    let open = hashes + 2;
    rest[open..]
        .find(&close)
        .map_or(rest.len(), |end| open + end + close.len())
}

/// Length of a character literal; of a lifetime only its quote.
fn character_length(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((second, _))) => rest[second + 1..].find('\'').map_or(1, |end| second + end + 2),
        (Some(_), Some((quote, '\''))) => quote + 1,
        _ => 1,
    }
}

/// The top-level modules that paths from the crate's root lead to: after
/// `crate::`, or after as many `super::` as the file is deep.
fn used_modules(tokens: &[&str], depth: usize) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut ups = 0;
        while tokens.get(at + 2 * ups) == Some(&"super") && tokens.get(at + 2 * ups + 1) == Some(&"::") {
            ups += 1;
        }
        if tokens[at] == "crate" && tokens.get(at + 1) == Some(&"::") {
            first_segments(&tokens[at + 2..], &mut used);
            at += 2;
        } else if ups > 0 {
            if ups >= depth {
                first_segments(&tokens[at + 2 * ups..], &mut used);
            }
            at += 2 * ups;
        } else {
            at += 1;
        }
    }
    used
}

/// The first word of a path, or of each path of a `{...}` group.
fn first_segments(tokens: &[&str], used: &mut BTreeSet<String>) {
    let Some(&first) = tokens.first() else { return };
    if first != "{" {
        used.insert(first.to_owned());
        return;
    }
    let mut level = 0;
    let mut begins = false;
    for &token in tokens {
        match token {
            "{" => {
                level += 1;
                begins = level == 1;
            }
            "}" if level == 1 => return,
            "}" => level -= 1,
            "," => begins = level == 1,
            word => {
                if begins {
                    used.insert(word.to_owned());
                }
                begins = false;
            }
        }
    }
}

#[test]
fn paths_are_read_from_source() {
    let source = r##"
        //! crate::comment
        use std::fmt;
        use crate::{
            alpha::{self, Deep, deeper::{Deepest}},
            beta::Gamma, // crate::remark
        };
        use crate::delta::Epsilon;
        use super::super::zeta::Eta;
        use super::theta;
        pub(crate) fn iota<'a>(quote: char, text: &'a str) -> crate::kappa::Lambda {
            let quotes = ('"', '\'', "crate::text", r#"crate::"raw" text"#);
            $crate::mu::call(quotes)
        }
        /* crate::block */
    "##;
    let found = used_modules(&tokens(source), 2);
    let expected = ["alpha", "beta", "delta", "kappa", "mu", "zeta"];
    assert_eq!(found, expected.map(str::to_owned).into());
}
