//! A value that passed every check and cannot be used all the same: an address
//! that is taken, a file that is not there.
//!
//! Found by whoever builds something from the configuration, who knows the key
//! and not where it stands; [`Unusable::at`] adds that.

use std::fmt;

use super::{ConfigError, Origins, entry::one_line};

/// Why something could not be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// The key it is about, and those that may be set in its place: the place
    /// that is told is that of the first that somebody set.
    keys: &'static [&'static str],
    message: String,
}

impl Unusable {
    /// The value of the first key cannot be used, or what the others make of it.
    pub fn new(keys: &'static [&'static str], message: impl Into<String>) -> Self {
        Self {
            keys,
            message: message.into(),
        }
    }

    /// With the place of its key, and without secrets.
    pub fn at(self, origins: &Origins) -> ConfigError {
        let parts = |key: &&str| key.split('.').map(str::to_owned).collect();
        let keys: Vec<Vec<String>> = self.keys.iter().map(parts).collect();
        ConfigError {
            origin: origins.to_blame(&keys),
            key: self.keys.first().copied().unwrap_or_default().to_owned(),
            message: origins.masked(one_line(&self.message)),
        }
    }
}

/// Without a place, for those who have no configuration file at hand.
impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}",
            self.keys.first().copied().unwrap_or_default(),
            self.message
        )
    }
}
