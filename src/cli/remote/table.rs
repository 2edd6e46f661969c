//! Answers as people read them: columns, or fields one a line. Pure.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use crate::model::{Timestamp, ToWire, to_pretty_json};

/// An answer that can be shown.
pub(super) trait Shown {
    /// For people.
    fn table(&self) -> String;
    /// As the API says it.
    fn json(&self) -> String;
}

/// A list, with a row for each.
pub(super) struct Rows<T> {
    pub(super) all: Vec<T>,
    pub(super) head: &'static [&'static str],
    pub(super) row: fn(&T) -> Vec<String>,
}

impl<T> Shown for Rows<T>
where
    Vec<T>: ToWire,
{
    fn table(&self) -> String {
        columns(self.head, self.all.iter().map(self.row))
    }

    fn json(&self) -> String {
        to_pretty_json(&self.all)
    }
}

/// One thing, with a line for each of its fields.
pub(super) struct One<T> {
    pub(super) value: T,
    pub(super) fields: fn(&T) -> Vec<(&'static str, String)>,
}

impl<T: ToWire> Shown for One<T> {
    fn table(&self) -> String {
        let mut fields = (self.fields)(&self.value);
        fields.retain(|(_, value)| !value.is_empty());
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut text = String::new();
        for (name, value) in &fields {
            for (index, line) in value.lines().enumerate() {
                let name = if index == 0 { name } else { "" };
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{name:width$}  {}", plain(line));
            }
        }
        text.trim_end().to_owned()
    }

    fn json(&self) -> String {
        to_pretty_json(&self.value)
    }
}

/// Columns as wide as they must be, the last one as it is.
pub(super) fn columns(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|text| (*text).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head)
        .chain(rows)
        .map(|row| row.iter().map(|text| plain(text)).collect())
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row: &Vec<String>| row.get(column));
        cells.map(|text| text.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Text that a terminal only shows: a function may have any annotation.
fn plain(text: &str) -> String {
    let shown = |character: char| {
        if character.is_control() {
            character.escape_default().to_string()
        } else {
            character.to_string()
        }
    };
    text.chars().map(shown).collect()
}

/// A moment, to the second.
pub(super) fn time(time: Timestamp) -> String {
    let Timestamp(time): Timestamp = time;
    // Go's zero time, which stands for none.
    if time <= DateTime::<Utc>::UNIX_EPOCH {
        return String::new();
    }
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["a", "1"], ["longer", ""], ["\u{1b}[2J", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            columns(&["NAME", "N"], rows.into_iter()),
            "NAME       N\na          1\nlonger\n\\u{1b}[2J  x"
        );
    }

    #[test]
    fn fields_without_a_value_are_left_out() {
        let one = One {
            value: "x".to_owned(),
            fields: |value| {
                vec![
                    ("Name", value.clone()),
                    ("None", String::new()),
                    ("Lines", "a\nb".to_owned()),
                ]
            },
        };
        assert_eq!(one.table(), "Name   x\nLines  a\n       b");
        assert_eq!(one.json(), "\"x\"");
    }
}
