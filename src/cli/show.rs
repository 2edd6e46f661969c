//! The effective configuration, for reading: each key, its value, its source.

use std::fmt;

use crate::config::Loaded;

/// Writes a configuration as lines `key = value  # source`. Keys without a
/// value that follow from others show what they come to; the rest of those
/// are shown as comments.
pub(super) struct Effective<'l>(pub &'l Loaded);

impl fmt::Display for Effective<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loaded { config, origins, .. } = self.0;
        let entries = config.entries();
        let mut lines = entries.iter().map(|entry| {
            let key = entry.key();
            match (entry.shown(origins), config.derived(&key)) {
                (Some(value), _) => {
                    let source = origins.of(&entry.path).unwrap_or_else(|| DERIVED.to_owned());
                    format!("{key} = {value}  # {source}")
                }
                (None, Some(value)) => format!("{key} = {value}  # {DERIVED}"),
                (None, None) => format!("# {key} is not set"),
            }
        });
        if let Some(first) = lines.next() {
            f.write_str(&first)?;
        }
        lines.try_for_each(|line| write!(f, "\n{line}"))
    }
}

/// Source of a value that follows from others.
const DERIVED: &str = "derived";
