//! How a configuration value becomes a Rust value, with every mistake reported.
//!
//! serde stops at the first error and cannot say "all of these are wrong", so
//! each value type implements [`Setting`] and sections are declared with
//! [`section!`], which also records the keys for "did you mean". Here are the
//! trait, the tables and the lists; [`super::scalar`] has the plain values.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use figment::value::Value;
use serde_json::{Value as Json, json};

use super::{
    Origins,
    entry::{Entry, dotted},
};

/// One mistake in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the value came from: a place in a file, a variable, a command-line flag.
    pub origin: String,
    /// Dotted key, such as `server.read_timeout`.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.origin, self.message);
        }
        write!(f, "{}: {}: {}", self.origin, self.key, self.message)
    }
}

/// Collects mistakes while values are read.
pub struct Reader<'a> {
    origins: &'a Origins,
    path: Vec<String>,
    /// Everything found wrong so far.
    pub errors: Vec<ConfigError>,
    /// The key of each error, in its parts.
    pub wrong: Vec<Vec<String>>,
}

impl<'a> Reader<'a> {
    /// Starts at the root; `origins` know where the values came from.
    pub fn new(origins: &'a Origins) -> Self {
        Self {
            origins,
            path: Vec::new(),
            errors: Vec::new(),
            wrong: Vec::new(),
        }
    }

    /// Records that `value` is wrong.
    pub fn fail(&mut self, value: &Value, message: impl Into<String>) {
        let origin = self.origins.place(value, &self.path);
        self.errors.push(ConfigError {
            origin,
            key: dotted(&self.path),
            message: message.into(),
        });
        self.wrong.push(self.path.clone());
    }

    /// Whether the value at hand has a variable in it that a file refers to.
    pub(super) fn is_secret(&self, value: &Value) -> bool {
        self.origins.is_secret_value(value, &self.path)
    }

    /// Reads a child of a table; reports it when it is needed and absent.
    pub fn field<T: Setting>(&mut self, table: &Value, key: &str) -> Option<T> {
        self.path.push(key.to_owned());
        let found = table.as_dict().and_then(|dict| dict.get(key));
        let read = match found {
            Some(value) => T::read(value, self),
            None => T::absent().or_else(|| {
                self.fail(table, "is missing");
                None
            }),
        };
        self.path.pop();
        read
    }

    /// Reports keys of a table that are not in `known`, with the nearest known one.
    pub fn reject_unknown(&mut self, table: &Value, known: &[&str]) {
        let Some(dict) = table.as_dict() else { return };
        for (key, value) in dict {
            if known.contains(&key.as_str()) {
                continue;
            }
            self.path.push(key.clone());
            let hint = nearest(key, known).map_or_else(
                || format!("known keys here: {}", known.join(", ")),
                |candidate| format!("did you mean '{candidate}'?"),
            );
            self.fail(value, format!("unknown key; {hint}"));
            self.path.pop();
        }
    }
}

/// The candidate that `word` is probably meant to be.
pub(super) fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    candidates
        .iter()
        .map(|candidate| (strsim::jaro_winkler(candidate, word), *candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.75)
        .map(|(_, candidate)| candidate)
}

/// A type that can be read from a configuration value, and written back.
pub trait Setting: Sized {
    /// Reads the value, or reports what is wrong and returns `None`.
    fn read(value: &Value, reader: &mut Reader) -> Option<Self>;

    /// The value when the key is absent; `None` makes that an error.
    fn absent() -> Option<Self> {
        None
    }

    /// Adds the entries at and below `path`.
    fn entries(&self, path: &[String], out: &mut Vec<Entry>);

    /// Adds the files that hold values of other keys; see [`super::secret`].
    fn files(&self, _out: &mut Vec<PathBuf>) {}

    /// This value above another: what it leaves open, `beneath` says. A list or
    /// a plain value leaves nothing open.
    #[must_use]
    fn over(&self, _beneath: &Self) -> Self
    where
        Self: Clone,
    {
        self.clone()
    }

    /// What the file may say, as JSON Schema; see [`super::schema`]. A type that
    /// does not say accepts anything there.
    fn schema() -> Json {
        json!({})
    }
}

/// Adds one entry.
pub(super) fn entry(path: &[String], value: impl Into<Option<String>>, out: &mut Vec<Entry>) {
    out.push(Entry {
        path: path.to_vec(),
        value: value.into(),
    });
}

/// Leaves out the keys that are not set: of the tables that users name, only
/// what they wrote is of interest.
fn only_set(entries: &mut Vec<Entry>, from: usize) {
    let named = entries.split_off(from);
    entries.extend(named.into_iter().filter(|entry| entry.value.is_some()));
}

/// The path of a child.
pub(super) fn child(path: &[String], key: &str) -> Vec<String> {
    let mut path = path.to_vec();
    path.push(key.to_owned());
    path
}

impl<T: Setting + Clone> Setting for Vec<T> {
    fn files(&self, out: &mut Vec<PathBuf>) {
        for item in self {
            item.files(out);
        }
    }

    fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
        let Some(list) = value.as_array() else {
            reader.fail(value, "expected a list");
            return None;
        };
        let mut complete = Some(Self::new());
        for (index, item) in list.iter().enumerate() {
            reader.path.push(index.to_string());
            let item = T::read(item, reader);
            reader.path.pop();
            complete = complete.zip(item).map(|(mut items, item)| {
                items.push(item);
                items
            });
        }
        complete
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
        let mut items = Vec::new();
        for (index, item) in self.iter().enumerate() {
            item.entries(&child(path, &index.to_string()), &mut items);
        }
        // Plain values are one entry, as the file writes them.
        let plain = |item: &Entry| item.path.len() == path.len() + 1;
        if items.iter().all(plain) {
            let values: Vec<String> = items.into_iter().filter_map(|item| item.value).collect();
            entry(path, format!("[{}]", values.join(", ")), out);
        } else {
            only_set(&mut items, 0);
            out.append(&mut items);
        }
    }

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema() })
    }
}

impl<T: Setting + Clone> Setting for Option<T> {
    fn files(&self, out: &mut Vec<PathBuf>) {
        if let Some(value) = self {
            value.files(out);
        }
    }

    fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
        T::read(value, reader).map(Some)
    }

    fn over(&self, beneath: &Self) -> Self {
        match (self, beneath) {
            (Some(above), Some(beneath)) => Some(above.over(beneath)),
            (above, beneath) => above.clone().or_else(|| beneath.clone()),
        }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
        match self {
            Some(value) => value.entries(path, out),
            None => entry(path, None, out),
        }
    }

    fn schema() -> Json {
        T::schema()
    }
}

impl<T: Setting + Clone> Setting for BTreeMap<String, T> {
    fn files(&self, out: &mut Vec<PathBuf>) {
        for value in self.values() {
            value.files(out);
        }
    }

    fn read(value: &Value, reader: &mut Reader) -> Option<Self> {
        let Some(dict) = value.as_dict() else {
            reader.fail(value, "expected a table");
            return None;
        };
        let mut complete = Some(Self::new());
        for key in dict.keys() {
            let item = reader.field(value, key);
            complete = complete.zip(item).map(|(mut map, item)| {
                map.insert(key.clone(), item);
                map
            });
        }
        complete
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn entries(&self, path: &[String], out: &mut Vec<Entry>) {
        let from = out.len();
        for (key, value) in self {
            value.entries(&child(path, key), out);
        }
        only_set(out, from);
    }

    fn over(&self, beneath: &Self) -> Self {
        let mut all = beneath.clone();
        all.extend(self.iter().map(|(key, value)| {
            let value = beneath.get(key).map_or_else(|| value.clone(), |old| value.over(old));
            (key.clone(), value)
        }));
        all
    }

    fn schema() -> Json {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }
}

/// Declares a table of the configuration: a struct whose fields are its keys.
macro_rules! section {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[doc = $doc:literal])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq)]
        pub struct $name { $($(#[doc = $doc])* pub $field: $type,)* }

        /// Without the values, which may be credentials; those are for
        /// [`Entry::shown`]($crate::config::Entry::shown).
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }

        impl $crate::config::Setting for $name {
            fn read(
                value: &figment::value::Value,
                reader: &mut $crate::config::Reader,
            ) -> Option<Self> {
                if value.as_dict().is_none() {
                    reader.fail(value, "expected a table");
                    return None;
                }
                reader.reject_unknown(value, &[$(stringify!($field)),*]);
                $(let $field = reader.field(value, stringify!($field));)*
                Some(Self { $($field: $field?,)* })
            }

            fn entries(&self, path: &[String], out: &mut Vec<$crate::config::Entry>) {
                $(self.$field.entries(&$crate::config::setting::child(path, stringify!($field)), out);)*
            }

            fn files(&self, out: &mut Vec<std::path::PathBuf>) {
                $(self.$field.files(out);)*
            }

            fn over(&self, beneath: &Self) -> Self {
                Self { $($field: $crate::config::Setting::over(&self.$field, &beneath.$field),)* }
            }

            fn schema() -> serde_json::Value {
                $crate::config::schema::table(&[$((
                    stringify!($field),
                    concat!($($doc, "\n"),*),
                    <$type as $crate::config::Setting>::schema(),
                    <$type as $crate::config::Setting>::absent().is_none(),
                )),*])
            }
        }
    };
}
pub(super) use section;

/// Declares a setting with a few named values.
macro_rules! choice {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_meta])* $variant,)* }

        impl $name {
            /// The value as the configuration writes it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Reads the value as the configuration writes it.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl $crate::config::Setting for $name {
            fn read(
                value: &figment::value::Value,
                reader: &mut $crate::config::Reader,
            ) -> Option<Self> {
                let expected = ["one of", $(concat!(" \"", $text, "\"")),*].concat();
                $crate::config::scalar::scalar(value, reader, &expected, Self::parse)
            }

            fn entries(&self, path: &[String], out: &mut Vec<$crate::config::Entry>) {
                self.as_str().to_owned().entries(path, out);
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "type": "string", "enum": [$($text),*] })
            }
        }
    };
}
pub(super) use choice;
