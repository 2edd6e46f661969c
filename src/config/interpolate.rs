//! `${NAME}` and `${NAME:-default}` in the text values of a file.
//!
//! Done after the file was parsed, so that a variable can never become a key
//! or a second value; never in keys, and not in the other layers. A variable
//! that is missing is a mistake. What a variable gave is treated as a secret:
//! see [`Secrets`].

use std::collections::{BTreeMap, BTreeSet};

use figment::value::{Dict, Value};

use super::entry::MASK;

/// Values shorter than this are not looked for in messages: they would be
/// found everywhere, and the values themselves are masked anyway.
const SHORTEST_SECRET: usize = 4;

/// What came from variables, or from the files of [`super::secret`].
#[derive(Clone, Default)]
pub(super) struct Secrets {
    /// By the name of the layer, the keys whose value came from there, or a part of it.
    keys: BTreeMap<String, BTreeSet<Vec<String>>>,
    /// What the variables and files say.
    values: BTreeSet<String>,
}

impl Secrets {
    /// Notes that a layer's value of a key is one, and what must be shown nowhere.
    pub(super) fn add(&mut self, layer: &str, key: Vec<String>, values: impl IntoIterator<Item = String>) {
        self.keys.entry(layer.to_owned()).or_default().insert(key);
        self.values.extend(values);
    }

    /// Whether a layer's value of this key, or an item of it, is one.
    pub(super) fn has(&self, layer: &str, path: &[String]) -> bool {
        let below = |keys: &BTreeSet<Vec<String>>| keys.iter().any(|key| key.starts_with(path));
        self.keys.get(layer).is_some_and(below)
    }

    /// The text without any of it; the longer first, of which others may be parts.
    pub(super) fn mask(&self, text: String) -> String {
        let mut found: Vec<_> = self
            .values
            .iter()
            .filter(|secret| secret.len() >= SHORTEST_SECRET && text.contains(secret.as_str()))
            .collect();
        found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        found
            .into_iter()
            .fold(text, |text, secret| text.replace(secret.as_str(), MASK))
    }
}

/// A mistake, with the parts of its key.
pub(super) type Mistake = (Vec<String>, String);

/// Puts variables into all text values of a layer.
pub(super) fn apply(
    layer: &str,
    dict: &mut Dict,
    environment: &BTreeMap<String, String>,
    secrets: &mut Secrets,
) -> Vec<Mistake> {
    let mut run = Run {
        layer,
        environment,
        secrets,
        path: Vec::new(),
        mistakes: Vec::new(),
    };
    for (key, value) in dict {
        run.child(key.clone(), value);
    }
    run.mistakes
}

struct Run<'r> {
    layer: &'r str,
    environment: &'r BTreeMap<String, String>,
    secrets: &'r mut Secrets,
    path: Vec<String>,
    mistakes: Vec<Mistake>,
}

impl Run<'_> {
    fn child(&mut self, key: String, value: &mut Value) {
        self.path.push(key);
        match value {
            Value::Dict(_, dict) => {
                for (key, value) in dict {
                    self.child(key.clone(), value);
                }
            }
            Value::Array(_, list) => {
                for (index, value) in list.iter_mut().enumerate() {
                    self.child(index.to_string(), value);
                }
            }
            Value::String(_, text) if text.contains("${") => self.text(text),
            _ => {}
        }
        self.path.pop();
    }

    fn text(&mut self, text: &mut String) {
        match expand(text, self.environment) {
            Ok(expanded) => {
                *text = expanded.text;
                if expanded.variable {
                    self.secrets.add(self.layer, self.path.clone(), expanded.values);
                }
            }
            Err(message) => self.mistakes.push((self.path.clone(), message)),
        }
    }
}

/// A text with its variables put in.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expanded {
    text: String,
    /// Whether there was a variable in it, be it only its default.
    variable: bool,
    /// What the variables said.
    values: Vec<String>,
}

/// The names of the variables in a text, right or wrong.
pub(super) fn names(text: &str) -> BTreeSet<&str> {
    text.split("${")
        .skip(1)
        .map(|rest| &rest[..name_length(rest)])
        .filter(|name| !name.is_empty())
        .collect()
}

fn name_length(text: &str) -> usize {
    text.bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        .count()
}

fn expand(text: &str, environment: &BTreeMap<String, String>) -> Result<Expanded, String> {
    let mut expanded = Expanded::default();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            expanded.text.push_str(before);
            expanded.text.push_str("${");
            rest = &from[2..];
            continue;
        }
        expanded.text.push_str(before);
        let inner = &from[2..];
        let end = inner
            .find('}')
            .ok_or("has \"${\" without \"}\"; write $${ for the characters themselves")?;
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        if name.is_empty() || name_length(name) != name.len() || name.starts_with(|first: char| first.is_ascii_digit())
        {
            return Err(
                "has \"${\" before something that is no variable's name; write ${NAME} or ${NAME:-default}, \
                 and $${ for the characters themselves"
                    .to_owned(),
            );
        }
        expanded.variable = true;
        rest = &inner[end + 1..];
        let set = environment.get(name);
        match (set, default) {
            (Some(value), default) if !value.is_empty() || default.is_none() => {
                if value.contains(char::is_control) {
                    return Err(format!(
                        "variable {name} has a line break or another control character in it, which no value may get from a variable"
                    ));
                }
                expanded.text.push_str(value);
                expanded.values.push(value.clone());
            }
            (_, Some(default)) => expanded.text.push_str(default),
            (_, None) => {
                return Err(format!(
                    "variable {name} is not set; set it, or write ${{{name}:-default}}"
                ));
            }
        }
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> BTreeMap<String, String> {
        [
            ("HOST", "example"),
            ("EMPTY", ""),
            ("LINES", "a\nb"),
            ("NESTED", "${HOST}"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    #[test]
    fn variables_are_put_in() {
        for (text, expected, variable) in [
            ("http://${HOST}:80/", "http://example:80/", true),
            ("${HOST}${HOST}", "exampleexample", true),
            ("${NONE:-no ${ne}", "no ${ne", true),
            ("${EMPTY}", "", true),
            ("${EMPTY:-x}", "x", true),
            ("${NONE:-}", "", true),
            ("$HOST $", "$HOST $", false),
            ("a $${HOST} b", "a ${HOST} b", false),
            // What a variable says is not looked at again.
            ("${NESTED}", "${HOST}", true),
        ] {
            let expanded = expand(text, &environment()).expect(text);
            assert_eq!(
                (expanded.text.as_str(), expanded.variable),
                (expected, variable),
                "{text}"
            );
        }
    }

    #[test]
    fn mistakes_name_the_variable_and_never_its_value() {
        for (text, part) in [
            ("${NONE}", "variable NONE is not set"),
            ("${HOST", "without \"}\""),
            ("${}", "no variable's name"),
            ("${A B}", "no variable's name"),
            ("${1}", "no variable's name"),
            ("${LINES}", "variable LINES has a line break"),
        ] {
            let message = expand(text, &environment()).expect_err(text);
            assert!(message.contains(part) && !message.contains('\n'), "{text}: {message}");
        }
    }

    #[test]
    fn names_are_found_in_raw_text() {
        assert_eq!(names("a ${B} ${C:-d} $E ${"), BTreeSet::from(["B", "C"]));
    }
}
