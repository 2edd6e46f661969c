//! Where in which file each key stands.
//!
//! The layers keep values, not places, so a file is read a second time for
//! them, by the same parser. Only [`Places::of`] is asked afterwards.

use std::collections::BTreeMap;

use toml_edit::{ImDocument, Item, TableLike, Value};

/// The places of the keys of all files.
#[derive(Clone, Default)]
pub(super) struct Places {
    /// By the name of the layer and the parts of the key; lists count from 0.
    files: BTreeMap<String, Keys>,
}

/// Line and column of each key, both from 1.
type Keys = BTreeMap<Vec<String>, (usize, usize)>;

impl Places {
    /// Adds a file that the layers could read; of another nothing is known.
    pub(super) fn add(&mut self, name: &str, content: &str) {
        let Ok(document) = ImDocument::parse(content) else {
            return;
        };
        let mut search = Search {
            lines: Lines::of(content),
            path: Vec::new(),
            keys: Keys::new(),
        };
        search.table(document.as_table());
        self.files.insert(name.to_owned(), search.keys);
    }

    /// Makes the place of one key that of another too.
    pub(super) fn alias(&mut self, layer: &str, key: &[String], same: &[String]) {
        if let Some(keys) = self.files.get_mut(layer)
            && let Some(place) = keys.get(same).copied()
        {
            keys.insert(key.to_vec(), place);
        }
    }

    /// The layer's name with the place of the key, or of the nearest table
    /// around it that the file writes: `gateway.toml:3:1`. Other layers than
    /// files have a name only.
    pub(super) fn of(&self, layer: &str, path: &[String]) -> String {
        let found = self
            .files
            .get(layer)
            .and_then(|keys| (1..=path.len()).rev().find_map(|length| keys.get(path.get(..length)?)));
        match found {
            Some((line, column)) => format!("{layer}:{line}:{column}"),
            None => layer.to_owned(),
        }
    }
}

struct Search<'c> {
    lines: Lines<'c>,
    path: Vec<String>,
    keys: Keys,
}

impl Search<'_> {
    fn table(&mut self, table: &dyn TableLike) {
        for (name, item) in table.iter() {
            let key = table.get_key_value(name).and_then(|(key, _)| key.span());
            self.path.push(name.to_owned());
            self.found(key.or_else(|| item.span()));
            match item {
                Item::Value(value) => self.value(value),
                Item::Table(inner) => self.table(inner),
                Item::ArrayOfTables(list) => {
                    for (index, inner) in list.iter().enumerate() {
                        self.path.push(index.to_string());
                        self.found(inner.span());
                        self.table(inner);
                        self.path.pop();
                    }
                }
                Item::None => {}
            }
            self.path.pop();
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::InlineTable(inner) => self.table(inner),
            Value::Array(list) => {
                for (index, inner) in list.iter().enumerate() {
                    self.path.push(index.to_string());
                    self.found(inner.span());
                    self.value(inner);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    fn found(&mut self, span: Option<std::ops::Range<usize>>) {
        if let Some(span) = span {
            self.keys.insert(self.path.clone(), self.lines.position(span.start));
        }
    }
}

/// The beginnings of lines, so that a long file is not counted once a key.
struct Lines<'c> {
    content: &'c str,
    starts: Vec<usize>,
}

impl<'c> Lines<'c> {
    fn of(content: &'c str) -> Self {
        let ends = content.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            content,
            starts: std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect(),
        }
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.content.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

/// Line and column of a byte, both from 1.
pub(super) fn position(content: &str, offset: usize) -> (usize, usize) {
    Lines::of(content).position(offset.min(content.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_from_one() {
        assert_eq!(position("ab\ncd", 0), (1, 1));
        assert_eq!(position("ab\ncd", 4), (2, 2));
        assert_eq!(position("ab\n", 3), (2, 1));
        assert_eq!(position("äb", 2), (1, 2), "columns are characters");
        assert_eq!(position("", 9), (1, 1));
    }

    #[test]
    fn every_way_to_write_a_key_has_its_place() {
        let mut places = Places::default();
        places.add(
            "f",
            "top = 1\n[a.b]\n  c = 2\nd.e = { g = [1,\n  { h = 1 }] }\n[[list]]\nx = 1\n[[list]]\ny = 2\n[\"q.r\"]\nz = 1\n",
        );
        for (path, place) in [
            ("top", "f:1:1"),
            ("a b", "f:2:4"),
            ("a b c", "f:3:3"),
            ("a b d e", "f:4:3"),
            ("a b d e g", "f:4:9"),
            ("a b d e g 0", "f:4:14"),
            ("a b d e g 1 h", "f:5:5"),
            ("list 0 x", "f:7:1"),
            ("list 1 y", "f:9:1"),
            ("q.r z", "f:11:1"),
            ("a b missing", "f:2:4"),
            ("elsewhere", "f"),
        ] {
            let parts: Vec<String> = path.split(' ').map(str::to_owned).collect();
            assert_eq!(places.of("f", &parts), place, "{path}");
        }
        assert_eq!(places.of("command line", &["top".to_owned()]), "command line");
        places.add("broken", "a = ");
        assert_eq!(places.of("broken", &["a".to_owned()]), "broken");
    }
}
