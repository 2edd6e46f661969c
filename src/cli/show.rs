//! The effective configuration, for reading: each key, its value, its source.

use std::fmt;

use crate::config::{Explained, Loaded, explain_all};

/// Writes a configuration as lines `key = value  # source`. Keys without a
/// value that follow from others show what they come to; the rest of those
/// are shown as comments.
pub(super) struct Effective<'l>(pub &'l Loaded);

impl fmt::Display for Effective<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loaded { config, origins, .. } = self.0;
        let lines = explain_all(config, origins, &[]);
        let mut lines = lines.iter().map(|line| match (&line.value, &line.source) {
            (Some(value), Some(source)) => format!("{} = {value}  # {source}", line.key),
            _ => match &line.base {
                Some(base) => format!("# {} = {} of functions.\"*\"  # {}", line.key, base.value, base.source),
                None => format!("# {} is not set", line.key),
            },
        });
        if let Some(first) = lines.next() {
            f.write_str(&first)?;
        }
        lines.try_for_each(|line| write!(f, "\n{line}"))
    }
}

/// Writes everything about one key, one fact a line.
pub(super) struct Explanation(pub Explained);

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = &self.0;
        match (&line.value, &line.source) {
            (Some(value), Some(source)) => write!(f, "{} = {value}\nsource: {source}", line.key)?,
            _ => write!(f, "{} is not set", line.key)?,
        }
        if let Some(base) = &line.base {
            write!(f, "\nbase: {} of functions.\"*\" from {}", base.value, base.source)?;
        }
        write!(f, "\ndefault: {}", line.default.as_deref().unwrap_or("none"))?;
        let effect = if line.live {
            "live: a change takes effect at once"
        } else {
            "restart: a change takes effect at the next start"
        };
        write!(f, "\n{effect}")?;
        // The last one counts.
        for layer in line.layers.iter().rev().skip(1) {
            write!(f, "\nshadowed: {} from {}", layer.value, layer.source)?;
        }
        Ok(())
    }
}
