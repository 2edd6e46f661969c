//! A key's value and how it came about: for `config`, `config explain` and the
//! API, so that all of them say the same.

use std::{collections::BTreeSet, sync::LazyLock};

use super::{
    Config, Origins, Reader, Setting,
    check::EVERY_FUNCTION,
    diff,
    entry::{Entry, dotted},
    layer, schema,
    setting::nearest,
    source::SetBy,
};

/// The tables about functions.
const FUNCTIONS: &str = "functions";

/// Source of a value that follows from other keys.
const DERIVED: &str = "derived";

/// Source of a value that a newer one waits to replace.
const RUNNING: &str = "running since the start; a newer value waits for a restart";

/// What the defaults layer alone comes to.
static DEFAULTS: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let origins = Origins::default();
    let read = layer::toml_dict(super::DEFAULTS)
        .ok()
        .and_then(|defaults| Config::read(&defaults.into(), &mut Reader::new(&origins)));
    read.map(|config| config.entries()).unwrap_or_default()
});

/// One key, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The key as the file writes it.
    pub key: String,
    /// The value that counts, as TOML writes it, secrets masked; `None` when the key is not set.
    pub value: Option<String>,
    /// The value without any file, variable or argument, where that is fixed.
    pub default: Option<String>,
    /// The layer the value came from; `None` when the key is not set.
    pub source: Option<String>,
    /// Whether a change takes effect without a restart.
    pub live: bool,
    /// Every layer above the defaults that sets the key, the one that counts last.
    pub layers: Vec<SetBy>,
    /// For a function's key: what `[functions."*"]` gives where it is not set.
    pub base: Option<SetBy>,
}

/// Every key, in the order of the file: of a function that the file names also
/// those that only `[functions."*"]` sets. `pending` are those that keep their
/// running value.
pub fn explain_all(config: &Config, origins: &Origins, pending: &[&str]) -> Vec<Explained> {
    let mut entries = config.entries();
    let given = given_by_base(config, &entries);
    let last = entries.iter().rposition(|entry| is_functions(&entry.path));
    let after = last.map_or(entries.len(), |last| last + 1);
    entries.splice(after..after, given);
    entries
        .iter()
        .map(|entry| one(entry, config, origins, pending))
        .collect()
}

/// One key, as the user writes it.
///
/// # Errors
/// There is no such key; the text says which may be meant.
pub fn explain(key: &str, config: &Config, origins: &Origins, pending: &[&str]) -> Result<Explained, String> {
    let unknown = |hint: String| format!("{} is not a key; {hint}", key.escape_debug());
    let path = layer::read_key(key)
        .ok_or_else(|| unknown("write it as section.key, with quotes around a part that has dots".to_owned()))?;
    match schema::find(&path) {
        schema::Found::Key => {}
        schema::Found::Table(keys) => {
            return Err(unknown(format!("it is a table with the keys {}", keys.join(", "))));
        }
        schema::Found::Names => {
            let entries = config.entries();
            let below = entries.iter().filter(|entry| entry.path.starts_with(&path));
            let here: BTreeSet<_> = below.filter_map(|entry| entry.path.get(path.len())).collect();
            let here: Vec<_> = here.into_iter().map(|name| dotted(&[name])).collect();
            let here = if here.is_empty() {
                "none is set".to_owned()
            } else {
                format!("set: {}", here.join(", "))
            };
            let table = dotted(&path);
            return Err(unknown(format!(
                "it is a table of names that you choose, such as {table}.NAME; {here}"
            )));
        }
        schema::Found::Nothing(suggestion) => {
            let keys: Vec<String> = config.entries().iter().map(Entry::key).collect();
            let suggestion = suggestion.or_else(|| similar(key, &keys));
            return Err(unknown(suggestion.map_or_else(
                || "`faas-gateway config` lists all keys".to_owned(),
                |suggestion| format!("did you mean '{suggestion}'?"),
            )));
        }
    }
    let entries = config.entries();
    let entry = entries.iter().find(|entry| entry.path == path);
    let item = entries.iter().find(|other| other.path.starts_with(&path));
    if let (None, Some(item)) = (entry, item) {
        return Err(unknown(format!(
            "it is a list of tables, with keys such as {}",
            item.key()
        )));
    }
    let unset = Entry { path, value: None };
    Ok(one(entry.unwrap_or(&unset), config, origins, pending))
}

fn one(entry: &Entry, config: &Config, origins: &Origins, pending: &[&str]) -> Explained {
    let key = entry.key();
    let shown = entry.shown(origins);
    let source = if pending.contains(&key.as_str()) {
        Some(RUNNING.to_owned())
    } else if shown.is_some() {
        Some(origins.of(&entry.path).unwrap_or_else(|| DERIVED.to_owned()))
    } else {
        None
    };
    let derived = config.derived(&key).filter(|_| shown.is_none());
    Explained {
        default: DEFAULTS
            .iter()
            .find(|default| default.path == entry.path)
            .and_then(|default| default.masked(false)),
        source: source.or_else(|| derived.as_ref().map(|_| DERIVED.to_owned())),
        live: diff::is_changeable(&key, config),
        layers: origins.layers(&entry.path),
        base: base(&entry.path, config, origins),
        value: shown.or(derived),
        key,
    }
}

fn is_functions(path: &[String]) -> bool {
    path.first().is_some_and(|table| table == FUNCTIONS)
}

/// The keys that functions of the file have from the table of every function alone.
fn given_by_base(config: &Config, entries: &[Entry]) -> Vec<Entry> {
    let set: BTreeSet<_> = entries.iter().map(|entry| &entry.path).collect();
    let base: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry.path.as_slice() {
            [table, name, rest @ ..] if table == FUNCTIONS && name == EVERY_FUNCTION => Some(rest),
            _ => None,
        })
        .collect();
    let names = config.functions.keys().filter(|name| *name != EVERY_FUNCTION);
    let all = names.flat_map(|name| {
        let table = [FUNCTIONS.to_owned(), name.clone()];
        base.iter().map(move |rest| [table.as_slice(), *rest].concat())
    });
    all.filter(|path| !set.contains(path))
        .map(|path| Entry { path, value: None })
        .collect()
}

/// What the table of every function gives another one's key.
fn base(path: &[String], config: &Config, origins: &Origins) -> Option<SetBy> {
    let (table, rest) = path.split_first()?;
    let (name, rest) = rest.split_first()?;
    if table != FUNCTIONS || name == EVERY_FUNCTION {
        return None;
    }
    let every = [table.clone(), EVERY_FUNCTION.to_owned()];
    let path = [every.as_slice(), rest].concat();
    let entry = config.entries().into_iter().find(|entry| entry.path == path)?;
    Some(SetBy {
        source: origins.of(&path)?,
        value: entry.shown(origins)?,
    })
}

/// The key that ends like `key`, or looks like it.
fn similar(key: &str, keys: &[String]) -> Option<String> {
    let ending = format!(".{key}");
    let same_end = keys.iter().find(|known| known.ends_with(&ending));
    let known: Vec<&str> = keys.iter().map(String::as_str).collect();
    same_end.cloned().or_else(|| nearest(key, &known).map(str::to_owned))
}
