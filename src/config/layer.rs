//! One layer of configuration: a tree of values and the name errors show for it.
//!
//! Also the two small things that need such trees: reading a dotted key as the
//! user wrote it, and finding a value by the parts of its key.

use figment::{
    Metadata, Profile,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};

use toml_edit::Key;

use super::{entry::dotted, place::position, setting::ConfigError};

/// The list that adds up over the files.
pub(super) const ROUTES: &str = "routes";

/// Lists of tables, what one of them is called, and how one is written.
const LISTS: [(&str, &str, &str); 2] = [
    (ROUTES, "route", "{ path = \"/\", function = \"NAME\" }"),
    ("stores", "store", "{ name = \"NAME\", url = \"https://HOST/\" }"),
];

/// One layer of configuration with the name that errors show.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    name: String,
    dict: Dict,
    tier: Tier,
}

/// The layers that count as one when a key is set in two forms: the variables
/// of one kind, or all of the command line. Later ones are stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    /// The defaults.
    Defaults,
    /// A file, by its number.
    File(usize),
    /// Variables under OpenFaaS's names.
    OpenFaas,
    /// Variables under OpenTelemetry's names.
    OpenTelemetry,
    /// Variables that name keys.
    Variables,
    /// The command line.
    CommandLine,
}

impl Layer {
    /// A whole file. A syntax error names its line and column, and repeats
    /// nothing of the file, which may hold credentials.
    pub(super) fn toml(name: &str, content: &str) -> Result<Self, ConfigError> {
        let dict = toml_dict(content).map_err(|(offset, message)| {
            let (line, column) = position(content, offset);
            ConfigError {
                origin: format!("{name}:{line}:{column}"),
                key: String::new(),
                message: format!("not valid TOML: {message}"),
            }
        })?;
        Ok(Self {
            name: name.to_owned(),
            dict,
            tier: Tier::Defaults,
        })
    }

    /// Says where it belongs.
    pub(super) fn at(mut self, tier: Tier) -> Self {
        self.tier = tier;
        self
    }

    /// Where it belongs.
    pub(super) fn tier(&self) -> Tier {
        self.tier
    }

    /// The values, to be changed.
    pub(super) fn dict_mut(&mut self) -> &mut Dict {
        &mut self.dict
    }

    /// One value under the parts of its key.
    pub(super) fn value<S: AsRef<str>>(name: &str, path: &[S], value: Value) -> Self {
        let nested = path.iter().rev().fold(value, |value, part| {
            Value::from(Dict::from([(part.as_ref().to_owned(), value)]))
        });
        Self {
            name: name.to_owned(),
            dict: nested.into_dict().unwrap_or_default(),
            tier: Tier::Defaults,
        }
    }

    /// One value as text, under the parts of its key.
    pub(super) fn text<S: AsRef<str>>(name: &str, path: &[S], text: &str) -> Result<Self, ConfigError> {
        let list = path
            .first()
            .and_then(|first| LISTS.into_iter().find(|(name, ..)| *name == first.as_ref()));
        let value = match (path.len(), list) {
            (1, Some(_)) => read_toml(text).map_err(|(_, message)| format!("not a TOML list: {message}")),
            (_, Some((name, one, example))) => Err(format!(
                "a single {one} or key of it can only be set in a file; the variable FAAS__{} and \
                 --set {name}=... replace all {name}: '[{example}]'",
                name.to_uppercase()
            )),
            (_, None) => read_value(text),
        };
        let value = value.map_err(|message| ConfigError {
            origin: name.to_owned(),
            key: dotted(path),
            message,
        })?;
        Ok(Self::value(name, path, value))
    }

    /// A layer with the key alone, and one with all others.
    pub(super) fn divided(mut self, key: &str) -> (Self, Self) {
        let alone = self.dict.remove_entry(key);
        let only = Self {
            name: self.name.clone(),
            dict: alone.into_iter().collect(),
            tier: self.tier,
        };
        (only, self)
    }

    /// What errors call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it sets.
    pub(super) fn root(&self) -> Value {
        Value::from(self.dict.clone())
    }

    /// One value under a dotted key, quoted as in the file where a part has dots.
    pub(super) fn written(name: &str, key: &str, text: &str) -> Result<Self, ConfigError> {
        let path = read_key(key).ok_or_else(|| ConfigError {
            origin: name.to_owned(),
            key: key.escape_debug().to_string(),
            message: "is not a key; write it as section.key, with quotes around a part that has dots".to_owned(),
        })?;
        Self::text(name, &path, text)
    }
}

impl figment::Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// Reads TOML; an error is the byte it was found at, and what it is.
pub(super) fn toml_dict(content: &str) -> Result<Dict, (usize, String)> {
    Toml::from_str::<Dict>(content).map_err(|error| {
        let offset = error.span().map_or(content.len(), |span| span.start);
        (offset, error.message().trim().replace('\n', ", "))
    })
}

/// Tables and lists are read as TOML writes them; everything else stays text,
/// so that a password of digits or a name like `1e3` is not taken for a number.
/// What starts like a list but is none is text too: `[::1]:8080`.
fn read_value(text: &str) -> Result<Value, String> {
    if !text.starts_with(['[', '{']) {
        return Ok(Value::from(text));
    }
    match read_toml(text) {
        Ok(value) => Ok(value),
        Err(_) if text.starts_with('[') => Ok(Value::from(text)),
        Err((_, message)) => Err(format!("not a TOML table: {message}")),
    }
}

/// One TOML value.
fn read_toml(text: &str) -> Result<Value, (usize, String)> {
    let mut table = toml_dict(&format!("value = {text}"))?;
    let value = table.remove("value").filter(|_| table.is_empty());
    value.ok_or_else(|| (0, "more than one value".to_owned()))
}

/// The parts of a dotted key.
pub(super) fn read_key(key: &str) -> Option<Vec<String>> {
    let parts = Key::parse(key).ok()?;
    Some(parts.iter().map(|part| part.get().to_owned()).collect())
}

/// The value at a path.
pub(super) fn at<'v>(root: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(root, |value, key| match value {
        Value::Dict(_, table) => table.get(key),
        Value::Array(_, list) => list.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The value at a path, to be changed.
pub(super) fn at_mut<'v>(root: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter().try_fold(root, |value, key| match value {
        Value::Dict(_, table) => table.get_mut(key),
        Value::Array(_, list) => list.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Removes what is at a path.
pub(super) fn remove(root: &mut Value, path: &[String]) {
    if let Some((key, parents)) = path.split_last()
        && let Some(Value::Dict(_, table)) = at_mut(root, parents)
    {
        table.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_in_the_file() {
        for (key, path) in [
            ("server.listen", vec!["server", "listen"]),
            (
                "functions.\"a.b\".timeouts.total",
                vec!["functions", "a.b", "timeouts", "total"],
            ),
            ("x", vec!["x"]),
            ("images.\"a=b#[c]\\n\"", vec!["images", "a=b#[c]\n"]),
        ] {
            assert_eq!(
                read_key(key),
                Some(path.into_iter().map(str::to_owned).collect()),
                "{key}"
            );
        }
        for key in ["", "a..b", "a b", "a = 1\nb", "[a]\nb", "a#"] {
            assert_eq!(read_key(key), None, "{key:?}");
        }
    }

    #[test]
    fn only_tables_and_lists_are_not_text() {
        assert_eq!(read_value("1e3").expect("text").as_str(), Some("1e3"));
        assert!(read_value("{ a = 1 }").expect("table").as_dict().is_some());
        assert_eq!(read_value("[::1]:8080").expect("address").as_str(), Some("[::1]:8080"));
        assert!(read_value("{ a").is_err());
    }
}
